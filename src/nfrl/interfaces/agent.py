"""What an agent that learns from a data set can do, as types; agents do not inherit from them."""

import dataclasses
from typing import Any, Protocol, Self

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.data.dataset import Dataset
from nfrl.errors import UserError


class Agent(Protocol):
    """A value: a pytree of networks and optimiser state, whose methods are pure functions."""

    @property
    def policy(self) -> Any:
        """The networks that act: what is needed after training."""

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Any:
        """Draw the batch that an update takes: a named tuple from :mod:`nfrl.data.samplers`."""
        ...

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take one gradient step; return the new agent and scalar metrics."""
        ...

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return scalar metrics of held-out data."""
        ...

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose one action in [-1, 1]; agents that learn from rewards pass over the goal."""
        ...


class Wrapper(eqx.Module):
    """An agent that stands around another, which it lets see things its own way.

    Everything is the other's, but for what :meth:`see_batch` and :meth:`see` make of what it is
    given.
    """

    agent: Agent

    def see_batch(self, batch: Any) -> Any:
        """Return a batch as the agent within is to see it."""
        return batch

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Return an observation and a goal as the agent within is to see them."""
        return observation, goal

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Any:
        """Draw a batch as the agent within does."""
        return self.agent.draw(dataset, key, batch_size)

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take its gradient step."""
        agent, metrics = self.agent.update(self.see_batch(batch), key)
        return dataclasses.replace(self, agent=agent), metrics

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return its metrics of a held-out batch."""
        return self.agent.validate(self.see_batch(batch), key)

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose its action; a goal has an observation's width, or none."""
        return self.agent.act(*self.see(observation, goal), key)

    @property
    def policy(self) -> Any:
        """The networks that act, in the units of the agent within."""
        return self.agent.policy

    @property
    def optimizer_state(self) -> Any:
        """What the agent's optimisers remember."""
        return self.agent.optimizer_state  # type: ignore[attr-defined]


class AgentConfig(Protocol):
    """A frozen dataclass of hyperparameters that builds an agent."""

    @property
    def standardize(self) -> bool:
        """Whether :func:`nfrl.agents.build_agent` is to standardize the observations."""

    @property
    def chunk(self) -> int:
        """Actions that are chosen at once."""

    @property
    def executed(self) -> int | None:
        """How many of them are executed before the next are chosen; None for all."""

    def build(self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int) -> Agent:
        """Build an untrained agent for a run of so many steps."""
        ...


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1).

    Raises:
        UserError: It is.
    """
    if not 0 <= discount < 1:
        raise UserError(f"discount must lie in [0, 1); got {discount}")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature of samples that is below zero.

    Raises:
        UserError: It is.
    """
    if not temperature >= 0:
        raise UserError(f"temperature must be at least 0; got {temperature}")


def check_unit(unit: float) -> None:
    """Refuse a unit of a critic's outputs that is not greater than zero.

    Raises:
        UserError: It is not.
    """
    if not unit > 0:
        raise UserError(f"critic-unit must be greater than 0; got {unit}")


def check_positive(config: object, *names: str) -> None:
    """Refuse a configuration whose fields of these names, counts of something, are not all >= 1.

    Raises:
        UserError: One is less; the message names it as the command line does.
    """
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise UserError(f"{name.replace('_', '-')} must be at least 1; got {value}")
