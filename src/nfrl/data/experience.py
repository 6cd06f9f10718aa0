"""Experience of an online agent: its latest transitions, a ring on the device."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Experience(NamedTuple):
    """A batch of (s, a, r, m, s'), with m = 0 where s' ends the episode for good, else 1."""

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    rewards: Float[Array, " batch"]
    masks: Float[Array, " batch"]
    next_observations: Float[Array, "batch observation"]


class Replay(eqx.Module):
    """A ring of transitions.

    Attributes:
        rows: As many rows as it has room for; those not written yet are zero.
        added: How many transitions were ever added.
    """

    rows: Experience
    added: Int[Array, ""]


def empty_replay(capacity: int, observation_dim: int, action_dim: int) -> Replay:
    """Make room for ``capacity`` transitions."""
    return Replay(
        Experience(
            observations=jnp.zeros((capacity, observation_dim)),
            actions=jnp.zeros((capacity, action_dim)),
            rewards=jnp.zeros(capacity),
            masks=jnp.zeros(capacity),
            next_observations=jnp.zeros((capacity, observation_dim)),
        ),
        jnp.zeros((), jnp.int32),
    )


def add(replay: Replay, new: Experience) -> Replay:
    """Write transitions, over the oldest where the ring is full.

    Args:
        replay: The ring; given away to a compiled function, it is changed in place.
        new: No more transitions than the ring has room for.
    """
    capacity = len(replay.rows.rewards)
    places = (replay.added + jnp.arange(len(new.rewards))) % capacity
    rows = jax.tree.map(lambda ring, rows: ring.at[places].set(rows), replay.rows, new)
    return Replay(rows, replay.added + len(new.rewards))


def sample(replay: Replay, key: PRNGKeyArray, batch_size: int) -> Experience:
    """Draw transitions uniformly, with replacement; there must be one at least."""
    filled = jnp.minimum(replay.added, len(replay.rows.rewards))
    places = jr.randint(key, (batch_size,), 0, filled)
    return jax.tree.map(lambda ring: ring[places], replay.rows)
