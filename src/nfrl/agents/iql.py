"""IQL: implicit Q-learning, and a policy that imitates the better actions more.

Kostrikov et al. (2022); value and critic as in :mod:`nfrl.agents.parts.implicit_q`, and

    actor:   max E_D min(exp(alpha [min_i Q_i(s, a) - V(s)]), 100) log N(a; mu(s), I)

The mean acts.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.critics import least_value
from nfrl.agents.parts.gaussian import awr_loss, mean_network, unit_log_prob
from nfrl.agents.parts.implicit_q import ImplicitQ, ImplicitQConfig, States
from nfrl.agents.parts.optimization import gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class IQLConfig(ImplicitQConfig):
    """IQL with the values of FQL's repository."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True, values=True)

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the policy's network, which has no LayerNorm."""
    alpha: float = 10.0
    """Inverse temperature of the weights, tuned for each task."""

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "IQL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, critic_key = jr.split(key)
        policy = mean_network(
            policy_key, observation_dim, self.hidden, action_dim, layer_norm=False
        )
        critics, states = self.build_critics(critic_key, observation_dim, action_dim, steps)
        state = initial_state(self.optimizer.build(steps), policy)
        return IQL(policy, critics, (state, states), self, steps)


class IQL(eqx.Module):
    """The agent: the network of the mean action, critics, three optimisers' states."""

    policy: MLP
    critics: ImplicitQ
    optimizer_state: tuple[optax.OptState, States]
    config: IQLConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["IQL", dict[str, Array]]:
        """Take one step of value, critic and actor each, all from the present networks."""
        policy_state, states = self.optimizer_state
        advantages = self.critics.advantages(batch)

        def actor_loss(policy: MLP) -> tuple[Array, dict[str, Array]]:
            return awr_loss(
                policy, batch.observations, batch.actions, advantages, self.config.alpha
            )

        policy, policy_state, of_actor = gradient_step(
            actor_loss, self.policy, self.config.optimizer.build(self.steps), policy_state
        )
        critics, states, metrics = self.critics.update(batch, self.config, self.steps, states)
        agent = IQL(policy, critics, (policy_state, states), self.config, self.steps)
        return agent, join_metrics(**metrics, actor=of_actor)

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the actions' mean log-density, in nats, and the losses of value and critic."""
        value_loss, critic_loss = self.critics.losses(batch, self.config)
        log_prob = unit_log_prob(self.policy, batch.observations, batch.actions).mean()
        return {"log_prob": log_prob, "value_loss": value_loss, "critic_loss": critic_loss}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the mean action, clipped to [-1, 1]; neither goal nor key is used."""
        return jnp.clip(self.policy(observation), -1, 1)

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values; the goal is not used."""
        return least_value(self.critics.critic, observation, action)
