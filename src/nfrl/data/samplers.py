"""Batches drawn on the device: pure functions of a data set, a key and a size."""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfrl.data.dataset import Dataset


class Transitions(NamedTuple):
    """A batch of (s, a, r, mask, s'); the mask is 0 where the episode ends, else 1."""

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    rewards: Float[Array, " batch"]
    masks: Float[Array, " batch"]
    next_observations: Float[Array, "batch observation"]
    next_actions: Float[Array, "batch action"]


class GoalBatch(NamedTuple):
    """A batch of (s, a, g), with g a later state of the same trajectory."""

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    goals: Float[Array, "batch observation"]


class ChunkBatch(NamedTuple):
    """A batch of histories of observations (oldest first) and the chunks of actions that follow."""

    observations: Float[Array, "batch history observation"]
    actions: Float[Array, "batch chunk action"]


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


def sample_goals(
    dataset: Dataset, key: PRNGKeyArray, batch_size: int, discount: float
) -> GoalBatch:
    """Draw transitions and hindsight goals g = s_{min(t + Delta, T)}, Delta ~ Geom(1 - gamma).

    Delta runs from 1 upward, and T is the last row of the transition's own trajectory (paper,
    NF-GCBC).

    Args:
        dataset: Where to draw from.
        key: Random key.
        batch_size: How many.
        discount: gamma, in [0, 1).
    """
    row_key, goal_key = jr.split(key)
    rows = _rows(dataset, row_key, batch_size)
    delta = jr.geometric(goal_key, 1 - discount, (batch_size,), dtype=jnp.int32)
    # Compared before it is added: the longest Delta are as large as an int32 can be.
    goals = rows + jnp.minimum(delta, dataset.last[rows] - rows)
    return GoalBatch(dataset.observations[rows], dataset.actions[rows], dataset.observations[goals])


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
