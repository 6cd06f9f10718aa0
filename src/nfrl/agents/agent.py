"""What every goal-conditioned agent can do, as types; the agents do not inherit from them."""

from typing import Any, Protocol, Self

from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.data.samplers import GoalBatch


class Agent(Protocol):
    """A value: a pytree of networks and optimiser state, whose methods are pure functions."""

    @property
    def policy(self) -> Any:
        """The networks that act: what is needed after training."""

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take one gradient step; return the new agent and scalar metrics."""
        ...

    def validate(self, batch: GoalBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return scalar metrics of held-out data."""
        ...

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose one action in [-1, 1] for one observation."""
        ...


class AgentConfig(Protocol):
    """A frozen dataclass of hyperparameters that builds an agent."""

    def build(self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int) -> Agent:
        """Build an untrained agent for a run of so many steps."""
        ...
