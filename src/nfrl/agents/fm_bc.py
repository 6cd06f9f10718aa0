"""FM-BC: imitation of chunks of actions with flow matching.

The loss and the integration are those of :mod:`nfrl.agents.parts.flow_matching`, on whole chunks.
"""

import dataclasses

import equinox as eqx
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_positive
from nfrl.agents.parts.chunks import ChunkImitator, draw_chunks, flat_histories, to_actions
from nfrl.agents.parts.flow_matching import integrate, matching_error
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.agents.parts.time_networks import NetworkKind, TimeMLP, build_time_network
from nfrl.agents.parts.unet import UNet
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.data.samplers import ChunkBatch
from nfrl.interfaces.agent import Capabilities, ChunkShape


@dataclasses.dataclass(frozen=True)
class FMBCConfig(ChunkImitator):
    """FM-BC with NF-BC's data and optimiser."""

    chunks: ChunkShape = ChunkShape()
    """History, prediction and execution: as NF-BC's."""
    network: NetworkKind = "mlp"
    """The velocity field: fully connected, or Diffusion Policy's U-Net."""
    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the MLP's residual blocks; channels of the U-Net's levels, multiples of 8."""
    euler_steps: int = 10
    """Steps of the integration when acting."""
    optimizer: AdamW = AdamW()
    """As NF-BC's: the same budget."""

    def __post_init__(self):
        check_positive(self, "euler_steps")

    def build_algorithm(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        steps: int,
        normalizers: Normalizers,
    ) -> "FMBC":
        """Build an untrained agent; arguments as in :class:`ChunkImitator`."""
        velocity = build_time_network(
            key,
            self.network,
            predicted=self.chunks.predicted,
            action_dim=action_dim,
            condition_dim=self.chunks.history * observation_dim,
            hidden=self.hidden,
        )
        policy = VelocityPolicy(normalizers, velocity)
        return FMBC(policy, initial_state(self.optimizer.build(steps), policy), self, steps)


class VelocityPolicy(eqx.Module):
    """A velocity field v(a_t, t, s) of normalised chunks."""

    normalizers: Normalizers
    velocity: TimeMLP | UNet


class FMBC(eqx.Module):
    """The agent: a policy, its optimiser's state, its configuration."""

    policy: VelocityPolicy
    optimizer_state: optax.OptState
    config: FMBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> ChunkBatch:
        """Draw histories and the chunks that follow."""
        return draw_chunks(dataset, key, batch_size, self.config.chunks)

    def update(self, batch: ChunkBatch, key: PRNGKeyArray) -> tuple["FMBC", dict[str, Array]]:
        """Take one flow-matching step."""

        def loss(policy: VelocityPolicy) -> tuple[Array, dict[str, Array]]:
            return _matching_error(policy, batch, key), {}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return FMBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: ChunkBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the flow-matching loss: the velocity's mean squared error per coordinate."""
        return {"loss": _matching_error(self.policy, batch, key)}

    def act(
        self,
        observation: Float[Array, "history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "predicted action"]:
        """Integrate the velocity field from noise with Euler steps."""
        normalizers, field = self.policy.normalizers, self.policy.velocity
        noise = jr.normal(key, (self.config.chunks.predicted, normalizers.action.dim))
        condition = flat_histories(normalizers, observation)
        chunk = integrate(field, noise, condition, self.config.euler_steps)
        return to_actions(normalizers, chunk.reshape(-1))


def _matching_error(policy: VelocityPolicy, batch: ChunkBatch, key: PRNGKeyArray) -> Array:
    chunks = policy.normalizers.action.encode(batch.actions)
    conditions = flat_histories(policy.normalizers, batch.observations)
    return matching_error(policy.velocity, chunks, conditions, key)
