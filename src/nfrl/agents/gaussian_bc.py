"""Gaussian BC: imitation of chunks of actions with one bell curve, whose mean acts.

max E_{(s, a) ~ D} log N(a; mu(s), diag exp(2 rho(s)))
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.chunks import (
    ChunkImitator,
    draw_chunks,
    flat_chunks,
    flat_histories,
    to_actions,
)
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.data.samplers import ChunkBatch
from nfrl.interfaces.agent import Capabilities, ChunkShape
from nfrl.networks import MLP

LOG_STD_RANGE = (-5.0, 2.0)


@dataclasses.dataclass(frozen=True)
class GaussianBCConfig(ChunkImitator):
    """Gaussian BC with NF-BC's data and optimiser."""

    likelihood: ClassVar[bool] = True

    chunks: ChunkShape = ChunkShape()
    """History, prediction and execution: as NF-BC's."""
    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the network of mean and deviation."""
    layer_norm: bool = True
    """LayerNorm in that network."""
    sampling: bool = False
    """Act by a sample instead of the mean."""
    optimizer: AdamW = AdamW()
    """As NF-BC's: the same budget."""

    def build_algorithm(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        steps: int,
        normalizers: Normalizers,
    ) -> "GaussianBC":
        """Build an untrained agent; arguments as in :class:`ChunkImitator`."""
        network = MLP(
            key,
            self.chunks.history * observation_dim,
            self.hidden,
            2 * self.chunks.predicted * action_dim,
            layer_norm=self.layer_norm,
        )
        policy = GaussianPolicy(normalizers, network)
        return GaussianBC(policy, initial_state(self.optimizer.build(steps), policy), self, steps)


class GaussianPolicy(eqx.Module):
    """N(a; mu(s), diag exp(2 rho(s))) of a flat, normalised chunk."""

    normalizers: Normalizers
    network: MLP

    def parameters(
        self, history: Float[Array, "history observation"]
    ) -> tuple[Float[Array, " flat"], Float[Array, " flat"]]:
        """Return the mean and the standard deviation."""
        mean, log_std = jnp.split(self.network(flat_histories(self.normalizers, history)), 2)
        return mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))

    def log_prob(
        self,
        history: Float[Array, "history observation"],
        chunk: Float[Array, "predicted action"],
    ) -> Float[Array, ""]:
        """Return the log-density of a chunk of raw actions after normalisation, in nats."""
        mean, std = self.parameters(history)
        return jax.scipy.stats.norm.logpdf(flat_chunks(self.normalizers, chunk), mean, std).sum()


class GaussianBC(eqx.Module):
    """The agent: a policy, its optimiser's state, its configuration."""

    policy: GaussianPolicy
    optimizer_state: optax.OptState
    config: GaussianBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> ChunkBatch:
        """Draw histories and the chunks that follow."""
        return draw_chunks(dataset, key, batch_size, self.config.chunks)

    def update(self, batch: ChunkBatch, key: PRNGKeyArray) -> tuple["GaussianBC", dict[str, Array]]:
        """Take one maximum-likelihood step; the key is not used."""

        def loss(policy: GaussianPolicy) -> tuple[Array, dict[str, Array]]:
            log_prob = jax.vmap(policy.log_prob)(*batch).mean()
            return -log_prob, {"log_prob": log_prob}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return GaussianBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: ChunkBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-density of normalised chunks, in nats."""
        return {"log_prob": jax.vmap(self.policy.log_prob)(*batch).mean()}

    def act(
        self,
        observation: Float[Array, "history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "predicted action"]:
        """Return the mean chunk, or a sample."""
        chunk, std = self.policy.parameters(observation)
        if self.config.sampling:
            chunk += std * jr.normal(key, chunk.shape)
        return to_actions(self.policy.normalizers, chunk)

    def log_prob(
        self,
        observation: Float[Array, "history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "predicted action"],
    ) -> Float[Array, ""]:
        """Return the exact log-density of a chunk, in nats and in the data's units."""
        log_det = len(action) * self.policy.normalizers.action.log_det
        return self.policy.log_prob(observation, action) + log_det
