"""Evaluate a policy: every goal of a task, many episodes at a time."""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nfrl.environments.episode_pool import EpisodePool
from nfrl.environments.worker import IDLE, RESET, STEP
from nfrl.evaluation.result import Evaluation
from nfrl.progress import Update
from nfrl.progress import progress as show_progress
from nfrl.task import Task

Policy = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``policy(observations, goals, episodes, times) -> actions`` for a batch of n environments.

observations: (n, obs) float32; goals: (n, goal) float32, of width 0 where a task has only one;
episodes: (n,) int64, a number for each episode of the evaluation; times: (n,) int64, steps taken
in the episode, or -1; actions: (n, act) in the environment's units, clipped to its bounds
afterwards. A row's action should depend on that row only, and on what was shown of its episode
before; a policy that draws random numbers derives them from (episode, time), and an episode is then
the same in any batch. n is the same at each call. A row whose environment takes no step now, as its
episode has just ended or no episode is left for it, holds old values and the time -1, and its
action goes nowhere.
"""


def evaluate(
    task: Task,
    policy: Policy,
    *,
    episodes: int = 50,
    seed: int = 0,
    workers: int | None = None,
    slots: int | None = None,
    goals: Sequence[int] | None = None,
    progress: bool = True,
    record_xy: bool | None = None,
) -> Evaluation:
    """Play ``episodes`` episodes of each goal; count the successes and sum up the rewards.

    An episode ends when the task is done (with ``task.ends_at_success``), when the environment ends
    it, or after ``task.horizon`` steps. Its start depends on (seed, goal, episode) alone and its
    number, as the policy sees it, on (goal, episode): results are the same for any number of
    workers.

    Where an action, an observation or a reward is not finite, that episode ends and counts as
    failed; the others go on, and their number is said on standard error.

    Args:
        task: What to play.
        policy: Called in this process, once a step for all environments.
        episodes: Episodes per goal.
        seed: Of the environments, >= 0. The policy's own is the caller's.
        workers: Processes that step environments; by default one for each CPU core.
        slots: Environments played at once, 50 by default.
        goals: Which goals (``task_id``, from 1); by default all of them.
        progress: Whether to show progress on standard error.
        record_xy: Whether to keep the paths; by default where there is a map. Needs
            ``task.place_columns``.

    Raises:
        ValueError: An argument is out of its range, or the policy's actions have another shape.
        UserError: The task has no environment.
        WorkerError: An environment cannot be made, or failed.
    """
    chosen = tuple(range(1, task.goals + 1)) if goals is None else tuple(goals)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(_all_goals(task)):
        raise ValueError(f"goals must be distinct, from 1 to {task.goals}; got {chosen}")
    if episodes < 1 or seed < 0:
        raise ValueError(f"episodes must be >= 1 and seed >= 0; got {episodes} and {seed}")
    if min(workers or 1, slots or 1) < 1:
        raise ValueError(f"workers and slots must be >= 1; got {workers} and {slots}")
    has_map = bool(task.place_columns)
    record_xy = has_map if record_xy is None else record_xy
    if record_xy and not has_map:
        raise ValueError(f"{task.name} has no map: it has no x and y to record")

    shape = (len(chosen), episodes)
    successes = np.zeros(shape, bool)
    lengths = np.zeros(shape, np.int64)
    returns = np.zeros(shape)
    failed = np.zeros(shape, bool)
    final_scores, max_scores = np.full((2, *shape), np.nan)
    modes = np.full(shape, -1)
    goal_xy = np.zeros((*shape, 2), np.float32)
    paths = _Paths(shape, task.horizon, task.place_columns) if record_xy else None
    row = {task_id: index for index, task_id in enumerate(chosen)}
    schedule = [Episode(task_id, index) for index in range(episodes) for task_id in chosen]

    begin = time.perf_counter()
    slots = min(slots or 50, len(schedule))
    with (
        show_progress(f"evaluating {task.name}", len(schedule), "episodes", show=progress) as told,
        EpisodePool(task, slots, workers or os.cpu_count() or 1, seed=seed) as pool,
    ):
        stepping = time.perf_counter()
        count = Count(told, task.horizon)
        for event in play(pool, task, policy, schedule):
            place = row[event.episode.task_id], event.episode.index
            if paths is not None:
                paths.add(place, event.time, pool.observations[event.slot], event.ended)
            if event.time == 0:
                goal_xy[place] = pool.goal_xy[event.slot]
            successes[place] |= event.success
            returns[place] += event.reward
            max_scores[place] = np.fmax(max_scores[place], event.score)
            if event.ended:
                failed[place] = event.failed
                lengths[place] = event.time
                final_scores[place] = event.score
                modes[place] = pool.modes[event.slot]
            count.add(event)
        end = time.perf_counter()
    # Where all have failed before they were told their scores, these are zeros, not unknown.
    says_score = not np.isnan(max_scores).all() or (task.scored_by == "score" and failed.all())
    successes[failed] = False
    returns[failed] = np.nan
    final_scores[failed] = 0.0
    max_scores[failed] = np.fmax(max_scores[failed], 0.0)
    if failed.any():
        print(
            f"{task.name}: {failed.sum()} of {failed.size} episodes failed: an action, an "
            "observation or a reward was not finite",
            file=sys.stderr,
        )
    evaluation = Evaluation(
        goals=np.array(chosen),
        successes=successes,
        lengths=lengths,
        seconds=end - begin,
        steps_per_second=float(lengths.sum() / (end - stepping)),
        xy=None if paths is None else paths.trimmed(),
        goal_xy=goal_xy.mean(axis=1) if has_map else None,
        final_scores=final_scores if says_score else None,
        max_scores=max_scores if says_score else None,
        modes=None if (modes < 0).all() else modes,
        returns=returns,
        failures=int(failed.sum()),
    )
    return evaluation


@dataclasses.dataclass(frozen=True)
class Episode:
    """An episode to play: the goal (from 1) and its number among that goal's episodes (from 0)."""

    task_id: int
    index: int

    def number(self, task: Task) -> int:
        """Its number among all episodes; the same whichever goals and however many are played."""
        return self.index * task.goals + self.task_id - 1


