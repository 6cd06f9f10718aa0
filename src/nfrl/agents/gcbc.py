"""GCBC: goal-conditioned imitation with a Gaussian policy, the baseline of OGBench.

max E log N(a; mu(s, g), I), that is, mean squared error; the mean acts (Park et al., 2025).
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount
from nfrl.agents.parts.gaussian import mean_network, unit_log_prob
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.agents.wrappers.options import GoalOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalBatch, HindsightGoals, sample_goals
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class GCBCConfig(GoalOptions):
    """GCBC with OGBench's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, draws_chunks=True)

    goals: HindsightGoals = "geometric"
    """How far ahead a goal is: geometric as NF-GCBC's, or any later state of the trajectory as
    likely as any other, as in OGBench's code."""
    discount: float = 0.97
    """gamma of the geometric distribution of goals, as NF-GCBC's."""
    hidden: tuple[int, ...] = (512, 512, 512)
    """Hidden widths of the policy's network."""
    layer_norm: bool = False
    """LayerNorm in the policy's network."""
    optimizer: AdamW = AdamW()
    """As NF-GCBC's: the same budget."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "GCBC":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        mean = mean_network(
            key, 2 * observation_dim, self.hidden, action_dim, layer_norm=self.layer_norm
        )
        return GCBC(mean, initial_state(self.optimizer.build(steps), mean), self, steps)


class GCBC(eqx.Module):
    """The agent: the network of the mean action, its optimiser's state, its configuration."""

    policy: MLP
    optimizer_state: optax.OptState
    config: GCBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(
        self, dataset: Dataset, key: PRNGKeyArray, batch_size: int, chunk: int = 1
    ) -> GoalBatch:
        """Draw transitions with hindsight goals."""
        discount, ahead = self.config.discount, self.config.goals
        return sample_goals(dataset, key, batch_size, discount, chunk=chunk, ahead=ahead)

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["GCBC", dict[str, Array]]:
        """Take one maximum-likelihood step."""

        def loss(policy: MLP) -> tuple[Array, dict[str, Array]]:
            log_prob = _log_prob(policy, batch)
            return -log_prob, {"log_prob": log_prob}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return GCBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: GoalBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-density of actions under unit variance, in nats."""
        return {"log_prob": _log_prob(self.policy, batch)}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the mean action, clipped to [-1, 1]; the key is not used."""
        return jnp.clip(self.policy(jnp.concatenate((observation, goal))), -1, 1)


def _log_prob(policy: MLP, batch: GoalBatch) -> Array:
    inputs = jnp.concatenate((batch.observations, batch.goals), axis=-1)
    return unit_log_prob(policy, inputs, batch.actions).mean()
