"""FM-GCBC: goal-conditioned imitation with flow matching.

The loss and the integration are those of :mod:`nfrl.agents.parts.flow_matching`, the velocity field
is FM-BC's: residual blocks under FiLM.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount, check_positive, check_temperature
from nfrl.agents.parts.flow_matching import integrate, matching_error
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.agents.parts.time_networks import TimeMLP
from nfrl.agents.wrappers.options import GoalOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalBatch, sample_goals
from nfrl.errors import UserError
from nfrl.interfaces.agent import Capabilities


@dataclasses.dataclass(frozen=True)
class FMGCBCConfig(GoalOptions):
    """FM-GCBC with networks of NF-GCBC's size."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True)

    discount: float = 0.97
    """gamma of the geometric distribution of goals, as NF-GCBC's."""
    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the velocity field's residual blocks."""
    euler_steps: int = 10
    """Steps of the integration when acting."""
    temperature: float = 1.0
    """What the noise is multiplied by that an action is integrated from, as NF-GCBC's latents."""
    optimizer: AdamW = AdamW()
    """As NF-GCBC's: the same budget."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)
        check_temperature(self.temperature)
        check_positive(self, "euler_steps")
        if not self.hidden:
            raise UserError("fm-gcbc needs one hidden width at least; got none")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "FMGCBC":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        velocity = TimeMLP(
            key,
            predicted=1,
            action_dim=action_dim,
            condition_dim=2 * observation_dim,
            widths=self.hidden,
        )
        return FMGCBC(velocity, initial_state(self.optimizer.build(steps), velocity), self, steps)


class FMGCBC(eqx.Module):
    """The agent: a velocity field v(a_t, t, s, g), its optimiser's state, its configuration."""

    policy: TimeMLP
    optimizer_state: optax.OptState
    config: FMGCBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> GoalBatch:
        """Draw transitions with hindsight goals."""
        return sample_goals(dataset, key, batch_size, self.config.discount)

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["FMGCBC", dict[str, Array]]:
        """Take one flow-matching step."""

        def loss(policy: TimeMLP) -> tuple[Array, dict[str, Array]]:
            return _matching_error(policy, batch, key), {}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return FMGCBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: GoalBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the flow-matching loss: the velocity's mean squared error per coordinate."""
        return {"loss": _matching_error(self.policy, batch, key)}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Integrate the velocity field from noise with Euler steps, and clip to [-1, 1]."""
        condition = jnp.concatenate((observation, goal))
        # One action, as the network of a chunk has it: (1, action).
        action_dim = self.policy.last.bias.size
        noise = self.config.temperature * jr.normal(key, (1, action_dim))
        action = integrate(self.policy, noise, condition, self.config.euler_steps)[0]
        return jnp.clip(action, -1, 1)


def _matching_error(policy: TimeMLP, batch: GoalBatch, key: PRNGKeyArray) -> Array:
    conditions = jnp.concatenate((batch.observations, batch.goals), axis=-1)
    return matching_error(policy, batch.actions[:, None], conditions, key)
