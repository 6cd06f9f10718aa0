"""The wrappers by options: ``NFGCBCConfig(chunk=5)`` is ``Chunk(NFGCBCConfig(), 5)``.

On the command line they are flags of every agent that has them: ``--agent.chunk 5``.
"""

import dataclasses
from functools import partial
from typing import Any, ClassVar

from jaxtyping import PRNGKeyArray

from nfrl.agents.parts.checks import check_positive
from nfrl.agents.wrappers.chunked import Chunk
from nfrl.agents.wrappers.images import ImageOptions, build_with_images
from nfrl.agents.wrappers.partial_goals import ShowGoals
from nfrl.agents.wrappers.standardized import Standardize
from nfrl.agents.wrappers.units import build_in_units
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, AgentConfig, Capabilities
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class AgentOptions:
    """What configurations have in common of agents that choose one action for one observation.

    A configuration adds its own fields, what its algorithm can do (``algorithm``), and
    ``build_algorithm``. It gets actions of any bounds translated to [-1, 1], and these options.
    """

    standardize: bool = False
    """Give the networks observations and goals of mean 0 and deviation 1 over the data. Not in the
    paper, whose networks get them raw."""
    chunk: int = 1
    """Actions h that are chosen at once; the tokens of a flow of sequences. 1 in the paper."""
    executed: int | None = None
    """How many of them are executed before the next are chosen; all unless told. Fewer correct a
    chunk's errors sooner, at the price of choosing more often. Going on online, actions that are
    learned from are executed in whole chunks."""
    images: ImageOptions = ImageOptions()
    """How it sees images, where there are any."""

    algorithm: ClassVar[Capabilities] = Capabilities()

    def __post_init__(self):
        check_positive(self, "chunk")
        if self.executed is not None and not 1 <= self.executed <= self.chunk:
            raise UserError(
                f"executed must be from 1 to the chunk's {self.chunk}; got {self.executed}"
            )

    @property
    def wrapped(self) -> AgentConfig:
        """The algorithm within the wrappers that the options name."""
        config: AgentConfig = Algorithm(self)
        if self.standardize:
            config = Standardize(config)
        if self.shown_columns:
            config = ShowGoals(config, self.shown_columns)
        return config if self.chunk == 1 else Chunk(config, self.chunk, self.executed)

    @property
    def shown_columns(self) -> tuple[int, ...]:
        """The columns of goals that are shown; none named for all."""
        return ()

    @property
    def capabilities(self) -> Capabilities:
        """What the agent will need and be able to do."""
        return self.wrapped.capabilities

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build an untrained agent; see :class:`nfrl.interfaces.agent.AgentConfig`."""
        build = partial(build_with_images, self.wrapped.build, self.images)
        return build_in_units(build, key, spec, steps, data)

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> Any:
        """Build the algorithm's agent, for actions in [-1, 1].

        Args:
            key: Random key of the initial weights.
            observation_dim: Width of an observation, and of a goal.
            action_dim: Width of an action, or of a chunk laid out as one.
            steps: Length of the run, which the learning-rate schedule spans.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class GoalOptions(AgentOptions):
    """What the configurations of goal-conditioned agents have in common."""

    goal_columns: tuple[int, ...] = ()
    """Columns of an observation that goals show; the others are zeros. None named: the whole
    observation, as in the paper. Those that decide success are in the preset far-sighted."""

    def __post_init__(self):
        super().__post_init__()
        if any(column < 0 for column in self.goal_columns):
            raise UserError(f"goal-columns must be at least 0; got {self.goal_columns}")

    @property
    def shown_columns(self) -> tuple[int, ...]:
        return self.goal_columns


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A configuration without its options: the algorithm alone."""

    config: AgentOptions

    @property
    def capabilities(self) -> Capabilities:
        """The algorithm's, with the discount that the configuration has, if any."""
        discount = getattr(self.config, "discount", 1.0)
        return dataclasses.replace(self.config.algorithm, discount=discount)

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build it; see :class:`nfrl.interfaces.agent.AgentConfig`."""
        return self.config.build_algorithm(key, spec.observation_dim, spec.action_dim, steps)
