"""GCIVL: goal-conditioned implicit V-learning, a rival of OGBench (Park et al., 2025).

With two values V_i(s, g), minus the discounted number of steps to the goal (Xu et al., 2022), and
y_i, A as in :func:`nfrl.agents.parts.goal_values.implicit_v_loss`:

    value:   min sum_i E |expectile - 1(A < 0)| (y_i - V_i(s, g))^2
    actor:   max E min(exp(alpha [V(s', g) - V(s, g)]), 100) log N(a; mu(s, g), I),  V = mean_i V_i

There is no Q: that the data's action led to s' is taken for its merit, also where it was luck. The
mean acts.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.critics import Critic
from nfrl.agents.parts.gaussian import awr_loss, mean_network
from nfrl.agents.parts.goal_values import ImplicitVConfig, implicit_v_loss, towards
from nfrl.agents.parts.optimization import follow, gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalTransitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class GCIVLConfig(ImplicitVConfig):
    """GCIVL with OGBench's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, draws_chunks=True)

    alpha: float = 10.0
    """Inverse temperature of the actor's weights."""

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "GCIVL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, value_key = jr.split(key)
        policy = mean_network(
            policy_key, 2 * observation_dim, self.hidden, action_dim, layer_norm=False
        )
        # An ensemble of functions of two vectors, here of state and goal.
        values = Critic(value_key, observation_dim, observation_dim, self.critic)
        optimizer = self.optimizer.build(steps)
        states = initial_state(optimizer, policy), initial_state(optimizer, values)
        return GCIVL(policy, values, jax.tree.map(jnp.copy, values), states, self, steps)


class GCIVL(eqx.Module):
    """The agent: the network of the mean action, values and their target, optimisers' states."""

    policy: MLP
    values: Critic
    target_values: Critic
    optimizer_state: tuple[optax.OptState, optax.OptState]
    config: GCIVLConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(
        self, dataset: Dataset, key: PRNGKeyArray, batch_size: int, chunk: int = 1
    ) -> GoalTransitions:
        """Draw transitions with goals."""
        return self.config.draw(dataset, key, batch_size, chunk)

    def update(self, batch: GoalTransitions, key: PRNGKeyArray) -> tuple["GCIVL", dict[str, Array]]:
        """Take one step of values and actor each, both from the present networks."""
        optimizer = self.config.optimizer.build(self.steps)
        policy_state, value_state = self.optimizer_state
        policy, policy_state, of_actor = gradient_step(
            lambda policy: self._actor_loss(policy, batch), self.policy, optimizer, policy_state
        )
        values, value_state, of_value = gradient_step(
            lambda values: (self._value_loss(values, batch), {}),
            self.values,
            optimizer,
            value_state,
        )
        target = follow(self.target_values, values, self.config.tau)
        agent = GCIVL(policy, values, target, (policy_state, value_state), self.config, self.steps)
        return agent, join_metrics(value=of_value, actor=of_actor)

    def validate(self, batch: GoalTransitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses, and the actions' mean log-density, in nats."""
        actor_loss, metrics = self._actor_loss(self.policy, batch)
        value_loss = self._value_loss(self.values, batch)
        return {"value_loss": value_loss, "actor_loss": actor_loss, **metrics}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the mean action, clipped to [-1, 1]; the key is not used."""
        return jnp.clip(self.policy(towards(observation, goal)), -1, 1)

    def value(
        self, observation: Float[Array, " observation"], goal: Float[Array, " observation"]
    ) -> Float[Array, ""]:
        """Return V(s, g): minus the discounted number of steps to the goal."""
        return self.values(observation, goal).mean()

    def _value_loss(self, values: Critic, batch: GoalTransitions) -> Array:
        return implicit_v_loss(
            values.batch(batch.observations, batch.goals),
            self.target_values.batch(batch.observations, batch.goals),
            self.target_values.batch(batch.next_observations, batch.goals),
            batch,
            self.config,
        )

    def _actor_loss(self, policy: MLP, batch: GoalTransitions) -> tuple[Array, dict[str, Array]]:
        goals = batch.actor_goals
        after = self.values.batch(batch.next_observations, goals).mean(-1)
        advantages = after - self.values.batch(batch.observations, goals).mean(-1)
        inputs = towards(batch.observations, goals)
        return awr_loss(policy, inputs, batch.actions, advantages, self.config.alpha)
