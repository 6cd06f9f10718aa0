"""What many environments went through, kept on the device; hindsight goals drawn from it.

Rows of one environment are numbered by time, n = 0, 1, 2, ..., and row n stands at n mod capacity.
Every environment has had as many, so one counter serves all.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nfrl.data.samplers import GoalBatch


class GoalReplay(eqx.Module):
    """A ring of the latest rows (s, a) of every environment.

    Attributes:
        observations: s of each row.
        actions: a of each row.
        episodes: The number of each row's episode, which grows by one from episode to episode of
            an environment.
        inserted: How many rows each environment has had.
    """

    observations: Float[Array, "environments capacity observation"]
    actions: Float[Array, "environments capacity action"]
    episodes: Int[Array, "environments capacity"]
    inserted: Int[Array, ""]

    @classmethod
    def empty(
        cls, environments: int, capacity: int, observation_dim: int, action_dim: int
    ) -> "GoalReplay":
        """Make a ring without rows."""
        shape = (environments, capacity)
        return cls(
            jnp.zeros((*shape, observation_dim)),
            jnp.zeros((*shape, action_dim)),
            jnp.full(shape, -1, jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    @property
    def capacity(self) -> int:
        """Rows of one environment."""
        return self.episodes.shape[1]

    @property
    def oldest(self) -> Int[Array, ""]:
        """The number of the first row that is still there."""
        return jnp.maximum(self.inserted - self.capacity, 0)


def memory_bytes(environments: int, capacity: int, observation_dim: int, action_dim: int) -> int:
    """Return what a ring will take, in bytes, before it is made."""
    return 4 * environments * capacity * (observation_dim + action_dim + 1)


def insert(
    replay: GoalReplay,
    observations: Float[Array, "environments steps observation"],
    actions: Float[Array, "environments steps action"],
    begins: Bool[Array, "environments steps"],
) -> GoalReplay:
    """Add rows, in the order of time, over the oldest ones.

    Args:
        replay: The ring.
        observations: The new rows' s.
        actions: The new rows' a.
        begins: Whether a new row is the first of an episode. An environment's first row of all
            is, whatever this says.

    Raises:
        ValueError: There are more rows than the ring holds.
    """
    steps = begins.shape[1]
    if steps > replay.capacity:
        raise ValueError(f"{steps} rows do not fit a ring of {replay.capacity}")
    before = replay.episodes[:, (replay.inserted - 1) % replay.capacity]
    begins = begins.at[:, 0].set(begins[:, 0] | (replay.inserted == 0))
    episodes = before[:, None] + jnp.cumsum(begins, axis=1, dtype=jnp.int32)
    places = (replay.inserted + jnp.arange(steps)) % replay.capacity
    return GoalReplay(
        replay.observations.at[:, places].set(observations),
        replay.actions.at[:, places].set(actions),
        replay.episodes.at[:, places].set(episodes),
        replay.inserted + steps,
    )


def transitions(replay: GoalReplay) -> Int[Array, " environments"]:
    """Count each environment's transitions: rows whose episode has a later row."""
    latest = jnp.maximum(replay.inserted - 1, replay.oldest)
    return _transitions_before(replay, jnp.arange(len(replay.episodes)), latest)


def sample(replay: GoalReplay, key: PRNGKeyArray, batch_size: int, discount: float) -> GoalBatch:
    """Draw transitions uniformly, and for each a later observation of its episode.

    The goal is s_{t + Delta}, Delta >= 1 geometric with p(Delta) proportional to gamma^Delta as far
    as the episode's rows go: never another episode's row, and never one that is not yet, or no
    longer, there.

    Args:
        replay: A ring with at least one transition.
        key: Random key.
        batch_size: How many.
        discount: gamma, in [0, 1).

    Returns:
        The batch; its goals are whole observations.
    """
    row_key, goal_key = jr.split(key)
    ends = jnp.cumsum(transitions(replay))
    rank = jr.randint(row_key, (batch_size,), 0, ends[-1])
    environment = jnp.searchsorted(ends, rank, side="right")
    rank -= jnp.where(environment > 0, ends[environment - 1], 0)
    # The last row with so many transitions before it: those that end an episode are not one.
    row = _last_row(replay, lambda n: _transitions_before(replay, environment, n) <= rank)
    episode = _episode(replay, environment, row)
    last = _last_row(replay, lambda n: _episode(replay, environment, n) <= episode)
    goal = row + _truncated_geometric(goal_key, discount, last - row)
    return GoalBatch(
        replay.observations[environment, row % replay.capacity],
        replay.actions[environment, row % replay.capacity],
        replay.observations[environment, goal % replay.capacity],
    )


def sample_observations(
    replay: GoalReplay, key: PRNGKeyArray, shape: tuple[int, ...]
) -> Float[Array, "*shape observation"]:
    """Draw observations uniformly from all rows of a ring that has some."""
    environment_key, row_key = jr.split(key)
    environment = jr.randint(environment_key, shape, 0, len(replay.episodes))
    row = jr.randint(row_key, shape, replay.oldest, replay.inserted)
    return replay.observations[environment, row % replay.capacity]


def _episode(replay: GoalReplay, environment: Array, row: Array) -> Array:
    return replay.episodes[environment, row % replay.capacity]


def _transitions_before(replay: GoalReplay, environment: Array, row: Array) -> Array:
    """Count the transitions from the oldest row up to this one, itself left out."""
    ended = _episode(replay, environment, row) - _episode(replay, environment, replay.oldest)
    return row - replay.oldest - ended


def _last_row(replay: GoalReplay, holds: Callable[[Array], Array]) -> Array:
    """Return the last row for which a condition holds that begins true and never comes back."""
    low = jnp.zeros_like(holds(replay.oldest), jnp.int32) + replay.oldest
    high = jnp.zeros_like(low) + replay.inserted

    def halve(bounds: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = bounds
        middle = (low + high) // 2
        good = holds(middle)
        return (jnp.where(good, middle, low), jnp.where(good, high, middle)), None

    steps = math.ceil(math.log2(replay.capacity)) + 1
    (low, _), _ = jax.lax.scan(halve, (low, high), None, length=steps)
    return low


def _truncated_geometric(key: PRNGKeyArray, discount: float | Array, largest: Array) -> Array:
    """Draw from p(k) proportional to discount^k, 1 <= k <= largest, by inverting its sum."""
    log = jnp.log(jnp.maximum(discount, 1e-30))
    u = jr.uniform(key, largest.shape)
    k = 1 + jnp.floor(jnp.log1p(u * jnp.expm1(largest * log)) / log)
    return jnp.clip(k.astype(jnp.int32), 1, largest)
