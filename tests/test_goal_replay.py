"""The replay buffer against lists of rows in NumPy.

Every observation holds its environment and its time, so that a batch says what it was made of.
"""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfrl.data import goal_replay as replay
from nfrl.data.goal_replay import GoalReplay

ENVIRONMENTS, CAPACITY, STEPS = 3, 16, 5
COUNT = 20_000

insert = jax.jit(replay.insert)
sample = jax.jit(replay.sample, static_argnums=2)
count = jax.jit(replay.transitions)


@dataclasses.dataclass
class Oracle:
    """Each environment's whole past as a list of episodes' numbers, and what of it is kept."""

    episodes: list[list[int]]

    def rows(self, environment: int) -> range:
        length = len(self.episodes[environment])
        return range(max(length - CAPACITY, 0), length)

    def later(self, environment: int, row: int) -> list[int]:
        """Return the later rows of a row's episode."""
        own = self.episodes[environment]
        return [n for n in self.rows(environment) if n > row and own[n] == own[row]]

    def transitions(self) -> list[tuple[int, int]]:
        return [(e, n) for e in range(len(self.episodes)) for n in self.rows(e) if self.later(e, n)]


def fill(begins: np.ndarray) -> tuple[GoalReplay, Oracle]:
    """Insert rows in pieces of STEPS, where ``begins`` (environments, time) begin episodes."""
    buffer = GoalReplay.empty(ENVIRONMENTS, CAPACITY, 2, 1)
    times = np.arange(begins.shape[1])
    for piece in np.split(times, range(STEPS, len(times), STEPS)):
        where = np.stack(np.meshgrid(range(ENVIRONMENTS), piece, indexing="ij"), -1)
        actions = -where[..., 1:].astype(np.float32)
        buffer = insert(buffer, where.astype(np.float32), actions, begins[:, piece])
    first = begins.copy()
    first[:, :1] = True
    return buffer, Oracle(np.cumsum(first, axis=1).tolist())


def read(batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return environments, rows and goals' rows, having checked that they belong together."""
    environments, rows = np.asarray(batch.observations).astype(int).T
    np.testing.assert_array_equal(batch.actions[:, 0], -rows)
    np.testing.assert_array_equal(batch.goals[:, 0], environments)
    return environments, rows, np.asarray(batch.goals[:, 1]).astype(int)


begun = st.tuples(st.sampled_from([5, 15, 20, 35]), st.floats(0, 1), st.integers(0, 1000)).map(
    lambda args: np.random.default_rng(args[2]).random((ENVIRONMENTS, args[0])) < args[1]
)


@given(begun, st.integers(0, 1000), st.sampled_from([0.0, 0.5, 0.9, 0.999]))
@settings(max_examples=40, deadline=None)
def test_goals_are_later_rows_of_the_same_episode_that_are_still_there(begins, seed, discount):
    buffer, oracle = fill(begins)
    possible = oracle.transitions()
    expected = [sum(e == environment for e, _ in possible) for environment in range(ENVIRONMENTS)]
    assert count(buffer).tolist() == expected
    if possible:
        for e, n, g in zip(*read(sample(buffer, jr.key(seed), 64, discount)), strict=True):
            assert g in oracle.later(e, n)


@pytest.mark.parametrize("discount", [0.0, 0.6, 0.99])
def test_frequencies(discount):
    """Transitions are uniform, and p(t + k | t) is gamma^k over the sum of the possible ones."""
    begins = np.zeros((ENVIRONMENTS, 30), bool)
    begins[0, [4, 17, 18, 26]] = begins[1, [3, 15, 29]] = True
    buffer, oracle = fill(begins)
    possible = oracle.transitions()
    expected = np.zeros((ENVIRONMENTS, 30, 30))
    for e, n in possible:
        weights = [max(discount, 1e-12) ** (g - n) for g in oracle.later(e, n)]
        expected[e, n, oracle.later(e, n)] = np.array(weights) / sum(weights) / len(possible)
    found = np.zeros_like(expected)
    np.add.at(found, read(sample(buffer, jr.key(0), COUNT, discount)), 1)
    for axes in ((), (1,), (2,)):
        check(found.sum(axes), expected.sum(axes) * COUNT)


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare counts with their expectation by chi-squared, four standard deviations wide."""
    often = expected > 5
    assert often.sum() > 1
    statistic = np.square(found - expected)[often] / expected[often]
    assert statistic.sum() < often.sum() + 4 * np.sqrt(2 * often.sum())
    assert (found[expected < 1e-6] == 0).all()


def test_observations_are_drawn_from_the_rows_that_are_there():
    buffer, oracle = fill(np.zeros((ENVIRONMENTS, 30), bool))
    drawn = replay.sample_observations(buffer, jr.key(0), (COUNT // 4, 4))
    assert drawn.shape == (COUNT // 4, 4, 2)
    found = np.zeros((ENVIRONMENTS, 30))
    np.add.at(found, tuple(np.asarray(drawn).reshape(-1, 2).astype(int).T), 1)
    expected = np.zeros_like(found)
    expected[:, oracle.rows(0)] = COUNT / CAPACITY / ENVIRONMENTS
    check(found, expected)


def test_the_longest_horizon_does_not_leave_the_episode():
    """Rounding in the inverted sum must not reach past the last row."""
    buffer, _ = fill(np.zeros((ENVIRONMENTS, 15), bool))
    for discount in (1 - 1e-7, 1e-38):
        environments, rows, goals = read(sample(buffer, jr.key(3), COUNT, discount))
        assert ((rows < goals) & (goals < 15)).all()
        assert set(environments) == {0, 1, 2}
    assert (goals == rows + 1).all(), "a discount near zero looks one step ahead"


def test_memory_is_what_the_arrays_take():
    buffer = GoalReplay.empty(ENVIRONMENTS, CAPACITY, 4, 2)
    arrays = (buffer.observations, buffer.actions, buffer.episodes)
    taken = sum(array.nbytes for array in arrays)
    assert replay.memory_bytes(ENVIRONMENTS, CAPACITY, 4, 2) == taken


def test_more_rows_than_the_ring_holds_are_refused():
    buffer = GoalReplay.empty(1, 4, 1, 1)
    with pytest.raises(ValueError, match="5 rows"):
        replay.insert(buffer, jnp.zeros((1, 5, 1)), jnp.zeros((1, 5, 1)), jnp.zeros((1, 5), bool))
