"""The samplers against the distributions and the indices that they stand for.

Every observation holds its row's number (and every action the row's negative), so that a batch
says which rows it was made of.
"""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfrl.data.dataset import Dataset
from nfrl.data.samplers import (
    GoalMixture,
    sample_chunk_transitions,
    sample_chunks,
    sample_goal_transitions,
    sample_goals,
    sample_transitions,
)

LENGTHS = (6, 2, 9, 3)  # rows of each trajectory
COUNT = 20_000

# Always of twelve rows, because every other shape costs a compilation.
lengths = st.sampled_from([(12,), (2, 10), (5, 7), (2, 4, 6), (3, 3, 3, 3), (2,) * 6]).flatmap(
    st.permutations
)


def numbered(lengths=LENGTHS) -> Dataset:
    rows = sum(lengths)
    number = np.arange(rows, dtype=np.float32)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(lengths) - 1] = True
    return Dataset.from_arrays(
        observations=np.stack([number, -number], 1),
        actions=-number[:, None],
        terminals=terminals,
        rewards=number / 2,
        masks=number % 2,
    )


def trajectories(lengths=LENGTHS) -> list[range]:
    """Return the rows of each trajectory."""
    ends = np.cumsum(lengths)
    return [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def starts(lengths=LENGTHS) -> dict[int, range]:
    """Return the trajectory of every row that an action leads on from."""
    return {t: rows for rows in trajectories(lengths) for t in rows[:-1]}


def rows_of(observations) -> np.ndarray:
    """Return the rows that observations were taken from."""
    np.testing.assert_array_equal(observations[..., 0], -observations[..., 1])
    return np.asarray(observations[..., 0]).astype(int)


def check_frequencies(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare counts with their expectation by chi-squared, four standard deviations wide."""
    assert found.sum() == pytest.approx(expected.sum())
    often = expected > 5
    assert often.sum() > 1
    statistic = np.square(found - expected)[often] / expected[often]
    assert statistic.sum() < often.sum() + 4 * np.sqrt(2 * often.sum())
    assert (found[expected == 0] == 0).all()


# The data set


@given(lengths)
@settings(max_examples=10, deadline=None)
def test_rows_know_their_trajectory(lengths):
    dataset = numbered(lengths)
    for rows in trajectories(lengths):
        assert set(np.asarray(dataset.first[rows[0] : rows[-1] + 1])) == {rows[0]}
        assert set(np.asarray(dataset.last[rows[0] : rows[-1] + 1])) == {rows[-1]}
    assert dataset.transitions.tolist() == list(starts(lengths))


def test_an_unfinished_trajectory_is_refused():
    with pytest.raises(ValueError, match="last row"):
        Dataset.from_arrays(np.zeros((3, 2)), np.zeros((3, 1)), np.array([0, 1, 0]))


def test_terminals_may_be_numbers():
    dataset = Dataset.from_arrays(
        np.zeros((4, 2)), np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0])
    )
    assert dataset.transitions.tolist() == [0, 2]
    assert dataset.observations.dtype == dataset.actions.dtype == jnp.float32


# Transitions


def test_transitions_are_uniform_and_never_leave_a_last_row():
    rows = rows_of(sample_transitions(numbered(), jr.key(0), COUNT).observations)
    possible = list(starts())
    expected = np.zeros(sum(LENGTHS))
    expected[possible] = COUNT / len(possible)
    check_frequencies(np.bincount(rows, minlength=len(expected)), expected)


@given(lengths, st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_transitions_hold_consecutive_rows(lengths, seed):
    batch = sample_transitions(numbered(lengths), jr.key(seed), 64)
    rows = rows_of(batch.observations)
    np.testing.assert_array_equal(rows_of(batch.next_observations), rows + 1)
    np.testing.assert_array_equal(batch.actions[:, 0], -rows)
    np.testing.assert_array_equal(batch.rewards, rows / 2)
    np.testing.assert_array_equal(batch.masks, rows % 2)
    last = {t: trajectory[-1] for t, trajectory in starts(lengths).items()}
    following = [min(row + 1, last[row] - 1) for row in rows.tolist()]
    np.testing.assert_array_equal(batch.next_actions[:, 0], -np.array(following))


def slow_chunk_transition(dataset, t: int, chunk: int, discount: float):
    """Walk one chunk step by step: its actions, reward, mask, and where it leads."""
    last = int(dataset.last[t])
    actions = [dataset.actions[min(t + i, last - 1)] for i in range(chunk)]
    reward, mask, row = 0.0, 1.0, t
    for i in range(min(chunk, last - t)):
        if mask:
            reward += discount**i * float(dataset.rewards[t + i])
            mask *= float(dataset.masks[t + i])
        row = t + i + 1
    following = [dataset.actions[min(t + chunk + i, last - 1)] for i in range(chunk)]
    mask *= discount ** (row - t - 1)
    return np.concatenate(actions), reward, mask, row, np.concatenate(following)


@given(lengths, st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_a_transition_over_a_chunk_is_its_steps_one_after_the_other(lengths, seed, chunk):
    """Rewards are discounted and end with the episode; an agent's own discount makes gamma^n."""
    rng = np.random.default_rng(seed)
    dataset = dataclasses.replace(
        numbered(lengths), masks=jnp.asarray(rng.choice([0.0, 1.0], sum(lengths), p=[0.3, 0.7]))
    )
    key = jr.key(seed)
    batch = sample_chunk_transitions(dataset, key, 32, chunk=chunk, discount=0.5)
    for i, t in enumerate(rows_of(batch.observations).tolist()):
        actions, reward, mask, row, following = slow_chunk_transition(dataset, t, chunk, 0.5)
        np.testing.assert_array_equal(batch.actions[i], actions)
        np.testing.assert_allclose(batch.rewards[i], reward)
        np.testing.assert_allclose(batch.masks[i], mask)
        assert rows_of(batch.next_observations)[i] == row
        np.testing.assert_array_equal(batch.next_actions[i], following)


def test_a_chunk_of_one_is_a_transition():
    single = sample_transitions(numbered(), jr.key(3), 64)
    chunks = sample_chunk_transitions(numbered(), jr.key(3), 64, chunk=1, discount=0.9)
    jax.tree.map(np.testing.assert_array_equal, single, chunks)


# Goals


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.97])
def test_goals_follow_the_truncated_geometric_distribution(discount):
    """p(t + k | t) = (1 - gamma) gamma^(k - 1) for k < T - t; what is left falls to T."""
    batch = sample_goals(numbered(), jr.key(1), COUNT, discount)
    found = np.zeros((sum(LENGTHS),) * 2)
    np.add.at(found, (rows_of(batch.observations), rows_of(batch.goals)), 1)
    expected = np.zeros_like(found)
    for t, rows in starts().items():
        for g in range(t + 1, rows[-1]):
            expected[t, g] = (1 - discount) * discount ** (g - t - 1)
        expected[t, rows[-1]] = 1 - expected[t].sum()
    check_frequencies(found, expected * COUNT / len(starts()))


