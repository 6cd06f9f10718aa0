"""NF-BC: imitation of chunks of actions with a flow policy (Ghugare and Eysenbach, 2025, 5.1).

max E_{(s, a) ~ D} log pi(a + sigma eps | s), with s a history of observations and a a chunk of
actions, both normalised and laid out as one vector.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.random as jr
import optax
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.chunks import (
    ChunkImitator,
    draw_chunks,
    flat_chunks,
    flat_histories,
    to_actions,
)
from nfrl.agents.parts.flow_policy import FlowPolicy, FlowPolicyConfig, LikelihoodActing
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.data.samplers import ChunkBatch
from nfrl.flows import FlowConfig, RealNVPConfig, rounded_networks
from nfrl.interfaces.agent import Capabilities, ChunkShape
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class NFBCConfig(ChunkImitator, LikelihoodActing, FlowPolicyConfig):
    """NF-BC with the paper's values."""

    likelihood: ClassVar[bool] = True

    flow: FlowConfig = RealNVPConfig(blocks=12, channels=512)
    """The density of chunks (the code: 24 blocks for PushT)."""
    condition_dim: int = 512
    """Width k of the encoded history (the code: 256 for PushT, 1024 for the kitchen)."""
    chunks: ChunkShape = ChunkShape()
    """History, prediction and execution (the code's defaults)."""
    noise: float = 0.1
    """sigma of the training noise on the normalised actions."""
    denoising: bool = True
    """Remove the noise when acting, by one score step."""
    optimizer: AdamW = AdamW()
    """AdamW, 3e-4 (the code: 1e-3 for PushT), weight decay 1e-6, warm-up 500, cosine to 1e-6."""

    def build_algorithm(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        steps: int,
        normalizers: Normalizers,
    ) -> "NFBC":
        """Build an untrained agent; arguments as in :class:`ChunkImitator`."""
        shape = self.chunks
        plain = self.build_policy(
            key,
            shape.history * observation_dim,
            shape.predicted * action_dim,
            chunk=shape.predicted,
            acting=self,
        )
        policy = ChunkFlow(normalizers, plain.encoder, plain.flow, plain.droppable)
        return NFBC(policy, initial_state(self.optimizer.build(steps), policy), self, steps)


class ChunkFlow(eqx.Module):
    """pi(a | s): an encoder of the history and a density of flat chunks, any flowjax one."""

    normalizers: Normalizers
    encoder: MLP
    flow: AbstractDistribution
    droppable: bool = eqx.field(static=True, default=False)

    @property
    def plain(self) -> FlowPolicy:
        """The policy of normalised histories and chunks, each laid out as one vector."""
        return FlowPolicy(self.encoder, self.flow, self.droppable)

    def histories(
        self, observations: Float[Array, "*batch history observation"]
    ) -> Float[Array, "*batch history*observation"]:
        """Normalise histories of raw observations, and lay each out as one vector."""
        return flat_histories(self.normalizers, observations)

    def chunks(
        self, actions: Float[Array, "*batch predicted action"]
    ) -> Float[Array, "*batch predicted*action"]:
        """Normalise chunks, and lay each out as one vector."""
        return flat_chunks(self.normalizers, actions)


class NFBC(eqx.Module):
    """The agent: a policy, its optimiser's state, its configuration."""

    policy: ChunkFlow
    optimizer_state: optax.OptState
    config: NFBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> ChunkBatch:
        """Draw histories and the chunks that follow."""
        return draw_chunks(dataset, key, batch_size, self.config.chunks)

    def update(self, batch: ChunkBatch, key: PRNGKeyArray) -> tuple["NFBC", dict[str, Array]]:
        """Take one maximum-likelihood step."""

        def loss(policy: ChunkFlow) -> tuple[Array, dict[str, Array]]:
            conditions = policy.plain.training_conditions(
                jr.fold_in(key, 0),
                self.config.condition_dropout,
                policy.histories(batch.observations),
            )
            chunks, noise = policy.chunks(batch.actions), self.config.noise
            with rounded_networks():
                log_prob = policy.plain.noisy_log_prob(chunks, conditions, key, noise)
            return -log_prob, {"log_prob": log_prob}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return NFBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: ChunkBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-density of noisy normalised chunks, in nats: the objective."""
        policy, chunks = self.policy, self.policy.chunks(batch.actions)
        conditions = policy.plain.conditions(policy.histories(batch.observations))
        return {"log_prob": policy.plain.noisy_log_prob(chunks, conditions, key, self.config.noise)}

    def act(
        self,
        observation: Float[Array, "history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "predicted action"]:
        """Sample a chunk and remove the training noise; see :class:`LikelihoodActing`."""
        policy, noise = self.policy, self.config.noise if self.config.denoising else 0.0
        chunk = policy.plain.act(key, noise, policy.histories(observation), acting=self.config)
        return to_actions(policy.normalizers, chunk)

    def log_prob(
        self,
        observation: Float[Array, "history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "predicted action"],
    ) -> Float[Array, ""]:
        """Return the exact log-density of a chunk, in nats and in the data's units."""
        policy = self.policy
        history, chunk = policy.histories(observation), policy.chunks(action)
        log_det = policy.normalizers.action.log_det
        return policy.plain.log_prob(chunk, history) + len(action) * log_det