class Event(NamedTuple):
    """What a round brought for one slot: an episode's first observation or its next.

    Attributes:
        slot: Where it is played.
        episode: Which it is.
        time: Steps taken.
        ended: Whether the episode is over.
        success: Whether the task is done now.
        score: How far it has come; NaN at first, and where the environment does not say.
        reward: Of the step; 0 at first.
        failed: Whether it ended because something was not finite. If that was the action, the
            event repeats the time of the last one.
    """

    slot: int
    episode: Episode
    time: int
    ended: bool
    success: bool
    score: float
    reward: float = 0.0
    failed: bool = False


def play(
    pool: EpisodePool, task: Task, policy: Policy, schedule: Iterable[Episode]
) -> Iterator[Event]:
    """Play the episodes in their order, as slots fall free, all slots in lockstep.

    Yields an event for each slot and step, slots in order, while the pool's arrays hold that round.
    """
    count = len(pool.commands)
    waiting = iter(schedule)
    playing: list[Episode | None] = [None] * count
    numbers = np.zeros(count, np.int64)
    times = np.zeros(count, np.int64)

    def deal(slot: int) -> None:
        """Give the slot the next episode, or none."""
        episode = playing[slot] = next(waiting, None)
        pool.commands[slot] = IDLE if episode is None else RESET
        if episode is not None:
            pool.task_ids[slot], pool.episodes[slot] = episode.task_id, episode.index

    for slot in range(count):
        deal(slot)
    while (pool.commands != IDLE).any():
        pool.round()
        times = np.where(pool.commands == STEP, times + 1, 0)
        finite = np.isfinite(pool.observations).all(axis=1) & np.isfinite(pool.rewards)
        success = pool.success & (pool.commands == STEP) & finite
        ended = pool.done | (times >= task.horizon) | ~finite
        if task.ends_at_success:
            ended |= success
        for slot, episode in enumerate(playing):
            if episode is None:
                continue
            yield Event(
                slot=slot,
                episode=episode,
                time=int(times[slot]),
                ended=bool(ended[slot]),
                success=bool(success[slot]),
                score=float(pool.scores[slot]),
                reward=float(pool.rewards[slot]),
                failed=not finite[slot],
            )
            if ended[slot]:
                deal(slot)
            else:
                pool.commands[slot] = STEP
                numbers[slot] = episode.number(task)
        pool.observations[~finite] = 0.0  # nobody acts on these, but they are shown
        stepping = pool.commands == STEP
        if not stepping.any():
            continue
        actions = np.asarray(
            policy(
                pool.observations.copy(),
                pool.goals.copy(),
                numbers.copy(),
                np.where(stepping, times, -1),
            )
        )
        if actions.shape != pool.actions.shape:
            raise ValueError(
                f"the policy's actions have shape {actions.shape}, not {pool.actions.shape}"
            )
        for slot in np.flatnonzero(stepping & ~np.isfinite(actions).all(axis=1)).tolist():
            episode = playing[slot]
            assert episode is not None
            score = float(pool.scores[slot])
            yield Event(slot, episode, int(times[slot]), True, False, score, failed=True)
            deal(slot)
        np.clip(actions, pool.low, pool.high, out=pool.actions)


class Count:
    """Tells a progress display how far the episodes have come."""

    def __init__(self, told: Update, horizon: int):
        self._told, self._horizon = told, horizon
        self._begin = time.perf_counter()
        self._steps = self._ended = self._ended_steps = self._successes = 0

    def add(self, event: "Event") -> None:
        """Count one event of ``play``."""
        self._steps += event.time > 0 and not event.failed
        if event.ended:
            self._ended += 1
            self._ended_steps += event.time
            self._successes += event.success
        if event.ended or event.slot == 0:
            # Episodes under way count for the share of the horizon that they have played.
            done = self._ended + (self._steps - self._ended_steps) / self._horizon
            rate = self._steps / (time.perf_counter() - self._begin)
            success = f"success {self._successes / self._ended:.2f}, " if self._ended else ""
            self._told(done, f"{success}{rate:.0f} steps/s")


class _Paths:
    """Where it went: at most about ``points`` places an episode, the last one included."""

    def __init__(
        self, shape: tuple[int, int], horizon: int, columns: Sequence[int], points: int = 200
    ):
        self._columns = list(columns)
        self._every = -(-horizon // points)
        self._xy = np.full((*shape, -(-horizon // self._every) + 1, 2), np.nan, np.float32)

    def add(self, place: tuple[int, int], time: int, observation: np.ndarray, ended: bool) -> None:
        if ended or time % self._every == 0:
            self._xy[(*place, -(-time // self._every))] = observation[self._columns]

    def trimmed(self) -> np.ndarray:
        used = np.isfinite(self._xy).any(axis=(0, 1, 3)).sum()
        return self._xy[:, :, :used]


def _all_goals(task: Task) -> range:
    return range(1, task.goals + 1)
