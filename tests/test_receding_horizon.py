"""Receding-horizon execution: each row its own history, plan and random numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.acting import receding_horizon
from nfrl.acting.receding_horizon import ChunkPolicy
from nfrl.agents import NFRLBCConfig
from nfrl.agents.wrappers.chunked import Chunk
from nfrl.environments.worker import STEP
from nfrl.errors import UserError
from nfrl.evaluation import rollout
from nfrl.interfaces.agent import Capabilities
from nfrl.spec import Spec
from nfrl.task import Task


class Scribe(eqx.Module):
    """An agent whose chunk says what it saw: oldest and latest observation, noise, and place."""

    policy: jax.Array
    optimizer_state: None = None

    capabilities = Capabilities(likelihood=True, history=3, predicted=5, executed=2)

    def act(self, history, goal, key):
        assert history.shape[0] == 3
        seen = jnp.stack((history[0, 0], history[1, 0], history[-1, 0], jr.normal(key)))
        place = jnp.arange(self.capabilities.predicted, dtype=jnp.float32)
        return jnp.concatenate((jnp.tile(seen, (len(place), 1)), place[:, None]), axis=1)

    def log_prob(self, history, goal, chunk):
        return 5 * history[-1, 0]


AGENT = Scribe(jnp.zeros(1))


def play(policy, observations, episodes, times):
    """Call a policy step by step: arguments of shape (steps, rows, ...); actions the same."""
    nothing = np.empty((observations.shape[1], 0), np.float32)
    rows = zip(observations, episodes, times, strict=True)
    return np.stack([policy(o, nothing, e, t) for o, e, t in rows])


def one_row(steps, episode=0, first=0.0):
    observations = first + np.arange(steps, dtype=np.float32)[:, None, None]
    return observations, np.full((steps, 1), episode), np.arange(steps)[:, None]


def test_it_looks_back_plans_and_executes():
    actions = play(ChunkPolicy(AGENT), *one_row(7, first=10.0))[:, 0]
    oldest, middle, latest, noise, place = actions.T
    np.testing.assert_array_equal(latest, [10, 10, 12, 12, 14, 14, 16])  # planned every 2 steps
    np.testing.assert_array_equal(place, [0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(oldest, [10, 10, 10, 10, 12, 12, 14])  # the first is repeated
    np.testing.assert_array_equal(middle, [10, 10, 11, 11, 13, 13, 15])
    np.testing.assert_array_equal(noise[::2][:3], noise[1::2])
    assert len(set(noise.tolist())) == 4


def test_a_new_episode_forgets_the_one_before():
    policy = ChunkPolicy(AGENT)
    play(policy, *one_row(5, first=100.0))
    found = play(policy, *one_row(5, episode=3))
    np.testing.assert_array_equal(found, play(ChunkPolicy(AGENT), *one_row(5, episode=3)))


def test_a_row_does_not_depend_on_the_others():
    """Rows out of step, that begin anew at different times, among others."""
    rng = np.random.default_rng(0)
    steps, rows = 30, 4
    observations = rng.normal(size=(steps, rows, 2)).astype(np.float32)
    times, episodes = np.zeros((2, steps, rows), np.int64)
    for row in range(rows):
        time, episode = 0, row
        for step in range(steps):
            times[step, row], episodes[step, row] = time, episode
            time += 1
            if rng.uniform() < 0.2:
                time, episode = 0, episode + rows
    together = play(ChunkPolicy(AGENT, seed=1), observations, episodes, times)
    for row in range(rows):
        mine = slice(row, row + 1)
        alone = play(
            ChunkPolicy(AGENT, seed=1), observations[:, mine], episodes[:, mine], times[:, mine]
        )
        np.testing.assert_array_equal(alone, together[:, mine])
    # The others' observations changed, to the bit.
    others = observations + np.array([0, 1, 1, 1], np.float32)[:, None]
    found = play(ChunkPolicy(AGENT, seed=1), others, episodes, times)
    np.testing.assert_array_equal(found[:, 0], together[:, 0])


def test_seed_episode_and_time_are_the_random_numbers():
    def noise(seed, episode):
        return play(ChunkPolicy(AGENT, seed), *one_row(5, episode))[::2, 0, 3].tolist()

    assert noise(0, 0) == noise(0, 0)
    assert len({*noise(0, 0), *noise(1, 0), *noise(0, 1)}) == 9


def test_confidence_is_the_chunks_log_likelihood_per_action():
    policy = ChunkPolicy(AGENT, confidence=True)
    observations, episodes, times = one_row(4, first=7.0)
    found = []
    for arguments in zip(observations, episodes, times, strict=True):
        policy(arguments[0], np.empty((1, 0)), *arguments[1:])
        found.append(float(policy.confidence[0]))
    assert found == [7, 7, 9, 9]
    assert ChunkPolicy(AGENT).confidence is None


def test_the_number_of_rows_may_not_change_on_the_way():
    policy = ChunkPolicy(AGENT)
    policy(np.zeros((2, 1)), np.zeros((2, 0)), np.zeros(2, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="2 rows"):
        policy(np.zeros((3, 1)), np.zeros((3, 0)), np.zeros(3, int), np.ones(3, int))


class Corridors:
    """What ``rollout.play`` needs of a pool; slots count steps, and episode e ends at ends[e]."""

    def __init__(self, ends):
        self.ends, slots = np.array(ends), len(ends)
        self.commands, self.task_ids, self.episodes = np.zeros((3, slots), np.int64)
        self.observations = np.zeros((slots, 1), np.float32)
        self.goals, self.actions = np.empty((slots, 0), np.float32), np.zeros((slots, 5))
        self.done, self.success = np.zeros((2, slots), bool)
        self.rewards, self.low, self.high = np.zeros(slots), -np.inf, np.inf
        self.scores = np.full(slots, np.nan)
        self.taken = [[] for _ in range(slots)]

    def round(self):
        stepping = self.commands == STEP
        self.observations[stepping] += 1
        self.done[:] = stepping & (self.observations[:, 0] == self.ends[self.episodes])
        for slot in np.flatnonzero(stepping):
            self.taken[slot].append(self.actions[slot].copy())


def test_rows_without_an_episode_make_none_plan(monkeypatch):
    """Once an episode has ended, at a time that is due (4) or not (3), the others plan as ever."""
    compiled, plans = receding_horizon._compiled, []

    def counted(*arguments):
        plan = compiled(*arguments)

        def call(histories, goals, episodes, times):
            plans.append(times.max())
            return plan(histories, goals, episodes, times)

        return call

    monkeypatch.setattr(receding_horizon, "_compiled", counted)
    task = Task("corridors", "imitation", None, 0.99, 20, goals=1)

    def taken(*ends):
        pool, schedule = Corridors(ends), [rollout.Episode(1, i) for i in range(len(ends))]
        list(rollout.play(pool, task, ChunkPolicy(AGENT), schedule))
        return pool.taken

    together = taken(3, 9, 4)
    assert [len(actions) for actions in together] == [3, 9, 4]
    assert plans == [0, 2, 4, 6, 8]
    # Those that go on do as they do where none ends early.
    np.testing.assert_array_equal(together[1], taken(9, 9, 9)[1])


@pytest.mark.parametrize(
    ("executed", "expected"),
    [
        (None, [[0, 10], [0, -10], [2, 12], [-2, -12]]),
        (1, [[0, 10], [1, 11], [2, 12], [3, 13]]),
    ],
)
def test_an_agent_of_single_actions_plans_chunks_for_its_goal(executed, expected):
    """Its one action is laid out as a chunk's, of what it sees and goes for when it plans; the
    chunk, or its beginning, is executed before it plans anew."""

    class Single(eqx.Module):
        policy: jax.Array
        optimizer_state: None = None

        capabilities = Capabilities(goals=True)

        def act(self, observation, goal, key):
            return jnp.concatenate((observation, goal, -observation, -goal))

    class Config:
        capabilities = Single.capabilities

        def build(self, key, spec, steps, data=None):
            assert spec.action_dim == 4, "two actions of two numbers are one"
            return Single(jnp.zeros(1))

    agent = Chunk(Config(), 2, executed).build(jr.key(0), Spec.vectors(1, 2), 0)
    policy = ChunkPolicy(agent)
    found = [
        policy(np.full((1, 1), step), np.full((1, 1), 10.0 + step), np.zeros(1), np.full(1, step))
        for step in range(4)
    ]
    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("executed", [0, 6])
def test_what_is_executed_is_part_of_a_chunk(executed):
    with pytest.raises(UserError, match="from 1 to the chunk's 5"):
        NFRLBCConfig(chunk=5, executed=executed)
