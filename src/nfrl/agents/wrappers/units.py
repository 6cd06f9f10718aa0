"""Actions as they are, for agents that know [-1, 1] alone.

A column of actions is translated by what the data show of it (:class:`nfrl.spec.ActionSpec`):

    a continuum in [low, high]   x = 2 (a - low) / (high - low) - 1
    one value, a locked joint    left out; the agent never sees it, and it comes back exactly
    K values, a gripper          value k becomes a place in the k-th of K equal parts of [-1, 1],
                                 drawn anew at every update; any place in a part is read as its
                                 value

The last is dequantisation (Theis et al., 2016): the density of a part is the probability of its
value. Places are drawn from the middle half of a part, so that training noise does not carry them
into the next.
"""

import dataclasses
import math
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.wrappers.wrapper import Build, Wrapper
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent
from nfrl.spec import ActionSpec, Spec

PLACES = 64
"""Places in a part of [-1, 1] by which the probability of a value is estimated."""
_ACTIONS = ("actions", "next_actions")


def build_in_units(
    build: Build,
    key: PRNGKeyArray,
    spec: Spec,
    steps: int,
    data: Dataset | None,
) -> Agent:
    """Build an agent of actions in [-1, 1], for a spec of any actions.

    Args:
        build: Builds the agent: of (key, spec, steps, data).
        key: Random key of the initial weights.
        spec: What is observed and done, in the data's units.
        steps: Length of the run.
        data: What normalisers are fitted to, in the data's units; None for none.

    Raises:
        UserError: Every column of the actions is constant: there is nothing to learn.
    """
    if spec.action.is_unit:
        return build(key, spec, steps, data)
    units = ActionUnits(spec.action)
    if not units.dim:
        raise UserError("every column of the actions is constant: there is nothing to learn")
    within = dataclasses.replace(spec, action=ActionSpec.unit(units.dim))
    if data is not None:
        data = dataclasses.replace(data, actions=units.encode(data.actions))
    return InUnits(build(key, within, steps, data), units)


