"""Chunks of actions as single actions, for agents that learn from rewards.

Li, Zhou and Levine (2025), "Reinforcement Learning with Action Chunking": h actions in a row are
one action of the agent, and a Q-function of the whole chunk is backed up over h steps at once,

    Q(s_t, a_t ... a_{t+h-1})  <-  sum_{i < h} gamma^i r_{t+i} + gamma^h Q(s_{t+h}, a'),

without the bias of n-step targets, since the chunk is the one that the data executed. Not in the
paper of NF-RLBC, whose agents choose one action at a time.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.agent import Agent
from nfrl.agents.imitation import ChunkShape
from nfrl.agents.standardized import Standardizable
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_chunk_transitions
from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chunkable(Standardizable):
    """What the configurations of agents have in common that can plan chunks."""

    chunk: int = 1
    """Actions h that are chosen at once, and executed before the next are chosen. 1 in the
    paper."""

    def __post_init__(self):
        if self.chunk < 1:
            raise UserError(f"chunk must be at least 1; got {self.chunk}")


@dataclasses.dataclass(frozen=True)
class ChunkedConfig:
    """What the executing loop reads, and the discount of one step."""

    chunks: ChunkShape
    discount: float


class Chunked(eqx.Module):
    """An agent whose actions are chunks, as one that plans them for an environment of steps."""

    agent: Agent
    config: ChunkedConfig = eqx.field(static=True)

    @classmethod
    def of(cls, agent: Agent, chunk: int, discount: float) -> "Chunked":
        """Wrap an agent whose actions are ``chunk`` of the environment's, laid out as one vector.

        Args:
            agent: The agent.
            chunk: Steps of the environment that one of its actions takes.
            discount: Of the rewards of each of those steps.
        """
        shape = ChunkShape(history=1, predicted=chunk, executed=chunk)
        return cls(agent, ChunkedConfig(shape, discount))

    @property
    def policy(self) -> Any:
        """The networks that act."""
        return self.agent.policy

    @property
    def optimizer_state(self) -> Any:
        """What the agent's optimisers remember."""
        return self.agent.optimizer_state  # type: ignore[attr-defined]

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions over whole chunks."""
        return sample_chunk_transitions(
            dataset,
            key,
            batch_size,
            chunk=self.config.chunks.predicted,
            discount=self.config.discount,
        )

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["Chunked", dict[str, Array]]:
        """Take the agent's gradient step."""
        agent, metrics = self.agent.update(batch, key)
        return Chunked(agent, self.config), metrics

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the agent's metrics of held-out chunks."""
        return self.agent.validate(batch, key)

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " chunk*action"]:
        """Choose the next actions as the agent does: laid out as one vector, in [-1, 1]."""
        return self.agent.act(observation, goal, key)

    def act_chunk(
        self, history: Float[Array, "1 observation"], key: PRNGKeyArray
    ) -> Float[Array, "chunk action"]:
        """Choose the next actions, each in [-1, 1]."""
        flat = self.agent.act(history[-1], jnp.zeros(0), key)
        return flat.reshape(self.config.chunks.predicted, -1)
