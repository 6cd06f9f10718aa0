"""Batches drawn on the device: pure functions of a data set, a key and a size."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nfrl.data.dataset import Dataset

HindsightGoals = Literal["geometric", "uniform"]
"""How far ahead in its trajectory a goal is drawn."""


class Transitions(NamedTuple):
    """A batch of (s, a, r, mask, s'); the mask is 0 where the episode ends, else 1.

    Of chunks: see :func:`sample_chunk_transitions`.
    """

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    rewards: Float[Array, " batch"]
    masks: Float[Array, " batch"]
    next_observations: Float[Array, "batch observation"]
    next_actions: Float[Array, "batch action"]


class Pairs(NamedTuple):
    """A batch of (s, a): what there is to imitate."""

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]


class GoalBatch(NamedTuple):
    """A batch of (s, a, g), with g a later state of the same trajectory."""

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    goals: Float[Array, "batch observation"]


class WaypointBatch(NamedTuple):
    """A batch of (s, a, s') with later states of the same trajectory to plan and to act towards.

    ``waypoints`` are k steps later, ``near_waypoints`` 1 to k steps, both no later than the
    trajectory's end. ``reached`` says whether the goal is the state itself.
    """

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    next_observations: Float[Array, "batch observation"]
    goals: Float[Array, "batch observation"]
    reached: Bool[Array, " batch"]
    waypoints: Float[Array, "batch observation"]
    near_waypoints: Float[Array, "batch observation"]


class ChunkBatch(NamedTuple):
    """A batch of histories of observations (oldest first) and the chunks of actions that follow."""

    observations: Float[Array, "batch history observation"]
    actions: Float[Array, "batch chunk action"]


def sample_pairs(dataset: Dataset, key: PRNGKeyArray, batch_size: int, *, chunk: int = 1) -> Pairs:
    """Draw observations and the actions taken at them, uniformly.

    Args:
        dataset: Where to draw from; it needs neither goals nor rewards.
        key: Random key.
        batch_size: How many.
        chunk: Actions from t on that are one: (batch, chunk * action). Past a trajectory's end its
            last is repeated.
    """
    rows = _rows(dataset, key, batch_size)
    steps = jnp.minimum(rows[:, None] + jnp.arange(chunk), dataset.last[rows, None] - 1)
    return Pairs(dataset.observations[rows], dataset.actions[steps].reshape(batch_size, -1))


def sample_transitions(dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
    """Draw transitions uniformly from a data set with rewards.

    The next action is the data's own; the last transition of a trajectory has its own action there,
    since that of the final observation leads nowhere.
    """
    assert dataset.rewards is not None, "the data have no rewards"
    assert dataset.masks is not None
    rows = _rows(dataset, key, batch_size)
    return Transitions(
        dataset.observations[rows],
        dataset.actions[rows],
        dataset.rewards[rows],
        dataset.masks[rows],
        dataset.observations[rows + 1],
        dataset.actions[jnp.minimum(rows + 1, dataset.last[rows] - 1)],
    )


def sample_chunk_transitions(
    dataset: Dataset, key: PRNGKeyArray, batch_size: int, *, chunk: int, discount: float
) -> Transitions:
    """Draw transitions over ``chunk`` steps, whose actions are one: (batch, chunk * action).

    The reward is sum_i discount^i r_{t+i}, up to where the episode or the trajectory ends, and the
    mask is discount^(n - 1) after n steps, or 0 where the episode ended on the way: an agent that
    multiplies it by its discount values the next observation at discount^n. Past a trajectory's end
    its last action is repeated, as by :func:`sample_chunks`.
    """
    assert dataset.rewards is not None, "the data have no rewards"
    assert dataset.masks is not None
    rows = _rows(dataset, key, batch_size)[:, None]
    last = dataset.last[rows] - 1
    place = jnp.arange(chunk)
    steps = jnp.minimum(rows + place, last)
    goes_on = jnp.cumprod(dataset.masks[steps], axis=1)
    # Of a step: whether the chunk reaches it before the episode's or the trajectory's end.
    before = jnp.pad(goes_on[:, :-1], ((0, 0), (1, 0)), constant_values=1.0)
    reached = before * (rows + place <= last)
    taken = jnp.minimum(last[:, 0] - rows[:, 0] + 1, chunk)
    following = jnp.minimum(rows + chunk + place, last)
    return Transitions(
        dataset.observations[rows[:, 0]],
        dataset.actions[steps].reshape(batch_size, -1),
        (discount**place * reached * dataset.rewards[steps]).sum(1),
        discount ** (taken - 1.0) * goes_on[:, -1],
        dataset.observations[rows[:, 0] + taken],
        dataset.actions[following].reshape(batch_size, -1),
    )


def sample_goals(
    dataset: Dataset,
    key: PRNGKeyArray,
    batch_size: int,
    discount: float,
    *,
    chunk: int = 1,
    ahead: HindsightGoals = "geometric",
) -> GoalBatch:
    """Draw transitions and hindsight goals g = s_{min(t + Delta, T)}, Delta ~ Geom(1 - gamma).

    Delta runs from 1 upward, and T is the last row of the transition's own trajectory (paper,
    NF-GCBC).

    Args:
        dataset: Where to draw from.
        key: Random key.
        batch_size: How many.
        discount: gamma, in [0, 1).
        chunk: Actions from t on that are one: (batch, chunk * action). Past a trajectory's end its
            last is repeated.
        ahead: "geometric", or "uniform": Delta ~ U{1, ..., T - t} (OGBench's GCBC).
    """
    row_key, goal_key = jr.split(key)
    rows = _rows(dataset, row_key, batch_size)
    if ahead == "uniform":
        delta = jr.randint(goal_key, (batch_size,), 1, dataset.last[rows] - rows + 1)
    else:
        delta = jr.geometric(goal_key, 1 - discount, (batch_size,), dtype=jnp.int32)
    # Compared before it is added: the longest Delta are as large as an int32 can be.
    goals = rows + jnp.minimum(delta, dataset.last[rows] - rows)
    steps = jnp.minimum(rows[:, None] + jnp.arange(chunk), dataset.last[rows, None] - 1)
    actions = dataset.actions[steps].reshape(batch_size, -1)
    return GoalBatch(dataset.observations[rows], actions, dataset.observations[goals])


def sample_waypoints(
    dataset: Dataset,
    key: PRNGKeyArray,
    batch_size: int,
    *,
    steps_ahead: int,
    discount: float,
    same: float,
    random: float,
) -> WaypointBatch:
    """Draw transitions with waypoints, and with goals for a value of places.

    Args:
        dataset: Where to draw from.
        key: Random key.
        batch_size: How many.
        steps_ahead: k.
        discount: gamma of the goals that are later in the trajectory, as in :func:`sample_goals`.
        same: Share of the goals that are the state itself.
        random: Share of them that are any state of a transition of the data.
    """
    row_key, goal_key, random_key, kind_key, near_key = jr.split(key, 5)
    rows = _rows(dataset, row_key, batch_size)
    last = dataset.last[rows]
    delta = jr.geometric(goal_key, 1 - discount, (batch_size,), dtype=jnp.int32)
    later = rows + jnp.minimum(delta, last - rows)
    kind = jr.uniform(kind_key, (batch_size,))
    others = _rows(dataset, random_key, batch_size)
    goals = jnp.where(kind < same, rows, jnp.where(kind < same + random, others, later))
    near = jr.randint(near_key, (batch_size,), 1, steps_ahead + 1)
    observations = dataset.observations
    return WaypointBatch(
        observations[rows],
        dataset.actions[rows],
        observations[rows + 1],
        observations[goals],
        goals == rows,
        observations[jnp.minimum(rows + steps_ahead, last)],
        observations[jnp.minimum(rows + near, last)],
    )


def sample_chunks(
    dataset: Dataset, key: PRNGKeyArray, batch_size: int, *, history: int, chunk: int
) -> ChunkBatch:
    """Draw histories of ``history`` observations, ending at t, and actions t ... t + chunk - 1.

    Before a trajectory's start its first observation is repeated; past its end its last action.
    """
    rows = _rows(dataset, key, batch_size)[:, None]
    past = jnp.maximum(rows + jnp.arange(1 - history, 1), dataset.first[rows])
    future = jnp.minimum(rows + jnp.arange(chunk), dataset.last[rows] - 1)
    return ChunkBatch(dataset.observations[past], dataset.actions[future])


def _rows(dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Int[Array, " batch"]:
    return jr.choice(key, dataset.transitions, (batch_size,))
