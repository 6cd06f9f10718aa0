"""NF-RLBC: offline RL with a flow policy, MaxEnt RL and imitation on one policy.

Ghugare and Eysenbach (2025), Eq. (9):

    critic:  min (Q_i(s, a) - [r + discount * mask * agg_j Qbar_j(s', a')])^2,  a' ~ pi(. | s')
    actor:   max E_{a ~ pi}[min_i Q_i(s, a) - lambda log pi(a | s)] + alpha E_D[log pi(a | s)]

Actions sampled are clipped to [-1, 1] before a critic sees them, and the gradient of Q flows
through the sample into the flow.
"""

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import equinox.internal as eqxi
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
from nfrl.agents.parts.flow_policy import FlowPolicy, FlowPolicyConfig
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
from nfrl.errors import UserError
from nfrl.flows import denoise, rounded_networks
from nfrl.interfaces.agent import Capabilities

# Data clipped to this leave a flow's density finite next to a bound (the code's value).
ACTION_LIMIT = 1 - 1e-5


@dataclasses.dataclass(frozen=True)
class NFRLBCConfig(AgentOptions, FlowPolicyConfig):
    """NF-RLBC with the paper's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(
        rewards=True, values=True, online=True, likelihood=True
    )

    critic: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of each of the two Q-functions."""
    critic_unit: float = 1.0
    """What an output of one of a Q-network is worth, in rewards: Q = unit * network(s, a). 1 in the
    paper."""
    discount: float = 0.995
    """Of future rewards (the code's commands)."""
    tau: float = 0.005
    """How far the target critic follows in a step."""
    alpha: float = 10.0
    """Weight of imitation: 10 for puzzle, scene and cube, 1 for the mazes and antsoccer."""
    entropy: float = 0.0
    """lambda, the weight of the policy's entropy; 0 in all the paper's runs."""
    aggregate: Aggregate = "min"
    """Of the target critics; "mean" for antsoccer."""
    candidates: int = 1
    """Actions that are sampled for each one taken, of which the one of highest Q is: in the
    environment, and in the critic's target. 1 in the paper."""
    acting_candidates: int | None = None
    """How many in the environment, where more cost little; as many as in the target unless told."""
    likely: float = 1.0
    """Share of those candidates, the most likely by log pi, among which the best is chosen. A flow
    cannot jump from one way of acting to another, so some samples lie between, where no data are
    and the critic may promise anything; their density tells them."""
    imitate_first: int = 0
    """Updates at the start in which the policy only imitates, and the critic waits; 0 in the paper.
    They cost a fraction of the others, and the best of a policy's samples is no more precise than
    they are."""
    normalize_q: bool = False
    """Divide the actor's Q by its mean magnitude."""
    noise: float = 0.0
    """sigma of the noise on the data's actions in imitation: 0 in the code, 0.1 in the table."""
    denoising: bool = False
    """Remove that noise when acting, by one score step."""
    optimizer: AdamW = constant_adam(1e-4)
    """Adam, 1e-4 (the code), for policy and critic each."""

    def __post_init__(self):
        super().__post_init__()
        check_discount(self.discount)
        check_unit(self.critic_unit)
        check_positive(self, "candidates")
        if self.acting_candidates is not None:
            check_positive(self, "acting_candidates")
        if not 0 < self.likely <= 1:
            raise UserError(f"likely must lie in (0, 1]; got {self.likely}")
        if self.imitate_first < 0:
            raise UserError(f"imitate-first must be at least 0; got {self.imitate_first}")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "NFRLBC":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        if 0 < self.imitate_first >= steps:
            raise UserError(
                f"imitate-first ({self.imitate_first}) must be less than the run's steps ({steps})"
            )
        policy_key, critic_key = jr.split(key)
        policy = self.build_policy(policy_key, observation_dim, action_dim, chunk=self.chunk)
        critic = Critic(critic_key, observation_dim, action_dim, self.critic, unit=self.critic_unit)
        optimizer = self.optimizer.build(steps)
        state = (initial_state(optimizer, policy), initial_state(optimizer, critic))
        return NFRLBC(policy, critic, jax.tree.map(jnp.copy, critic), state, self, steps)


