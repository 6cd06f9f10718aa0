"""What an agent that learns from a data set can do, as types; agents do not inherit from them."""

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
    """What agents have in common that stand around another: its networks and its optimisers."""

    agent: Agent

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
