"""Batches drawn on the device: pure functions of a data set, a key and a size."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nfrl.data.dataset import Dataset
from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class GoalMixture:
    """Where goals come from. What ``same`` and ``random`` leave of 1 is later in the trajectory."""

    same: float = 0.0
    """Share of the goals that are the state itself."""
    random: float = 0.0
    """Share of them that are any state of a transition of the data."""
    geometric: bool = True
    """Of the others: Delta ~ Geom(1 - gamma) steps later, or uniform up to the trajectory's end."""

    def __post_init__(self):
        if min(self.same, self.random) < 0 or self.same + self.random > 1:
            raise UserError(
                "shares of goals must be at least 0, and same and random together at most 1; got "
                f"{self.same} and {self.random}"
            )


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


class GoalTransitions(NamedTuple):
    """A batch of (s, a, s') with goals for values, and others for an actor.

    The reward is -1 in every step, and 0 at the goal, where the mask is 0, too: values are minus
    the discounted number of steps. Of chunks: see :func:`sample_goal_transitions`.

    Attributes:
        goals: What values are learned for.
        actor_goals: What an actor is improved for.
        steps: Steps from s to s': 1, or those of a chunk.
        subgoals: k steps after s, for an actor that goes to subgoals; None without k.
        actor_subgoals: The same on the way to the actor's goals, no later than these.
    """

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    rewards: Float[Array, " batch"]
    masks: Float[Array, " batch"]
    next_observations: Float[Array, "batch observation"]
    goals: Float[Array, "batch observation"]
    actor_goals: Float[Array, "batch observation"]
    steps: Float[Array, " batch"]
    subgoals: Float[Array, "batch observation"] | None = None
    actor_subgoals: Float[Array, "batch observation"] | None = None


