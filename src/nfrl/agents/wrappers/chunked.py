"""Chunks of actions as single actions, for agents that choose one at a time.

h actions in a row are one action of the agent, of which it executes all, or the first few, before
it chooses anew. An agent that learns from rewards values the whole chunk, and backs it up over h
steps at once (Li, Zhou and Levine, 2025, "Reinforcement Learning with Action Chunking"),

    Q(s_t, a_t ... a_{t+h-1})  <-  sum_{i < h} gamma^i r_{t+i} + gamma^h Q(s_{t+h}, a'),

without the bias of n-step targets, since the chunk is the one that the data executed. Neither is in
the paper of NF-GCBC and NF-RLBC.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.wrappers.standardized import Standardizable
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, Wrapper, check_positive
from nfrl.interfaces.imitation import ChunkShape


@dataclasses.dataclass(frozen=True)
class Chunkable(Standardizable):
    """What the configurations of agents have in common that can plan chunks."""

    chunk: int = 1
    """Actions h that are chosen at once. 1 in the paper."""
    executed: int | None = None
    """How many of them are executed before the next are chosen; all unless told. Fewer correct a
    chunk's errors sooner, at the price of choosing more often. Going on online, actions that are
    learned from are executed in whole chunks."""

    def __post_init__(self):
        check_positive(self, "chunk")
        if self.executed is not None and not 1 <= self.executed <= self.chunk:
            raise UserError(
                f"executed must be from 1 to the chunk's {self.chunk}; got {self.executed}"
            )


@dataclasses.dataclass(frozen=True)
class ChunkedConfig:
    """What the executing loop reads; the discount of a step; what draws chunks of the data."""

    chunks: ChunkShape
    discount: float
    sample: Callable[..., Any]


class Chunked(Wrapper):
    """An agent whose actions are chunks, as one that plans them for an environment of steps."""

    config: ChunkedConfig = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        agent: Agent,
        chunk: int,
        discount: float,
        sample: Callable[..., Any],
        executed: int | None = None,
    ) -> "Chunked":
        """Wrap an agent whose actions are ``chunk`` of the environment's, laid out as one vector.

        Args:
            agent: The agent.
            chunk: Steps of the environment that one of its actions takes.
            discount: Of each of those steps.
            sample: Draws a batch of chunks, of (dataset, key, batch_size, chunk=, discount=).
            executed: Of those steps, how many are taken before the next action is chosen; all
                unless told.
        """
        shape = ChunkShape(history=1, predicted=chunk, executed=executed or chunk)
        return cls(agent, ChunkedConfig(shape, discount, sample))

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Any:
        """Draw a batch whose actions are chunks."""
        chunk, discount = self.config.chunks.predicted, self.config.discount
        return self.config.sample(dataset, key, batch_size, chunk=chunk, discount=discount)

    def act_chunk(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, "chunk action"]:
        """Choose the next actions, each in [-1, 1]."""
        return self.act(observation, goal, key).reshape(self.config.chunks.predicted, -1)
