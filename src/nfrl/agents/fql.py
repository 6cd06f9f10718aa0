"""FQL: an imitating flow, and a one-step policy that is distilled from it and maximises Q.

Park et al. (2025), with the flow mu_v of :mod:`nfrl.agents.parts.flow_matching`
and the one-step policy mu(s, z), z ~ N(0, I):

    critic:    min (Q_i(s, a) - [r + discount * mask * mean_j Qbar_j(s', a')])^2,  a' = mu(s', z)
    flow:      flow matching of the data's actions
    one-step:  min alpha |mu(s, z) - mu_v(s, z)|^2 - mean_i Q_i(s, mu(s, z))

Actions are clipped to [-1, 1] before a critic sees them. The one-step policy acts.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount, check_positive, check_unit
from nfrl.agents.parts.critics import (
    Aggregate,
    Critic,
    aggregate,
    least_value,
    td_loss,
    td_target,
)
from nfrl.agents.parts.flow_matching import VelocityField, integrate, matching_error
from nfrl.agents.parts.implicit_q import best_action
from nfrl.agents.parts.networks import gelu_network
from nfrl.agents.parts.optimization import (
    AdamW,
    constant_adam,
    follow,
    gradient_step,
    initial_state,
    join_metrics,
)
from nfrl.agents.wrappers.options import AgentOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class FQLConfig(AgentOptions):
    """FQL with its paper's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True, values=True, online=True)

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the one-step policy and of the velocity field, without LayerNorm."""
    critic: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of each of the two Q-functions."""
    critic_unit: float = 1.0
    """What an output of one of a Q-network is worth, in rewards: Q = unit * network(s, a). 1 in the
    paper."""
    discount: float = 0.99
    """Of future rewards: 0.995 for humanoidmaze and antsoccer."""
    tau: float = 0.005
    """How far the target critic follows in a step."""
    alpha: float = 10.0
    """Weight of distillation: 300 for cube and scene, 1000 for puzzle, 30 for humanoidmaze."""
    aggregate: Aggregate = "mean"
    """Of the target critics; "min" for antmaze-large."""
    normalize_q: bool = False
    """Divide the policy's Q by its mean magnitude."""
    euler_steps: int = 10
    """Steps of the flow's integration."""
    samples: int = 1
    """Actions of the one-step policy for each one taken, of which the one of highest Q is; 1 in the
    paper. With chunks it is 32 in Q-chunking (Li et al., 2025)."""
    optimizer: AdamW = constant_adam(3e-4)
    """Adam, 3e-4, for policy, flow and critic each."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)
        check_unit(self.critic_unit)
        check_positive(self, "euler_steps", "samples")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "FQL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, flow_key, critic_key = jr.split(key, 3)
        inputs = action_dim + observation_dim
        policy = gelu_network(policy_key, inputs, self.hidden, action_dim, layer_norm=False)
        flow = VelocityField(flow_key, observation_dim, self.hidden, action_dim, layer_norm=False)
        critic = Critic(critic_key, observation_dim, action_dim, self.critic, unit=self.critic_unit)
        optimizer = self.optimizer.build(steps)
        states = tuple(initial_state(optimizer, model) for model in (policy, flow, critic))
        return FQL(policy, flow, critic, jax.tree.map(jnp.copy, critic), states, self, steps)


class FQL(eqx.Module):
    """The agent: a one-step policy, a velocity field, Q-functions and their targets, states."""

    policy: MLP
    flow: VelocityField
    critic: Critic
    target_critic: Critic
    optimizer_state: tuple[optax.OptState, ...]
    config: FQLConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["FQL", dict[str, Array]]:
        """Take one step of critic, flow and policy each, all from the present networks."""
        target_key, flow_key, policy_key = jr.split(key, 3)
        optimizer = self.config.optimizer.build(self.steps)
        policy_state, flow_state, critic_state = self.optimizer_state
        target = self._target(batch, target_key)

        def critic_loss(critic: Critic) -> tuple[Array, dict[str, Array]]:
            return td_loss(critic, batch, target), {}

        def flow_loss(flow: VelocityField) -> tuple[Array, dict[str, Array]]:
            return matching_error(flow, batch.actions, batch.observations, flow_key), {}

        def actor_loss(policy: MLP) -> tuple[Array, dict[str, Array]]:
            return self._actor_loss(policy, batch, policy_key)

        critic, critic_state, of_critic = gradient_step(
            critic_loss, self.critic, optimizer, critic_state
        )
        flow, flow_state, of_flow = gradient_step(flow_loss, self.flow, optimizer, flow_state)
        policy, policy_state, of_actor = gradient_step(
            actor_loss, self.policy, optimizer, policy_state
        )
        agent = FQL(
            policy,
            flow,
            critic,
            follow(self.target_critic, critic, self.config.tau),
            (policy_state, flow_state, critic_state),
            self.config,
            self.steps,
        )
        return agent, join_metrics(critic=of_critic, flow=of_flow, actor=of_actor)

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses of critic, flow and policy, with the policy's Q and distance."""
        target_key, flow_key, policy_key = jr.split(key, 3)
        actor_loss, metrics = self._actor_loss(self.policy, batch, policy_key)
        return {
            "critic_loss": td_loss(self.critic, batch, self._target(batch, target_key)),
            "flow_loss": matching_error(self.flow, batch.actions, batch.observations, flow_key),
            "actor_loss": actor_loss,
            **metrics,
        }

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the best of the one-step policy's actions in [-1, 1]; the goal is not used."""
        (action_dim,) = self.policy.layers[-1].bias.shape
        if self.config.samples == 1:
            noise = jr.normal(key, (action_dim,))
            return jnp.clip(_one_step(self.policy, observation, noise), -1, 1)
        noise = jr.normal(key, (self.config.samples, action_dim))
        actions = jax.vmap(_one_step, in_axes=(None, None, 0))(self.policy, observation, noise)
        return best_action(self.critic, observation, jnp.clip(actions, -1, 1))

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values; the goal is not used."""
        return least_value(self.critic, observation, action)

    def _target(self, batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
        noise = jr.normal(key, batch.actions.shape)
        actions = _one_steps(self.policy, batch.next_observations, noise)
        values = self.target_critic.batch(batch.next_observations, jnp.clip(actions, -1, 1))
        return td_target(batch, aggregate(values, self.config.aggregate), self.config.discount)

    def _actor_loss(
        self, policy: MLP, batch: Transitions, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        config = self.config
        noise = jr.normal(key, batch.actions.shape)

        def taught(noise: Array, observation: Array) -> Array:
            return jnp.clip(integrate(self.flow, noise, observation, config.euler_steps), -1, 1)

        actions = _one_steps(policy, batch.observations, noise)
        distance = jnp.square(actions - jax.vmap(taught)(noise, batch.observations)).mean()
        q = aggregate(self.critic.batch(batch.observations, jnp.clip(actions, -1, 1)), "mean")
        scale = jax.lax.stop_gradient(1 / jnp.abs(q).mean()) if config.normalize_q else 1.0
        loss = config.alpha * distance - scale * q.mean()
        return loss, {"q": q.mean(), "distillation": distance}


def _one_step(policy: MLP, observation: Array, noise: Array) -> Array:
    return policy(jnp.concatenate((noise, observation)))


def _one_steps(policy: MLP, observations: Array, noise: Array) -> Array:
    return jax.vmap(_one_step, in_axes=(None, 0, 0))(policy, observations, noise)