def test_uniform_goals_are_any_later_state_of_the_trajectory():
    batch = sample_goals(numbered(), jr.key(1), COUNT, 0.9, ahead="uniform")
    found = np.zeros((sum(LENGTHS),) * 2)
    np.add.at(found, (rows_of(batch.observations), rows_of(batch.goals)), 1)
    expected = np.zeros_like(found)
    for t, rows in starts().items():
        left = rows[-1] - t
        if left == 1:
            expected[t, rows[-1]] = 1
            continue
        # Rounded to a step: both ends are half as likely.
        expected[t, t + 1 : rows[-1] + 1] = 1 / (left - 1)
        expected[t, [t + 1, rows[-1]]] /= 2
    check_frequencies(found, expected * COUNT / len(starts()))


@given(lengths, st.integers(0, 1000), st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.9999]))
@settings(max_examples=15, deadline=None)
def test_goals_lie_later_in_the_same_trajectory(lengths, seed, discount):
    batch = sample_goals(numbered(lengths), jr.key(seed), 64, discount)
    rows, goals = rows_of(batch.observations), rows_of(batch.goals)
    np.testing.assert_array_equal(batch.actions[:, 0], -rows)
    possible = starts(lengths)
    for t, g in zip(rows, goals, strict=True):
        assert t + 1 <= g <= possible[t][-1]


