"""What an agent is to everything outside :mod:`nfrl.agents`; agents do not inherit from it.

An agent says what it needs and can do (:class:`Capabilities`), so that nothing asks for its type or
its name.
"""

import dataclasses
from typing import Any, Protocol, Self

from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What an agent needs and can do.

    Attributes:
        goals: It learns from hindsight goals, and acts towards a goal that it is told.
        rewards: It learns from transitions, which must have rewards.
        explores: It learns in a simulated maze, from no data.
        online: It can go on learning from transitions of its own.
        likelihood: It has ``log_prob``.
        values: It has ``q``.
        draws_chunks: Its ``draw`` takes ``chunk``, a number of actions in a row that are one. Where
            it does not, what a chunk is drawn with follows from ``goals`` and ``rewards``.
        history: How many of the latest observations ``act`` is given, as (history, observation);
            None for the present one alone, as (observation,).
        predicted: How many actions ``act`` returns, as (predicted, action); None for one, as
            (action,).
        executed: How many of them are executed before the next are chosen.
        discount: gamma of a step, of future rewards or of hindsight goals; 1 where it has none.
    """

    goals: bool = False
    rewards: bool = False
    explores: bool = False
    online: bool = False
    likelihood: bool = False
    values: bool = False
    draws_chunks: bool = False
    history: int | None = None
    predicted: int | None = None
    executed: int = 1
    discount: float = 1.0

    @property
    def plans(self) -> bool:
        """Whether it looks back or plans ahead, so that something must be remembered for it."""
        return self.history is not None or self.predicted is not None


class Agent(Protocol):
    """A value: a pytree of networks and optimiser state, whose methods are pure functions."""

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""

    @property
    def policy(self) -> Any:
        """The networks that act: what is needed after training."""

    @property
    def optimizer_state(self) -> Any:
        """What its optimisers remember; not needed to act."""

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Any:
        """Draw the batch that an update takes: a named tuple from :mod:`nfrl.data.samplers`.

        Which rows it takes depends on the key, the trajectories' ends and the agent's
        configuration alone, never on weights or on other rows: those of streamed data are fetched
        before the updates that come before them.
        """
        ...

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take one gradient step; return the new agent and scalar metrics, ``loss`` among them."""
        ...

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return scalar metrics of held-out data."""
        ...

    def act(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*predicted action"]:
        """Choose the next action or actions, in the data's units.

        Args:
            observation: What its capabilities say: the present observation, or the latest ones.
            goal: As wide as an observation; of any width for agents that seek no goals, which pass
                it over.
            key: Random key.
        """
        ...


class LikelihoodAgent(Agent, Protocol):
    """An agent whose capabilities have a likelihood."""

    def log_prob(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "*predicted action"],
    ) -> Float[Array, ""]:
        """Return the log-density of what ``act`` may return, in nats and in the data's units."""
        ...


class ValueAgent(Agent, Protocol):
    """An agent whose capabilities have values."""

    def q(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "*predicted action"],
    ) -> Float[Array, ""]:
        """Return what its critics expect of an action: the discounted sum of rewards."""
        ...


class AgentConfig(Protocol):
    """A frozen dataclass of hyperparameters that builds an agent."""

    @property
    def capabilities(self) -> Capabilities:
        """What the agent will need and be able to do."""

    def build(self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None) -> Any:
        """Build an untrained :class:`Agent`, or an explorer.

        Args:
            key: Random key of the initial weights.
            spec: What is observed and done.
            steps: Length of the run, which learning-rate schedules span.
            data: What normalisers are fitted to; None where a checkpoint is to be loaded, and
                shapes are all that matters.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ChunkShape:
    """How far back an agent looks, how far ahead it plans, and how much of that it does."""

    history: int = 2
    """Observations H that it sees, the present one included."""
    predicted: int = 16
    """Actions P that it predicts."""
    executed: int = 8
    """Actions E that it executes before it predicts anew."""

    def __post_init__(self):
        if self.history < 1 or not 1 <= self.executed <= self.predicted:
            raise UserError(
                "history must be at least 1, and executed from 1 to predicted; got "
                f"{self.history}, {self.executed} and {self.predicted}"
            )
