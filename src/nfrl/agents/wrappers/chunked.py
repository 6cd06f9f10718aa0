"""Chunks of actions as single actions, for agents that choose one at a time.

h actions in a row are one action of the agent, of which it executes all, or the first few, before
it chooses anew. An agent that learns from rewards values the whole chunk, and backs it up over h
steps at once (Li, Zhou and Levine, 2025, "Reinforcement Learning with Action Chunking"),

    Q(s_t, a_t ... a_{t+h-1})  <-  sum_{i < h} gamma^i r_{t+i} + gamma^h Q(s_{t+h}, a'),

without the bias of n-step targets, since the chunk is the one that the data executed. Neither is in
the paper of NF-GCBC and NF-RLBC.
"""

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.wrappers.wrapper import Wrapper
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import sample_chunk_transitions, sample_goals, sample_pairs
from nfrl.interfaces.agent import Agent, AgentConfig, Capabilities, ChunkShape
from nfrl.spec import ActionSpec, Spec


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Let an agent choose several actions at once: ``Chunk(NFRLBCConfig(), 5)``.

    The agent sees a chunk as one wide action. An agent with a flow of sequences is best named with
    its own option, ``NFRLBCConfig(chunk=5)``, which also tells the flow where each action begins.

    Args:
        agent: Of one action at a time, of observations without history.
        chunk: Actions that are chosen at once.
        executed: How many of them are executed before the next are chosen; all unless told.
    """

    agent: AgentConfig
    chunk: int
    executed: int | None = None

    @property
    def capabilities(self) -> Capabilities:
        """The agent's, and that it plans."""
        shape = ChunkShape(1, self.chunk, self.executed or self.chunk)
        return dataclasses.replace(
            self.agent.capabilities, predicted=shape.predicted, executed=shape.executed
        )

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build it; see :class:`nfrl.interfaces.agent.AgentConfig`."""
        one = spec.action
        wide = ActionSpec(one.low * self.chunk, one.high * self.chunk, one.values * self.chunk)
        within = dataclasses.replace(spec, action=wide)
        return Chunked(self.agent.build(key, within, steps, data), self.capabilities)


class Chunked(Wrapper):
    """An agent whose actions are chunks, as one that plans them for an environment of steps."""

    declared: Capabilities = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """The agent's, and that it plans."""
        return self.declared

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int, **how: int) -> Any:
        """Draw a batch whose actions are chunks."""
        assert not how, "a chunk has no chunks"
        chunk, discount = self.declared.predicted, self.declared.discount
        assert chunk is not None
        if self.declared.draws_chunks:
            return self.agent.draw(dataset, key, batch_size, chunk=chunk)  # type: ignore[call-arg]
        if not (self.declared.goals or self.declared.rewards):
            return sample_pairs(dataset, key, batch_size, chunk=chunk)
        sample = sample_goals if self.declared.goals else sample_chunk_transitions
        return sample(dataset, key, batch_size, chunk=chunk, discount=discount)

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "predicted action"]:
        """Choose the next actions."""
        return self.agent.act(observation, goal, key).reshape(self.declared.predicted, -1)

    def log_prob(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "predicted action"],
    ) -> Float[Array, ""]:
        """Return the log-density of a chunk."""
        return super().log_prob(observation, goal, action.reshape(-1))

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "predicted action"],
    ) -> Float[Array, ""]:
        """Return the critics' value of a chunk."""
        return super().q(observation, goal, action.reshape(-1))