class NFRLBC(eqx.Module):
    """The agent: a policy, Q-functions and their targets, two optimisers' states."""

    policy: FlowPolicy
    critic: Critic
    target_critic: Critic
    optimizer_state: tuple[optax.OptState, optax.OptState]
    config: NFRLBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.algorithm

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Transitions:
        """Draw transitions."""
        return sample_transitions(dataset, key, batch_size)

    def update(self, batch: Transitions, key: PRNGKeyArray) -> tuple["NFRLBC", dict[str, Array]]:
        """Take one step of the critic and one of the actor, or only imitate while that is due."""
        if self.config.imitate_first == 0:
            return self._improve(batch, key)

        def arrays(agent: "NFRLBC", metrics: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
            return eqx.filter(agent, eqx.is_array), metrics

        count = optax.tree_utils.tree_get_all_with_path(self.optimizer_state[0], "count")[0][1]
        agent, metrics = jax.lax.cond(
            # Of seeds that train side by side all are at the same update: one branch is computed.
            eqxi.unvmap_all(count < self.config.imitate_first),
            lambda: arrays(*self._imitate(batch, key)),
            lambda: arrays(*self._improve(batch, key)),
        )
        return eqx.combine(agent, eqx.filter(self, eqx.is_array, inverse=True)), metrics

    def _imitate(self, batch: Transitions, key: PRNGKeyArray) -> tuple["NFRLBC", dict[str, Array]]:
        """Take one step of the actor, on alpha E_D[log pi(a | s)] alone."""
        policy_state, critic_state = self.optimizer_state

        def loss(policy: FlowPolicy) -> tuple[Array, dict[str, Array]]:
            conditions = policy.conditions(batch.observations)
            with rounded_networks():
                log_prob = self._noisy_log_prob(policy, batch, conditions, key)
            return -self.config.alpha * log_prob, {"q": jnp.zeros(()), "log_prob": log_prob}

        policy, policy_state, of_actor = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), policy_state
        )
        agent = NFRLBC(
            policy,
            self.critic,
            self.target_critic,
            (policy_state, critic_state),
            self.config,
            self.steps,
        )
        idle = {"loss": jnp.zeros(()), "grad_norm": jnp.zeros(())}
        return agent, join_metrics(critic=idle, actor=of_actor)

    def _improve(self, batch: Transitions, key: PRNGKeyArray) -> tuple["NFRLBC", dict[str, Array]]:
        """Take one step of the critic and one of the actor, both from the present networks."""
        target_key, actor_key = jr.split(key)
        optimizer = self.config.optimizer.build(self.steps)
        of_critics = self.config.optimizer.build(self.steps - self.config.imitate_first)
        policy_state, critic_state = self.optimizer_state

        target = self._target(batch, target_key)

        def critic_loss(critic: Critic) -> tuple[Array, dict[str, Array]]:
            return td_loss(critic, batch, target), {}

        def actor_loss(policy: FlowPolicy) -> tuple[Array, dict[str, Array]]:
            return self._actor_loss(policy, batch, actor_key)

        critic, critic_state, of_critic = gradient_step(
            critic_loss, self.critic, of_critics, critic_state
        )
        policy, policy_state, of_actor = gradient_step(
            actor_loss, self.policy, optimizer, policy_state
        )
        agent = NFRLBC(
            policy,
            critic,
            follow(self.target_critic, critic, self.config.tau),
            (policy_state, critic_state),
            self.config,
            self.steps,
        )
        return agent, join_metrics(critic=of_critic, actor=of_actor)

    def validate(self, batch: Transitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the held-out actions' mean log-density, in nats, and the critic's loss."""
        target_key, noise_key = jr.split(key)
        conditions = self.policy.conditions(batch.observations)
        return {
            "log_prob": self._noisy_log_prob(self.policy, batch, conditions, noise_key),
            "critic_loss": td_loss(self.critic, batch, self._target(batch, target_key)),
        }

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Sample an action, clipped to [-1, 1], or the best of several; the goal is not used."""
        noise = self.config.noise if self.config.denoising else 0.0
        candidates = self.config.acting_candidates or self.config.candidates
        if candidates == 1:
            return self.policy.act(key, noise, observation)
        flow, condition = self.policy.flow, self.policy.condition(observation)
        actions, log_pi = flow.sample_and_log_prob(key, (candidates,), condition)
        actions = likeliest(actions, log_pi, self.config.likely)
        actions = jnp.clip(denoise(flow, actions, condition, noise), -1, 1)
        values = jax.vmap(self.critic, in_axes=(None, 0))(observation, actions)
        return actions[jnp.argmax(aggregate(values, self.config.aggregate))]

    def q(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the least of the critics' values; the goal is not used."""
        return least_value(self.critic, observation, action)

    def log_prob(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, " action"],
    ) -> Float[Array, ""]:
        """Return the log-density of an action, in nats: of one candidate where there are more."""
        return self.policy.log_prob(action, observation)

    def _target(self, batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
        conditions = self.policy.conditions(batch.next_observations)
        shape = (self.config.candidates,)
        actions, log_pi = self.policy.flow.sample_and_log_prob(key, shape, conditions)
        actions = likeliest(actions, log_pi, self.config.likely)
        each = jax.vmap(self.target_critic.batch, in_axes=(None, 0))
        values = each(batch.next_observations, jnp.clip(actions, -1, 1))
        values = aggregate(values, self.config.aggregate)
        return td_target(batch, values.max(0), self.config.discount)

    def _actor_loss(
        self, policy: FlowPolicy, batch: Transitions, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        config = self.config
        sample_key, noise_key = jr.split(key)
        # Encoded once, for the samples and for the data's actions.
        conditions = policy.conditions(batch.observations)
        if config.entropy:
            actions, log_pi = policy.flow.sample_and_log_prob(sample_key, (), conditions)
        else:
            actions, log_pi = policy.flow.sample(sample_key, (), conditions), jnp.zeros(())
        q = self.critic.batch(batch.observations, jnp.clip(actions, -1, 1)).min(-1)
        scale = jax.lax.stop_gradient(1 / jnp.abs(q).mean()) if config.normalize_q else 1.0
        log_prob = self._noisy_log_prob(policy, batch, conditions, noise_key)
        loss = -scale * q.mean() + config.entropy * log_pi.mean() - config.alpha * log_prob
        return loss, {"q": q.mean(), "log_prob": log_prob}

    def _noisy_log_prob(
        self, policy: FlowPolicy, batch: Transitions, conditions: Array, key: PRNGKeyArray
    ) -> Array:
        actions = jnp.clip(batch.actions, -ACTION_LIMIT, ACTION_LIMIT)
        return policy.noisy_log_prob(actions, conditions, key, self.config.noise)


def likeliest(
    actions: Float[Array, "candidates ... action"],
    log_pi: Float[Array, "candidates ..."],
    share: float,
) -> Float[Array, "kept ... action"]:
    """Return the given share of the candidates, the most likely of each batch member's."""
    kept = math.ceil(share * len(actions))
    if kept == len(actions):
        return actions
    order = jnp.argsort(log_pi, axis=0)[-kept:]
    return jnp.take_along_axis(actions, order[..., None], axis=0)
