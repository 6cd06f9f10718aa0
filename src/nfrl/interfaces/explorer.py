"""What an agent that explores can do, and what it explores; neither is inherited from."""

from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nfrl.data.samplers import GoalBatch
from nfrl.interfaces.agent import Capabilities


class Explorer(Protocol):
    """An agent that chooses its own goals: places (x, y), the first two coordinates of a state.

    A value: a pytree of networks and optimiser state, whose methods are pure functions.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""

    @property
    def policy(self) -> Any:
        """The networks that act: what is needed after training."""

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take one gradient step of every part; return the new agent and scalar metrics."""
        ...

    def act(
        self, observation: Float[Array, " observation"], goal: Float[Array, "2"], key: PRNGKeyArray
    ) -> Float[Array, " action"]:
        """Sample one action in [-1, 1]."""
        ...

    @property
    def commands_test_goals(self) -> bool:
        """Whether :meth:`command` chooses among the test's goals, in place of the buffer's."""

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

    def coverage(self, goals: Float[Array, "*batch 2"]) -> Float[Array, "*batch"] | None:
        """Return log p(g) of where it has been; None if it has no such density."""


class Robot(Protocol):
    """A simulator as pure functions of one robot's state; batching is ``vmap``."""

    @property
    def observation_dim(self) -> int:
        """Width of an observation, whose first two coordinates are the position (x, y)."""

    @property
    def action_dim(self) -> int:
        """Width of an action in [-1, 1]."""

    @property
    def episode_length(self) -> int:
        """Steps of an episode, which nothing ends before."""

    def reset(self, key: PRNGKeyArray) -> Any:
        """Return a state to begin an episode from."""

    def step(self, state: Any, action: Float[Array, " action"]) -> Any:
        """Return the state one step later."""

    def observation(self, state: Any) -> Float[Array, " observation"]:
        """Return what the agent sees of a state."""
        ...


class World(Protocol):
    """Somewhere to explore, simulated in JAX: a robot, places to go to, and a map of cells."""

    @property
    def name(self) -> str:
        """The task's name."""

    @property
    def robot(self) -> Robot:
        """What moves."""

    @property
    def goals(self) -> Float[np.ndarray, "goals 2"]:
        """The evaluation goals."""

    @property
    def is_far(self) -> Bool[np.ndarray, " goals"]:
        """Which of them count as hard."""

    @property
    def radii(self) -> tuple[float, float]:
        """How near to a goal counts as reaching it, and as nearly reaching it."""

    @property
    def free(self) -> Bool[np.ndarray, "rows columns"]:
        """Which cells of the map can be visited."""

    def goal_of(self, observation: Float[Array, "*batch observation"]) -> Float[Array, "*batch 2"]:
        """Return the goal that a state reaches."""

    def cell_of(self, place: Float[Array, "*batch 2"]) -> Int[Array, "*batch 2"]:
        """Return the (row, column) of the map that a place lies in; it may lie outside."""

    def snapshot(
        self,
        agent: Explorer,
        goals: Float[Array, "environments 2"],
        visits: Int[Array, "rows columns"],
    ) -> dict[str, Array]:
        """Return what there is to draw of an agent and its doings, as arrays."""

    def frame(self) -> dict[str, np.ndarray]:
        """Return what every picture has: walls, goals, axes."""
        ...
