"""Diffusion BC: imitation of chunks of actions with a diffusion policy (Chi et al., 2023).

min E |e(sqrt(abar_t) a + sqrt(1 - abar_t) eps, t, s) - eps|^2, t ~ U{0, ..., T - 1}, eps ~ N(0, I)
(DDPM, Ho et al., 2020; cosine schedule, Nichol and Dhariwal, 2021); a chunk is sampled in a few
deterministic steps (DDIM, Song et al., 2021).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfrl.agents.parts.chunks import ChunkImitator, draw_chunks, flat_histories, to_actions
from nfrl.agents.parts.optimization import AdamW, follow, gradient_step, initial_state
from nfrl.agents.parts.time_networks import NetworkKind, TimeMLP, build_time_network
from nfrl.agents.parts.unet import UNet
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.data.samplers import ChunkBatch
from nfrl.errors import UserError
from nfrl.interfaces.agent import Capabilities, ChunkShape


@dataclasses.dataclass(frozen=True)
class DiffusionBCConfig(ChunkImitator):
    """Diffusion Policy's values, with NF-BC's data and optimiser."""

    chunks: ChunkShape = ChunkShape()
    """History, prediction and execution: as NF-BC's."""
    network: NetworkKind = "unet"
    """The noise's predictor: fully connected, or Diffusion Policy's U-Net."""
    hidden: tuple[int, ...] = (256, 512, 1024)
    """Widths of the MLP's residual blocks; channels of the U-Net's levels, multiples of 8."""
    time_dim: int = 256
    """Width of the time's embedding."""
    noise_steps: int = 100
    """Steps T of the noising process."""
    sampling_steps: int = 100
    """Steps of DDIM when acting, up to T; Diffusion Policy's robots take 10 to 16."""
    average: float = 0.9999
    """Largest decay of the moving average of the weights, which acts: at update n it is
    1 - (n + 1)^(-3/4) or this, whichever is less (the code). 0 for none."""
    optimizer: AdamW = AdamW()
    """As NF-BC's: the same budget."""

    def __post_init__(self):
        if not 1 <= self.sampling_steps <= self.noise_steps:
            raise UserError(
                f"sampling-steps must be from 1 to noise-steps ({self.noise_steps}); "
                f"got {self.sampling_steps}"
            )

    def build_algorithm(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        steps: int,
        normalizers: Normalizers,
    ) -> "DiffusionBC":
        """Build an untrained agent; arguments as in :class:`ChunkImitator`."""
        predictor = build_time_network(
            key,
            self.network,
            predicted=self.chunks.predicted,
            action_dim=action_dim,
            condition_dim=self.chunks.history * observation_dim,
            hidden=self.hidden,
            time_dim=self.time_dim,
        )
        policy = NoisePolicy(normalizers, predictor)
        state = initial_state(self.optimizer.build(steps), predictor)
        # The average and what it averages must not share buffers that one update would give away.
        trained = jax.tree.map(lambda leaf: leaf.copy() if eqx.is_array(leaf) else leaf, predictor)
        return DiffusionBC(policy, trained, jnp.zeros((), jnp.int32), state, self, steps)


class NoisePolicy(eqx.Module):
    """The predictor e(a_t, t, s) of the noise in a normalised chunk."""

    normalizers: Normalizers
    predictor: TimeMLP | UNet


class DiffusionBC(eqx.Module):
    """The agent: a policy of averaged weights, the weights in training, its optimiser's state.

    ``count`` is the number of updates made.
    """

    policy: NoisePolicy
    trained: TimeMLP | UNet
    count: Int[Array, ""]
    optimizer_state: optax.OptState
    config: DiffusionBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> ChunkBatch:
        """Draw histories and the chunks that follow."""
        return draw_chunks(dataset, key, batch_size, self.config.chunks)

    def update(
        self, batch: ChunkBatch, key: PRNGKeyArray
    ) -> tuple["DiffusionBC", dict[str, Array]]:
        """Take one denoising step, and move the average on."""
        normalizers = self.policy.normalizers

        def loss(predictor: TimeMLP | UNet) -> tuple[Array, dict[str, Array]]:
            return self._error(predictor, batch, key), {}

        trained, state, metrics = gradient_step(
            loss, self.trained, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        decay = jnp.minimum(1 - (self.count + 1.0) ** -0.75, self.config.average)
        averaged = follow(self.policy.predictor, trained, 1 - decay)
        policy = NoisePolicy(normalizers, averaged)
        agent = DiffusionBC(policy, trained, self.count + 1, state, self.config, self.steps)
        return agent, metrics

    def validate(self, batch: ChunkBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the averaged predictor's mean squared error of the noise, per coordinate."""
        return {"loss": self._error(self.policy.predictor, batch, key)}

    def act(
        self,
        observation: Float[Array, "history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "predicted action"]:
        """Remove noise in a few deterministic steps, with a_0's estimate held in [-1, 1]."""
        normalizers, total = self.policy.normalizers, self.config.noise_steps
        condition = flat_histories(normalizers, observation)
        kept = kept_shares(total)
        times = np.round(np.linspace(total - 1, 0, self.config.sampling_steps)).astype(int)
        after = np.append(kept[times[1:]], 1.0)

        def step(chunk: Array, at: Array) -> tuple[Array, None]:
            time, share, next_share = at
            noise = self.policy.predictor(chunk, time, condition)
            clean = (chunk - jnp.sqrt(1 - share) * noise) / jnp.sqrt(share)
            clean = jnp.clip(clean, -1, 1)
            return jnp.sqrt(next_share) * clean + jnp.sqrt(1 - next_share) * noise, None

        start = jr.normal(key, (self.config.chunks.predicted, normalizers.action.dim))
        along = np.stack([times / total, kept[times], after], axis=1)
        chunk, _ = jax.lax.scan(step, start, jnp.asarray(along, jnp.float32))
        return to_actions(normalizers, chunk.reshape(-1))

    def _error(self, predictor: TimeMLP | UNet, batch: ChunkBatch, key: PRNGKeyArray) -> Array:
        noise_key, time_key = jr.split(key)
        normalizers, total = self.policy.normalizers, self.config.noise_steps
        chunks = normalizers.action.encode(batch.actions)
        noise = jr.normal(noise_key, chunks.shape)
        time = jr.randint(time_key, (len(chunks),), 0, total)
        share = jnp.asarray(kept_shares(total), jnp.float32)[time][:, None, None]
        noisy = jnp.sqrt(share) * chunks + jnp.sqrt(1 - share) * noise
        conditions = flat_histories(normalizers, batch.observations)
        found = jax.vmap(predictor)(noisy, time / total, conditions)
        return jnp.square(found - noise).mean()


def kept_shares(steps: int) -> np.ndarray:
    """Return abar_t of the cosine schedule for t = 0, ..., T - 1, falling from 1 towards 0."""

    def level(time: np.ndarray) -> np.ndarray:
        return np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2

    edges = level(np.arange(steps + 1) / steps)
    beta = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    return np.cumprod(1 - beta)
