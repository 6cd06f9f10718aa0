"""What an agent that explores mazes can do, as types; the agents do not inherit from them."""

from typing import Any, Protocol, Self

from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.data.samplers import GoalBatch


class Explorer(Protocol):
    """A value: a pytree of networks and optimiser state, whose methods are pure functions.

    A goal is a place (x, y), the first two coordinates of the states there.
    """

    @property
    def policy(self) -> Any:
        """The networks that act: what is needed after training."""

    @property
    def commands_test_goals(self) -> bool:
        """Whether :meth:`command` chooses among the test's goals, in place of the buffer's."""

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take one gradient step of every part; return the new agent and scalar metrics."""
        ...

    def act(
        self, observation: Float[Array, " observation"], goal: Float[Array, "2"], key: PRNGKeyArray
    ) -> Float[Array, " action"]:
        """Sample one action in [-1, 1]."""
        ...

    def command(
        self,
        key: PRNGKeyArray,
        candidates: Float[Array, "candidates 2"],
        start: Float[Array, " observation"],
    ) -> Float[Array, "2"]:
        """Choose the goal of an episode that begins at ``start``."""
        ...

    def q(
        self,
        observation: Float[Array, " observation"],
        action: Float[Array, " action"],
        goal: Float[Array, "*batch 2"],
    ) -> Float[Array, "*batch"]:
        """Return Q(s, a, g) of one or many goals."""
        ...


class ExplorerConfig(Protocol):
    """A frozen dataclass of hyperparameters that builds an explorer."""

    def build(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int = 0
    ) -> Explorer:
        """Build an untrained agent."""
        ...
