"""BC: imitation with a Gaussian policy of unit variance, blind to rewards.

max E_D log N(a; mu(s), I), that is, mean squared error; the mean acts (Park et al., 2025, FQL,
appendix E.2).
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.gaussian import mean_network, unit_log_prob
from nfrl.agents.parts.optimization import AdamW, constant_adam, gradient_step, initial_state
from nfrl.agents.wrappers.options import AgentOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class BCConfig(AgentOptions):
    """BC with the values of FQL's paper."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True)

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the policy's network."""
    layer_norm: bool = False
    """LayerNorm in the policy's network."""
    optimizer: AdamW = constant_adam(3e-4)
    """Adam, 3e-4."""

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "BC":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        mean = mean_network(
            key, observation_dim, self.hidden, action_dim, layer_norm=self.layer_norm
        )
        return BC(mean, initial_state(self.optimizer.build(steps), mean), self, steps)


class BC(eqx.Module):
    """The agent: the network of the mean action, its optimiser's state, its configuration."""

    policy: MLP
    optimizer_state: optax.OptState
    config: BCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["BC", dict[str, Array]]:
        """Take one maximum-likelihood step."""

        def loss(policy: MLP) -> tuple[Array, dict[str, Array]]:
            log_prob = unit_log_prob(policy, batch.observations, batch.actions).mean()
            return -log_prob, {"log_prob": log_prob}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return BC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the mean log-density of actions under unit variance, in nats."""
        return {"log_prob": unit_log_prob(self.policy, batch.observations, batch.actions).mean()}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the mean action, clipped to [-1, 1]; neither goal nor key is used."""
        return jnp.clip(self.policy(observation), -1, 1)
