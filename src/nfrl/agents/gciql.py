"""GCIQL: goal-conditioned implicit Q-learning, a rival of OGBench (Park et al., 2025).

Values of [s; g] as in :mod:`nfrl.agents.parts.implicit_q` (Kostrikov et al., 2022), with reward -1
until the goal, and an actor by DDPG+BC:

    value:   min E |expectile - 1(u < 0)| u^2,  u = min_i Qbar_i(s, a, g) - V(s, g)
    critic:  min E (Q_i(s, a, g) - [r + gamma mask V(s', g)])^2
    actor:   max E [ min_i Q_i(s, mu(s, g), g) / mean |Q| + alpha log N(a; mu(s, g), I) ]

The mean acts.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.critics import aggregate, least_value
from nfrl.agents.parts.gaussian import ddpg_bc_loss, mean_network
from nfrl.agents.parts.goal_values import GoalValueConfig, towards
from nfrl.agents.parts.implicit_q import ImplicitQ, ImplicitQConfig, States
from nfrl.agents.parts.optimization import gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalTransitions, Transitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class GCIQLConfig(GoalValueConfig, ImplicitQConfig):
    """GCIQL with OGBench's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, values=True, draws_chunks=True)

    alpha: float = 0.3
    """Weight of imitation in the actor's loss, tuned for each kind of task."""

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "GCIQL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, critic_key = jr.split(key)
        policy = mean_network(
            policy_key, 2 * observation_dim, self.hidden, action_dim, layer_norm=False
        )
        critics, states = self.build_critics(critic_key, 2 * observation_dim, action_dim, steps)
        state = initial_state(self.optimizer.build(steps), policy)
        return GCIQL(policy, critics, (state, states), self, steps)


class GCIQL(eqx.Module):
    """The agent: the network of the mean action, critics, three optimisers' states."""

    policy: MLP
    critics: ImplicitQ
    optimizer_state: tuple[optax.OptState, States]
    config: GCIQLConfig = eqx.field(static=True)
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

    def update(self, batch: GoalTransitions, key: PRNGKeyArray) -> tuple["GCIQL", dict[str, Array]]:
        """Take one step of value, critic and actor each, all from the present networks."""
        policy_state, states = self.optimizer_state
        policy, policy_state, of_actor = gradient_step(
            lambda policy: self._actor_loss(policy, batch),
            self.policy,
            self.config.optimizer.build(self.steps),
            policy_state,
        )
        critics, states, metrics = self.critics.update(
            _transitions(batch), self.config, self.steps, states
        )
        agent = GCIQL(policy, critics, (policy_state, states), self.config, self.steps)
        return agent, join_metrics(**metrics, actor=of_actor)

    def validate(self, batch: GoalTransitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses, the actor's mean Q, and the actions' mean log-density, in nats."""
        value_loss, critic_loss = self.critics.losses(_transitions(batch), self.config)
        actor_loss, metrics = self._actor_loss(self.policy, batch)
        losses = {"value_loss": value_loss, "critic_loss": critic_loss, "actor_loss": actor_loss}
        return {**losses, **metrics}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the mean action, clipped to [-1, 1]; the key is not used."""
        return jnp.clip(self.policy(towards(observation, goal)), -1, 1)

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values: minus the discounted steps to the goal."""
        return least_value(self.critics.critic, towards(observation, goal), action)

    def _actor_loss(self, policy: MLP, batch: GoalTransitions) -> tuple[Array, dict[str, Array]]:
        inputs = towards(batch.observations, batch.actor_goals)

        def q(actions: Array) -> Array:
            return aggregate(self.critics.critic.batch(inputs, actions), "min")

        return ddpg_bc_loss(policy, inputs, batch.actions, q, self.config.alpha)


def _transitions(batch: GoalTransitions) -> Transitions:
    """Return it as transitions between pairs of state and goal, which implicit Q-learning takes."""
    return Transitions(
        towards(batch.observations, batch.goals),
        batch.actions,
        batch.rewards,
        batch.masks,
        towards(batch.next_observations, batch.goals),
        batch.actions,  # of the next state: nothing here asks for it
    )
