"""Implicit Q-learning: values of the best actions in the data, no other action ever asked about.

Kostrikov et al. (2022), for IQL and for the agents that act by rejection sampling, IFQL and IDQL:

    value:   min E_D |expectile - 1(u < 0)| u^2,  u = min_i Qbar_i(s, a) - V(s)
    critic:  min E_D (Q_i(s, a) - [r + discount * mask * V(s')])^2
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount, check_expectile, check_unit
from nfrl.agents.parts.critics import (
    Critic,
    ValueKind,
    aggregate,
    td_loss,
    td_target,
    value_network,
)
from nfrl.agents.parts.optimization import (
    AdamW,
    constant_adam,
    follow,
    gradient_step,
    initial_state,
)
from nfrl.agents.wrappers.options import AgentOptions
from nfrl.data.samplers import Transitions
from nfrl.networks import MLP

States = tuple[optax.OptState, optax.OptState]


@dataclasses.dataclass(frozen=True)
class ImplicitQConfig(AgentOptions):
    """What the value and the Q-functions are; the defaults are those of FQL's repository."""

    critic_kind: ClassVar[ValueKind] = "gelu"
    """Of their networks: OGBench's, with LayerNorm, unless an agent says otherwise."""

    critic: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the value and of each of the two Q-functions."""
    critic_unit: float = 1.0
    """What an output of one of a network is worth, in rewards: Q = unit * network(s, a), and so V.
    1 in the papers."""
    discount: float = 0.99
    """Of future rewards: 0.995 for humanoidmaze and antsoccer."""
    tau: float = 0.005
    """How far the target critic follows in a step."""
    expectile: float = 0.9
    """Of the value among the data's actions: 0.5 is their mean, 1 their best."""
    optimizer: AdamW = constant_adam(3e-4)
    """Adam, 3e-4, for value and critic each."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)
        check_unit(self.critic_unit)
        check_expectile(self.expectile)

    def build_critics(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> tuple["ImplicitQ", States]:
        """Build untrained critics and their optimisers' states."""
        value_key, critic_key = jr.split(key)
        value = value_network(self.critic_kind, value_key, observation_dim, self.critic)
        critic = Critic(
            critic_key,
            observation_dim,
            action_dim,
            self.critic,
            unit=self.critic_unit,
            kind=self.critic_kind,
        )
        optimizer = self.optimizer.build(steps)
        states = (initial_state(optimizer, value), initial_state(optimizer, critic))
        return ImplicitQ(value, critic, jax.tree.map(jnp.copy, critic)), states


class ImplicitQ(eqx.Module):
    """V(s), an ensemble of Q_i(s, a), and its target."""

    value: MLP
    critic: Critic
    target_critic: Critic

    def values(self, observations: Float[Array, "batch observation"]) -> Float[Array, " batch"]:
        """Return V of every state of a batch."""
        return self.critic.unit * jax.vmap(self.value)(observations)[:, 0]

    def advantages(self, batch: Transitions) -> Float[Array, " batch"]:
        """Return min_i Q_i(s, a) - V(s) of the data's actions."""
        q = aggregate(self.critic.batch(batch.observations, batch.actions), "min")
        return q - self.values(batch.observations)

    def losses(self, batch: Transitions, config: ImplicitQConfig) -> tuple[Array, Array]:
        """Return the losses of the value and of the critic.

        The gradient of the first reaches the value alone, that of the second the critic alone.
        """
        q = aggregate(self.target_critic.batch(batch.observations, batch.actions), "min")
        difference = jax.lax.stop_gradient(q) - self.values(batch.observations)
        target = td_target(batch, self.values(batch.next_observations), config.discount)
        return (
            expectile_loss(difference, config.expectile).mean(),
            td_loss(self.critic, batch, target),
        )

    def update(
        self, batch: Transitions, config: ImplicitQConfig, steps: int, states: States
    ) -> tuple["ImplicitQ", States, dict[str, dict[str, Array]]]:
        """Take one step of the value and one of the critic, both from the present networks.

        Args:
            batch: Transitions.
            config: Expectile, discount, tau and the optimiser.
            steps: Length of the run.
            states: The optimisers' states, of value and critic.

        Returns:
            The new critics, the new states, and the metrics of each step by its name.
        """
        optimizer = config.optimizer.build(steps)
        value_state, critic_state = states

        def value_loss(value: MLP) -> tuple[Array, dict[str, Array]]:
            critics = ImplicitQ(value, self.critic, self.target_critic)
            return critics.losses(batch, config)[0], {}

        def critic_loss(critic: Critic) -> tuple[Array, dict[str, Array]]:
            critics = ImplicitQ(self.value, critic, self.target_critic)
            return critics.losses(batch, config)[1], {}

        value, value_state, of_value = gradient_step(value_loss, self.value, optimizer, value_state)
        critic, critic_state, of_critic = gradient_step(
            critic_loss, self.critic, optimizer, critic_state
        )
        critics = ImplicitQ(value, critic, follow(self.target_critic, critic, config.tau))
        return critics, (value_state, critic_state), {"value": of_value, "critic": of_critic}


def expectile_loss(difference: Float[Array, " batch"], expectile: float) -> Float[Array, " batch"]:
    """Return |expectile - 1(u < 0)| u^2 of each u = q - v; the best v is the expectile of q."""
    return expectile_weight(difference, expectile) * jnp.square(difference)


def expectile_weight(
    difference: Float[Array, "*batch"], expectile: float
) -> Float[Array, "*batch"]:
    """Return |expectile - 1(u < 0)| of each u: what is better than expected weighs more."""
    return jnp.where(difference < 0, 1 - expectile, expectile)


def best_action(
    critic: Critic,
    observation: Float[Array, " observation"],
    actions: Float[Array, "samples action"],
) -> Float[Array, " action"]:
    """Return the action of highest min_i Q_i(s, a)."""
    values = jax.vmap(critic, in_axes=(None, 0))(observation, actions)
    return actions[jnp.argmax(aggregate(values, "min"))]
