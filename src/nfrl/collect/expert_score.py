"""How well an expert does what it is told, without noise."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.locomotion import Body, Locomotion

Policy = Callable[[NDArray], NDArray]


@dataclasses.dataclass(frozen=True)
class Path:
    """What came of one direction.

    Attributes:
        direction: The unit vector (2,) that was commanded throughout.
        xy: (steps + 1, 2) where the body was, from where it started; after a fall it starts again
            where it fell.
        falls: How often the environment called it fallen, and it began anew.
        overturned: The share of steps that it spent upside down, which is no fall by itself.
    """

    direction: NDArray
    xy: NDArray
    falls: int
    overturned: float


def walk(
    policy: Policy, body: Body, *, directions: int = 16, steps: int = 1000, seed: int = 0
) -> list[Path]:
    """Command a body to run in evenly spaced directions, one after the other.

    Args:
        policy: From an observation to an action.
        body: What runs.
        directions: How many.
        steps: For each.
        seed: Non-negative.
    """
    environment = Locomotion(body)
    paths = []
    for index in range(directions):
        angle = 2 * np.pi * index / directions
        direction = np.array([np.cos(angle), np.sin(angle)])
        places, falls, overturned, episode, over = [np.zeros(2)], 0, 0, 0, True
        observation: NDArray = np.empty(0)
        before: NDArray = np.empty(0)
        for _ in range(steps):
            if over:
                seeds = np.random.SeedSequence(seed, spawn_key=(index, episode))
                observation = environment.reset(seeds, direction)
                before = environment.xy
                episode += 1
            observation, _, fell, over = environment.step(policy(observation))
            places.append(places[-1] + environment.xy - before)
            before = environment.xy
            falls += fell
            overturned += environment.is_overturned
        paths.append(Path(direction, np.array(places), falls, overturned / steps))
    return paths


def score(policy: Policy, body: Body, *, seed: int = 0, steps: int = 1000) -> dict[str, Any]:
    """Measure an expert.

    Args:
        policy: From an observation to an action.
        body: What it moves.
        seed: Non-negative.
        steps: For each of 16 directions, or for goals, a sixteenth of all.

    Returns:
        For a body that runs: ``speed`` (metres a simulated second along the commanded direction,
        mean of 16), ``speeds`` (of each, from east counterclockwise), ``speed_std`` over them,
        ``falls_per_1000_steps`` and ``overturned`` (the share of steps spent upside down). For
        one that brings a ball to goals: ``success`` (the share of episodes) and ``episodes``.
    """
    if body.command == "goal":
        return _score_goals(policy, body, seed, max(1, 16 * steps // body.episode_steps))
    return describe(walk(policy, body, seed=seed, steps=steps), body)


def describe(paths: list[Path], body: Body) -> dict[str, Any]:
    """Return :func:`score`'s figures of a body that ran."""
    steps = len(paths[0].xy) - 1
    speeds = [path.xy[-1] @ path.direction / (steps * body.seconds) for path in paths]
    falls = sum(path.falls for path in paths)
    return {
        "speed": round(float(np.mean(speeds)), 3),
        "speed_std": round(float(np.std(speeds)), 3),
        "speeds": [round(float(speed), 3) for speed in speeds],
        "falls_per_1000_steps": round(1000 * falls / (steps * len(paths)), 3),
        "overturned": round(float(np.mean([path.overturned for path in paths])), 4),
        "steps_per_direction": steps,
    }


def _score_goals(policy: Policy, body: Body, seed: int, episodes: int) -> dict[str, Any]:
    environment = Locomotion(body)
    successes = 0
    for episode in range(episodes):
        observation = environment.reset(np.random.SeedSequence(seed, spawn_key=(episode,)))
        success = over = False
        while not (success or over):
            observation, _, _, over = environment.step(policy(observation))
            success = environment.success
        successes += success
    return {"success": round(successes / episodes, 3), "episodes": episodes}
