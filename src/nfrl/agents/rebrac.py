"""ReBRAC: TD3 with a penalty for leaving the data, in the actor and in the critic.

Tarasov et al. (2023), as in FQL's repository (Park et al., 2025):

    critic:  min (Q_i(s, a) - target)^2,
             target = r + discount * mask * (min_j Qbar_j(s', a') - alpha_c |a' - b'|^2),
             a' = clip(pibar(s') + noise), with b' the data's own next action
    actor:   min -Q(s, pi(s)) / mean |Q| + alpha_a |pi(s) - a|^2,  Q = min_i Q_i

The actor learns in every second update, and the targets follow it then. In the others its Adam
steps with a gradient of zero, as there.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfrl.agents.parts.checks import check_discount, check_positive, check_unit
from nfrl.agents.parts.critics import (
    Critic,
    aggregate,
    least_value,
    td_loss,
    td_target,
)
from nfrl.agents.parts.gaussian import mean_network
from nfrl.agents.parts.optimization import (
    AdamW,
    constant_adam,
    follow,
    gradient_step,
    initial_state,
    join_metrics,
    zero_gradient_step,
)
from nfrl.agents.wrappers.options import AgentOptions
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class ReBRACConfig(AgentOptions):
    """ReBRAC with the values of FQL's repository."""

    algorithm: ClassVar[Capabilities] = Capabilities(rewards=True, values=True)

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the actor, which has no LayerNorm."""
    critic: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of each of the two Q-functions."""
    critic_unit: float = 1.0
    """What an output of one of a Q-network is worth, in rewards: Q = unit * network(s, a). 1 in the
    paper."""
    discount: float = 0.99
    """Of future rewards: 0.995 for humanoidmaze and antsoccer."""
    tau: float = 0.005
    """How far the targets follow in an update of the actor."""
    alpha_actor: float = 0.1
    """Weight of |pi(s) - a|^2 in the actor; the paper tunes it for each task, this is scene's."""
    alpha_critic: float = 0.01
    """Weight of |a' - b'|^2 in the target; the paper tunes it for each task, this is scene's."""
    actor_every: int = 2
    """Updates of the critic for one of the actor and the targets."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target's action."""
    target_noise_limit: float = 0.5
    """Largest magnitude of that noise."""
    optimizer: AdamW = constant_adam(3e-4)
    """Adam, 3e-4, for actor and critic each."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)
        check_unit(self.critic_unit)
        check_positive(self, "actor_every")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "ReBRAC":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, critic_key = jr.split(key)
        policy = mean_network(
            policy_key, observation_dim, self.hidden, action_dim, layer_norm=False
        )
        critic = Critic(critic_key, observation_dim, action_dim, self.critic, unit=self.critic_unit)
        optimizer = self.optimizer.build(steps)
        return ReBRAC(
            policy,
            critic,
            jax.tree.map(jnp.copy, policy),
            jax.tree.map(jnp.copy, critic),
            jnp.zeros((), jnp.int32),
            (initial_state(optimizer, policy), initial_state(optimizer, critic)),
            self,
            steps,
        )


class ReBRAC(eqx.Module):
    """The agent: an actor, Q-functions, the targets of both, two optimisers' states.

    ``count`` is the number of updates made, which says when the actor moves.
    """

    policy: MLP
    critic: Critic
    target_policy: MLP
    target_critic: Critic
    count: Int[Array, ""]
    optimizer_state: tuple[optax.OptState, optax.OptState]
    config: ReBRACConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["ReBRAC", dict[str, Array]]:
        """Take one step of the critic, and in every second update one of the actor."""
        optimizer = self.config.optimizer.build(self.steps)
        policy_state, critic_state = self.optimizer_state
        target = self._target(batch, key)

        def critic_loss(critic: Critic) -> tuple[Array, dict[str, Array]]:
            return td_loss(critic, batch, target), {}

        def actor_loss(policy: MLP) -> tuple[Array, dict[str, Array]]:
            return self._actor_loss(policy, batch)

        critic, critic_state, of_critic = gradient_step(
            critic_loss, self.critic, optimizer, critic_state
        )

        def move() -> tuple:
            policy, state, metrics = gradient_step(actor_loss, self.policy, optimizer, policy_state)
            targets = (
                follow(self.target_policy, policy, self.config.tau),
                follow(self.target_critic, critic, self.config.tau),
            )
            return policy, targets, state, metrics

        def stay() -> tuple:
            loss, metrics = actor_loss(self.policy)
            metrics = {"loss": loss, "grad_norm": jnp.zeros_like(loss), **metrics}
            policy, state = zero_gradient_step(self.policy, optimizer, policy_state)
            return policy, (self.target_policy, self.target_critic), state, metrics

        count = self.count + 1
        policy, (target_policy, target_critic), policy_state, of_actor = jax.lax.cond(
            count % self.config.actor_every == 0, move, stay
        )
        agent = ReBRAC(
            policy,
            critic,
            target_policy,
            target_critic,
            count,
            (policy_state, critic_state),
            self.config,
            self.steps,
        )
        return agent, join_metrics(critic=of_critic, actor=of_actor)

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses of actor and critic, and the actor's squared error, summed over a."""
        actor_loss, metrics = self._actor_loss(self.policy, batch)
        critic_loss = td_loss(self.critic, batch, self._target(batch, key))
        return {"actor_loss": actor_loss, "critic_loss": critic_loss, **metrics}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the actor's action in [-1, 1]; neither goal nor key is used."""
        return jnp.tanh(self.policy(observation))

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values; the goal is not used."""
        return least_value(self.critic, observation, action)

    def _target(self, batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
        config = self.config
        noise = config.target_noise * jr.normal(key, batch.actions.shape)
        noise = jnp.clip(noise, -config.target_noise_limit, config.target_noise_limit)
        actions = _actions(self.target_policy, batch.next_observations)
        actions = jnp.clip(actions + noise, -1, 1)
        values = aggregate(self.target_critic.batch(batch.next_observations, actions), "min")
        penalty = jnp.square(actions - batch.next_actions).sum(-1)
        return td_target(batch, values - config.alpha_critic * penalty, config.discount)

    def _actor_loss(self, policy: MLP, batch: Transitions) -> tuple[Array, dict[str, Array]]:
        actions = _actions(policy, batch.observations)
        q = aggregate(self.critic.batch(batch.observations, actions), "min")
        scale = jax.lax.stop_gradient(1 / jnp.abs(q).mean())
        error = jnp.square(actions - batch.actions).sum(-1).mean()
        loss = -scale * q.mean() + self.config.alpha_actor * error
        return loss, {"q": q.mean(), "squared_error": error}


def _actions(
    policy: MLP, observations: Float[Array, "batch observation"]
) -> Float[Array, "batch action"]:
    return jnp.tanh(jax.vmap(policy)(observations))