def test_goals_of_chunks_are_those_of_single_actions():
    single = sample_goals(numbered(), jr.key(1), 256, 0.9)
    chunks = sample_goals(numbered(), jr.key(1), 256, 0.9, chunk=3)
    np.testing.assert_array_equal(chunks.goals, single.goals)
    trajectory = starts()
    for row, actions in zip(rows_of(chunks.observations).tolist(), chunks.actions, strict=True):
        following = [min(row + i, trajectory[row][-1] - 1) for i in range(3)]
        np.testing.assert_array_equal(actions, -np.array(following))


def test_goals_survive_the_longest_horizon():
    """Offsets near the end of the integers must not wrap around."""
    batch = sample_goals(numbered(), jr.key(0), 256, 1 - 1e-9)
    last = np.array([starts()[t][-1] for t in rows_of(batch.observations)])
    np.testing.assert_array_equal(rows_of(batch.goals), last)


# Goals of mixtures


_mixed = jax.jit(
    sample_goal_transitions,
    static_argnames=("batch_size", "value_goals", "actor_goals", "steps_ahead", "chunk"),
)


def draw_mixed(key, count=COUNT, lengths=LENGTHS, **more):
    mixtures = {
        "value_goals": GoalMixture(same=0.2, random=0.3),
        "actor_goals": GoalMixture(geometric=False),
        "discount": 0.8,
        "steps_ahead": 3,
    }
    return _mixed(numbered(lengths), key, count, **mixtures | more)


def later_goals(geometric: bool, discount: float = 0.8) -> np.ndarray:
    """Return p(g | t) of goals that are later, or at the last transition the state itself."""
    found = np.zeros((sum(LENGTHS),) * 2)
    for t, rows in starts().items():
        last = rows[-2]
        if geometric:
            for g in range(t + 1, last):
                found[t, g] = (1 - discount) * discount ** (g - t - 1)
            found[t, last] = 1 - found[t].sum()
        else:  # rounded, so that both ends are half as likely
            first = min(t + 1, last)
            inner = 1 / max(last - first, 1)
            found[t, first:last] = inner
            found[t, first] = inner / 2
            found[t, last] += 1 - found[t].sum()
    return found


def pairs_of(rows, goals) -> np.ndarray:
    found = np.zeros((sum(LENGTHS),) * 2)
    np.add.at(found, (rows, goals), 1)
    return found


def test_mixed_goals_have_their_shares():
    """0.2 the state itself, 0.3 any state of a transition, 0.5 later in the trajectory."""
    batch = draw_mixed(jr.key(1))
    rows, goals = rows_of(batch.observations), rows_of(batch.goals)
    possible = list(starts())
    anywhere = np.zeros((sum(LENGTHS),) * 2)
    anywhere[np.ix_(possible, possible)] = 1 / len(possible)
    expected = 0.2 * np.diag(anywhere.any(1)) + 0.3 * anywhere + 0.5 * later_goals(geometric=True)
    check_frequencies(pairs_of(rows, goals), expected * COUNT / len(possible))
    actor = pairs_of(rows, rows_of(batch.actor_goals))
    check_frequencies(actor, later_goals(geometric=False) * COUNT / len(possible))