@dataclasses.dataclass(frozen=True)
class ActionUnits:
    """The translation of actions between the data's units and [-1, 1]."""

    spec: ActionSpec

    @property
    def free(self) -> tuple[int, ...]:
        """The columns that are no constants."""
        return tuple(i for i, values in enumerate(self.spec.values) if not _is_constant(values))

    @property
    def dim(self) -> int:
        """Width of an action within."""
        return len(self.free)

    @property
    def parts(self) -> np.ndarray:
        """For each column within, into how many parts [-1, 1] is divided; 0 for a continuum."""
        return np.array([len(self.spec.values[i] or ()) for i in self.free])

    def encode(
        self,
        actions: Float[Array, "*batch action"],
        places: Float[Array, "*batch within"] | float = 0.0,
    ) -> Float[Array, "*batch within"]:
        """Translate actions of the data.

        Args:
            actions: In the data's units; of a column of few values the nearest counts.
            places: Of columns of few values the place in its part, -1 at its beginning and 1 at its
                end.
        """
        places = jnp.broadcast_to(places, (*actions.shape[:-1], self.dim))
        columns = []
        for j, i in enumerate(self.free):
            column, low, high = actions[..., i], self.spec.low[i], self.spec.high[i]
            values = self.spec.values[i]
            if values is None:
                columns.append(2 * (column - low) / (high - low) - 1)
            else:
                index = jnp.abs(column[..., None] - jnp.asarray(values)).argmin(-1)
                columns.append((2 * index + 1 + places[..., j]) / len(values) - 1)
        return jnp.stack(columns, axis=-1)

    def decode(self, x: Float[Array, "*batch within"]) -> Float[Array, "*batch action"]:
        """Translate actions of the agent."""
        columns: list[Array] = [
            jnp.full(x.shape[:-1], values[0] if _is_constant(values) and values else 0.0)
            for values in self.spec.values
        ]
        for j, i in enumerate(self.free):
            low, high, values = self.spec.low[i], self.spec.high[i], self.spec.values[i]
            if values is None:
                columns[i] = low + (x[..., j] + 1) / 2 * (high - low)
            else:
                index = jnp.floor((x[..., j] + 1) / 2 * len(values)).astype(int)
                columns[i] = jnp.asarray(values)[jnp.clip(index, 0, len(values) - 1)]
        return jnp.stack(columns, axis=-1).astype(jnp.float32)

    def jitter(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array | float:
        """Draw places in the middle half of a part; 0 where no column has few values."""
        if not self.parts.any():
            return 0.0
        return jr.uniform(key, (*shape, self.dim), minval=-0.5, maxval=0.5)

    @property
    def log_det(self) -> float:
        """The log-determinant of ``encode`` for the columns that are a continuum."""
        spans = [
            self.spec.high[i] - self.spec.low[i] for i in self.free if self.spec.values[i] is None
        ]
        return sum(math.log(2 / span) for span in spans)

    @property
    def log_width(self) -> float:
        """The log-volume of a part, over the columns of few values."""
        return sum(math.log(2 / count) for count in self.parts if count)


class InUnits(Wrapper):
    """An agent that knows [-1, 1] alone, as one of the data's units."""

    units: ActionUnits = eqx.field(static=True)

    def see_batch(self, batch: Any, key: PRNGKeyArray | None = None) -> Any:
        """Translate its actions; without a key, a value becomes the middle of its part."""
        translated = {}
        for name in _ACTIONS:
            if name in batch._fields:
                actions = getattr(batch, name)
                steps = actions.reshape(*actions.shape[:-1], -1, self.units.spec.dim)
                places = 0.0 if key is None else self.units.jitter(key, steps.shape[:-1])
                translated[name] = self.units.encode(steps, places).reshape(*actions.shape[:-1], -1)
        return batch._replace(**translated)

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take its gradient step, with new places of values."""
        place_key, key = jr.split(key)
        agent, metrics = self.agent.update(self.see_batch(batch, place_key), key)
        return dataclasses.replace(self, agent=agent), metrics

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return its metrics of a held-out batch, with places of values drawn as in training.

        A ``log_prob`` among them is a density of the agent's units.
        """
        place_key, key = jr.split(key)
        return self.agent.validate(self.see_batch(batch, place_key), key)

    def act(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*predicted action"]:
        """Choose an action in the data's units."""
        return self.units.decode(self.agent.act(observation, goal, key))

    def log_prob(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "*predicted action"],
    ) -> Float[Array, ""]:
        """Return how likely an action is, in nats and in the data's units.

        It is the log-density of the columns that are a continuum, plus the log-probability of the
        values that the others have: the agent's density, integrated over their parts of [-1, 1] by
        quasi-Monte Carlo with ``PLACES`` places, whose logarithm is low by a little. It is minus
        infinity where a constant column has another value. Columns of constants add nothing.
        """
        units = self.units
        steps = math.prod(action.shape[:-1])
        density = _mean_density(self, observation, goal, action)
        total = density + steps * (units.log_det + units.log_width)
        for i, values in enumerate(units.spec.values):
            if _is_constant(values) and values:
                right = jnp.abs(action[..., i] - values[0]) < 1e-4 * max(1.0, abs(values[0]))
                total = jnp.where(right.all(), total, -jnp.inf)
        return total

    def q(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "*predicted action"],
    ) -> Float[Array, ""]:
        """Return the critics' value of an action of the data's units."""
        return super().q(observation, goal, self.units.encode(action))


def _mean_density(agent: InUnits, observation: Array, goal: Array, action: Array) -> Array:
    """Return the log of the density's mean over the parts that the action's values stand for."""
    units, within = agent.units, agent.agent
    if not units.parts.any():
        return within.log_prob(observation, goal, units.encode(action))  # type: ignore[attr-defined]
    shape = (*action.shape[:-1], units.dim)
    places = _spread(math.prod(shape)).reshape(PLACES, *shape)

    def at(places: Array) -> Array:
        return within.log_prob(observation, goal, units.encode(action, places))  # type: ignore[attr-defined]

    log_probs = jax.vmap(at)(jnp.asarray(places, jnp.float32))
    return jax.nn.logsumexp(log_probs) - math.log(PLACES)


def _spread(dim: int) -> np.ndarray:
    """Return ``PLACES`` points that fill [-1, 1]^dim evenly (Roberts' additive recurrence)."""
    root = 2.0
    for _ in range(64):  # the positive root of x^(dim + 1) = x + 1
        root = (1 + root) ** (1 / (dim + 1))
    steps = (1 / root) ** np.arange(1, dim + 1)
    points = (0.5 + np.arange(1, PLACES + 1)[:, None] * steps) % 1
    return 2 * points - 1


def _is_constant(values: tuple[float, ...] | None) -> bool:
    return values is not None and len(values) == 1