class WaypointBatch(NamedTuple):
    """A batch of (s, a, s') with later states of the same trajectory to plan and to act towards.

    ``waypoints`` are k steps later, ``near_waypoints`` 1 to k steps, both no later than the
    trajectory's end. Rewards and masks are the data's, as in :class:`Transitions`, or those of the
    goals: -1, and 0 where the goal is the state itself, which ends.
    """

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    next_observations: Float[Array, "batch observation"]
    goals: Float[Array, "batch observation"]
    rewards: Float[Array, " batch"]
    masks: Float[Array, " batch"]
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
    steps = _chunk(rows, dataset.last[rows] - 1, chunk)
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
    rows = _rows(dataset, key, batch_size)
    last = dataset.last[rows] - 1
    steps = _chunk(rows, last, chunk)
    following = jnp.minimum(rows[:, None] + chunk + jnp.arange(chunk), last[:, None])
    reward, mask, taken = _over_chunk(
        dataset.rewards[steps], dataset.masks[steps], last - rows, discount
    )
    return Transitions(
        dataset.observations[rows],
        dataset.actions[steps].reshape(batch_size, -1),
        reward,
        mask,
        dataset.observations[rows + taken],
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
        ahead: "geometric", or "uniform": any later row (OGBench's GCBC).
    """
    row_key, goal_key = jr.split(key)
    rows = _rows(dataset, row_key, batch_size)
    left = dataset.last[rows] - rows
    later = _geometric if ahead == "geometric" else _uniform
    goals = rows + later(goal_key, left, discount)
    steps = _chunk(rows, dataset.last[rows] - 1, chunk)
    actions = dataset.actions[steps].reshape(batch_size, -1)
    return GoalBatch(dataset.observations[rows], actions, dataset.observations[goals])


def sample_goal_transitions(
    dataset: Dataset,
    key: PRNGKeyArray,
    batch_size: int,
    *,
    discount: float,
    value_goals: GoalMixture,
    actor_goals: GoalMixture,
    steps_ahead: int | None = None,
    chunk: int = 1,
) -> GoalTransitions:
    """Draw transitions with goals of two mixtures, as OGBench does (Park et al., 2025).

    A goal is a state of a transition, so that it can be its own goal, too: a trajectory's final
    observation is none. At a trajectory's last transition a later goal is the state itself.

    Args:
        dataset: Where to draw from; it needs no rewards.
        key: Random key.
        batch_size: How many.
        discount: gamma of geometric goals, and of a chunk's rewards.
        value_goals: The mixture of ``goals``.
        actor_goals: That of ``actor_goals``.
        steps_ahead: k of the subgoals; None for none. They are no later than the last transition.
        chunk: Actions from t on that are one, with reward and mask as those of
            :func:`sample_chunk_transitions`: the way ends where the goal is reached.
    """
    row_key, value_key, actor_key = jr.split(key, 3)
    rows = _rows(dataset, row_key, batch_size)
    last = dataset.last[rows] - 1
    goals, _ = _mixed(dataset, jr.split(value_key, 3), rows, last, discount, value_goals)
    towards, elsewhere = _mixed(dataset, jr.split(actor_key, 3), rows, last, discount, actor_goals)
    steps = _chunk(rows, last, chunk)
    on_the_way = (steps != goals[:, None]).astype(jnp.float32)
    reward, mask, taken = _over_chunk(-on_the_way, on_the_way, last - rows, discount)
    observations = dataset.observations
    subgoals = actor_subgoals = None
    if steps_ahead is not None:
        ahead = jnp.minimum(rows + steps_ahead, last)
        subgoals = observations[ahead]
        # There is no way to a goal elsewhere in the data that could be cut short.
        actor_subgoals = observations[jnp.where(elsewhere, ahead, jnp.minimum(ahead, towards))]
    return GoalTransitions(
        observations[rows],
        dataset.actions[steps].reshape(batch_size, -1),
        reward,
        mask,
        observations[rows + taken],
        observations[goals],
        observations[towards],
        taken.astype(jnp.float32),
        subgoals,
        actor_subgoals,
    )


def sample_waypoints(
    dataset: Dataset,
    key: PRNGKeyArray,
    batch_size: int,
    *,
    steps_ahead: int,
    discount: float,
    same: float,
    random: float,
    rewarded: bool = False,
    jump: tuple[tuple[int, ...], float] | None = None,
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
        rewarded: Rewards are the data's, and not those of the goals.
        jump: Columns of an observation, and how far these move in a step that is a jump: waypoints
            then lie no later than the last state before one. None where nothing jumps.
    """
    row_key, goal_key, random_key, kind_key, near_key = jr.split(key, 5)
    rows = _rows(dataset, row_key, batch_size)
    last = dataset.last[rows]
    keys = (goal_key, random_key, kind_key)
    goals, _ = _mixed(dataset, keys, rows, last, discount, GoalMixture(same, random))
    near = jr.randint(near_key, (batch_size,), 1, steps_ahead + 1)
    observations = dataset.observations
    masks = jnp.where(goals == rows, 0.0, 1.0)
    rewards = -masks
    if rewarded:
        assert dataset.rewards is not None, "the data have no rewards"
        assert dataset.masks is not None
        rewards, masks = dataset.rewards[rows], dataset.masks[rows]
    return WaypointBatch(
        observations[rows],
        dataset.actions[rows],
        observations[rows + 1],
        observations[goals],
        rewards,
        masks,
        *_ahead(observations, rows, last, (steps_ahead, near), steps_ahead, jump),
    )


def _ahead(
    observations: Any,
    rows: Int[Array, " batch"],
    last: Int[Array, " batch"],
    steps: tuple[Int[Array, " batch"] | int, ...],
    longest: int,
    jump: tuple[tuple[int, ...], float] | None,
) -> list[Float[Array, "batch observation"]]:
    """Return the states some numbers of steps later, no later than a trajectory's end or a jump."""
    if jump is None:
        return [observations[jnp.minimum(rows + count, last)] for count in steps]
    columns, distance = jump
    # All states on the way: which of them is wanted is known only when they are seen.
    path = observations[jnp.minimum(rows[:, None] + jnp.arange(longest + 1), last[:, None])]
    places = path[..., jnp.array(columns)]
    moved = jnp.linalg.norm(jnp.diff(places, axis=1), axis=-1)
    before = jnp.cumprod(moved <= distance, axis=1).sum(1)  # steps until a jump
    return [
        jnp.take_along_axis(path, jnp.minimum(count, before)[:, None, None], axis=1)[:, 0]
        for count in steps
    ]


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
    return dataset.transitions[jr.randint(key, (batch_size,), 0, len(dataset.transitions))]


def _chunk(
    rows: Int[Array, " batch"], last: Int[Array, " batch"], chunk: int
) -> Int[Array, "batch chunk"]:
    """Return the rows of the actions from each row on; past the last one it is repeated."""
    return jnp.minimum(rows[:, None] + jnp.arange(chunk), last[:, None])


def _over_chunk(
    rewards: Float[Array, "batch chunk"],
    masks: Float[Array, "batch chunk"],
    left: Int[Array, " batch"],
    discount: float,
) -> tuple[Array, Array, Array]:
    """Return reward and mask of chunks as of one action, and how many steps each has.

    Args:
        rewards: Of each step.
        masks: Of each step, 0 where it ends.
        left: Steps of the trajectory that follow the first.
        discount: gamma.
    """
    chunk = rewards.shape[1]
    place = jnp.arange(chunk)
    goes_on = jnp.cumprod(masks, axis=1)
    # Of a step: whether the chunk reaches it before the episode's or the trajectory's end.
    before = jnp.pad(goes_on[:, :-1], ((0, 0), (1, 0)), constant_values=1.0)
    reached = before * (place <= left[:, None])
    taken = jnp.minimum(left + 1, chunk)
    reward = (discount**place * reached * rewards).sum(1)
    return reward, discount ** (taken - 1.0) * goes_on[:, -1], taken


def _mixed(
    dataset: Dataset,
    keys: Sequence[PRNGKeyArray] | PRNGKeyArray,
    rows: Int[Array, " batch"],
    last: Int[Array, " batch"],
    discount: float,
    mixture: GoalMixture,
) -> tuple[Int[Array, " batch"], Bool[Array, " batch"]]:
    """Draw the rows of goals, none past ``last``, and say which are of the mixture's random ones.

    The keys are those of later goals, of random goals, and of which a goal is.
    """
    later_key, random_key, kind_key = keys
    ahead = _geometric if mixture.geometric else _uniform
    later = rows + ahead(later_key, last - rows, discount)
    kind = jr.uniform(kind_key, rows.shape)
    others = _rows(dataset, random_key, len(rows))
    elsewhere = (kind >= mixture.same) & (kind < mixture.same + mixture.random)
    return jnp.where(kind < mixture.same, rows, jnp.where(elsewhere, others, later)), elsewhere


def _geometric(key: PRNGKeyArray, most: Int[Array, " batch"], discount: float) -> Array:
    """Draw Delta ~ Geom(1 - gamma) of 1 and more, at the most ``most``."""
    delta = jr.geometric(key, 1 - discount, most.shape, dtype=jnp.int32)
    # Compared before it is added: the longest Delta are as large as an int32 can be.
    return jnp.minimum(delta, most)


def _uniform(key: PRNGKeyArray, most: Int[Array, " batch"], discount: float) -> Array:
    """Draw Delta between 1 and ``most``, rounded to a step: both ends are half as likely."""
    least = jnp.minimum(1, most)
    return least + jnp.round(jr.uniform(key, most.shape) * (most - least)).astype(jnp.int32)