@given(lengths, st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_mixed_goals_never_leave_their_trajectory_unless_they_are_random(lengths, seed):
    batch = draw_mixed(jr.key(seed), 64, lengths, value_goals=GoalMixture(same=0.2))
    rows = rows_of(batch.observations)
    ends = np.array([starts(lengths)[t][-2] for t in rows.tolist()])
    for field in ("goals", "actor_goals", "subgoals", "actor_subgoals"):
        goals = rows_of(getattr(batch, field))
        assert (rows <= goals).all()
        assert (goals <= ends).all()
    np.testing.assert_array_equal(rows_of(batch.next_observations), rows + 1)
    np.testing.assert_array_equal(batch.actions[:, 0], -rows)
    # At the goal's row, and nowhere else, nothing is lost and the way ends.
    there = rows_of(batch.goals) == rows
    np.testing.assert_array_equal(batch.rewards, np.where(there, 0, -1))
    np.testing.assert_array_equal(batch.masks, np.where(there, 0, 1))
    np.testing.assert_array_equal(batch.steps, 1)
    ahead = np.minimum(rows + 3, ends)
    np.testing.assert_array_equal(rows_of(batch.subgoals), ahead)
    on_the_way = np.minimum(ahead, rows_of(batch.actor_goals))
    np.testing.assert_array_equal(rows_of(batch.actor_subgoals), on_the_way)


def test_the_way_to_a_goal_elsewhere_is_not_cut_short():
    batch = draw_mixed(jr.key(0), 200, actor_goals=GoalMixture(random=1.0))
    np.testing.assert_array_equal(batch.actor_subgoals, batch.subgoals)
    assert (rows_of(batch.actor_goals) < rows_of(batch.observations)).any()


def test_a_chunk_towards_a_goal_ends_there():
    """Walked step by step: -1 a step until the goal, where reward and mask are 0."""
    batch = draw_mixed(jr.key(5), 200, chunk=3)
    goals, after = rows_of(batch.goals), rows_of(batch.next_observations)
    for i, t in enumerate(rows_of(batch.observations).tolist()):
        last = starts()[t][-1]
        taken = min(3, last - t)
        lost, mask = 0.0, 0.8 ** (taken - 1)
        for step in range(taken):
            if t + step == goals[i]:
                mask = 0.0
                break
            lost += 0.8**step
        np.testing.assert_allclose((batch.rewards[i], batch.masks[i]), (-lost, mask), rtol=1e-6)
        assert (after[i], batch.steps[i]) == (t + taken, taken)
        np.testing.assert_array_equal(
            batch.actions[i], [-min(t + step, last - 1) for step in range(3)]
        )


# Chunks


def slow_chunk(t: int, rows: range, history: int, chunk: int) -> tuple[list[int], list[int]]:
    """Return the rows of a history that ends at t and of the chunk of actions that begins there."""
    past = [max(t - back, rows[0]) for back in reversed(range(history))]
    future = [min(t + ahead, rows[-2]) for ahead in range(chunk)]
    return past, future


def check_chunks(lengths, key, batch_size, history, chunk) -> set[int]:
    """Compare a batch with the oracle and return the rows that were drawn."""
    batch = sample_chunks(numbered(lengths), key, batch_size, history=history, chunk=chunk)
    assert batch.observations.shape == (batch_size, history, 2)
    assert batch.actions.shape == (batch_size, chunk, 1)
    past, future = rows_of(batch.observations), -np.asarray(batch.actions[..., 0]).astype(int)
    for i, t in enumerate(past[:, -1]):
        expected = slow_chunk(t, starts(lengths)[t], history, chunk)
        assert (past[i].tolist(), future[i].tolist()) == expected
    return set(past[:, -1].tolist())


@given(lengths, st.integers(0, 1000), st.sampled_from([1, 3, 5]), st.sampled_from([1, 4, 7]))
@settings(max_examples=10, deadline=None)
def test_chunks_and_histories(lengths, seed, history, chunk):
    check_chunks(lengths, jr.key(seed), 32, history, chunk)


def test_chunks_and_histories_at_both_ends():
    drawn = check_chunks(LENGTHS, jr.key(0), 500, history=4, chunk=4)
    assert drawn == set(starts())  # the first and the last row of every trajectory among them


# Randomness

SAMPLERS = {
    "transitions": lambda dataset, key: sample_transitions(dataset, key, 32),
    "chunk transitions": lambda dataset, key: sample_chunk_transitions(
        dataset, key, 32, chunk=3, discount=0.5
    ),
    "goals": lambda dataset, key: sample_goals(dataset, key, 32, 0.9),
    "mixed goals": lambda dataset, key: sample_goal_transitions(
        dataset,
        key,
        32,
        discount=0.9,
        value_goals=GoalMixture(same=0.2, random=0.3),
        actor_goals=GoalMixture(geometric=False),
    ),
    "chunks": lambda dataset, key: sample_chunks(dataset, key, 32, history=2, chunk=3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_batches_are_functions_of_the_key_under_jit_and_vmap(name):
    draw, dataset = SAMPLERS[name], numbered()
    keys = jr.split(jr.key(0), 3)
    batches = [draw(dataset, key) for key in keys]
    stacked = jax.jit(jax.vmap(draw, in_axes=(None, 0)))(dataset, keys)
    for i, batch in enumerate(batches):
        for again in (
            draw(dataset, keys[i]),
            jax.jit(draw)(dataset, keys[i]),
            jax.tree.map(lambda leaf, i=i: leaf[i], stacked),
        ):
            jax.tree.map(np.testing.assert_array_equal, batch, again)
    assert (batches[0].observations != batches[1].observations).any()
