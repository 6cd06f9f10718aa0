"""NF-UGS: one flow is the Q-function and the coverage density (Ghugare and Eysenbach, 2025, 5.4).

critic       max E_{(s, a), g = s_{t + Delta}} log p(g + sigma eps | m phi(s, a))
             m = 0 with probability 0.1, else 1
Q(s, a, g) = log p(g | phi(s, a))
coverage     log p(g) = log p(g | 0)
actor        max E_{a ~ pi(. | s, g)} [ Q(s, a, g) - alpha log pi(a | s, g) ]
commands     of many goals from the buffer the one of lowest log p(g)
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import exploring_network
from nfrl.agents.parts.optimization import gradient_step, initial_state
from nfrl.agents.parts.soft_actor import (
    ActorKind,
    FlowActor,
    GaussianActor,
    SoftActorState,
    build_actor,
    constant_rate,
    improve,
    initial_actor_state,
)
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalBatch
from nfrl.flows import FlowConfig, RealNVPConfig
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP
from nfrl.spec import Spec

GOAL_DIM = 2


@dataclasses.dataclass(frozen=True)
class NFUGSConfig:
    """NF-UGS with the paper's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(explores=True, goals=True)

    flow: FlowConfig = RealNVPConfig()
    """The density of goals."""
    condition_dim: int = 64
    """Width k of phi(s, a)."""
    encoder: tuple[int, ...] = (1024, 1024, 1024, 1024)
    """Hidden widths of phi."""
    actor_hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)
    """Hidden widths of the actor."""
    actor: ActorKind = "gaussian"
    """What squashed actions come from: a Gaussian (the paper's runs), or a flow of the critic's
    sizes."""
    noise: float = 0.05
    """sigma of the training noise on the goals, in units of length."""
    mask_probability: float = 0.1
    """How often the condition is masked, so that the flow learns p(g)."""
    goal_scale: float = 1.0
    """Units of length that are 1 to the flow; 1 in the paper. About the radius of the maze lets
    the flow start where the goals are. Densities stay those per square unit of length."""
    flow_learning_rate: float = 1e-4
    """Of AdamW for the flow."""
    flow_weight_decay: float = 1e-6
    """Of AdamW for the flow."""
    learning_rate: float = 3e-4
    """Of Adam for phi, the actor and its temperature."""

    @property
    def capabilities(self) -> Capabilities:
        """What the agent will need and be able to do."""
        return self.algorithm

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int = 0, data: Dataset | None = None
    ) -> "NFUGS":
        """Build an untrained agent; its learning rates are constant, and it learns from no data."""
        observation_dim, action_dim = spec.observation_dim, spec.action_dim
        encoder_key, flow_key, actor_key = jr.split(key, 3)
        critic = FlowCritic(
            exploring_network(
                encoder_key, observation_dim + action_dim, self.encoder, self.condition_dim
            ),
            self.flow.build(flow_key, dim=GOAL_DIM, cond_dim=self.condition_dim),
            self.goal_scale,
        )
        policy = build_actor(
            self.actor,
            actor_key,
            observation_dim + GOAL_DIM,
            action_dim,
            hidden=self.actor_hidden,
            condition_dim=self.condition_dim,
            flow=self.flow,
        )
        state = NFUGSState(
            initial_state(self.critic_optimizer(), critic),
            initial_actor_state(policy, self.learning_rate),
        )
        return NFUGS(policy, critic, jnp.zeros(()), state, self)

    def critic_optimizer(self) -> optax.GradientTransformation:
        """Build the critic's optimiser: the flow and phi learn at rates of their own."""
        return optax.partition(
            {
                "encoder": constant_rate(self.learning_rate),
                "flow": constant_rate(self.flow_learning_rate, self.flow_weight_decay),
            },
            lambda critic: dataclasses.replace(critic, encoder="encoder", flow="flow"),
        )


class FlowCritic(eqx.Module):
    """p(g | m phi(s, a)): an encoder phi, and a conditional density of goals."""

    encoder: MLP
    flow: AbstractDistribution
    goal_scale: float = eqx.field(static=True)

    def log_prob(
        self, goal: Float[Array, "*batch 2"], condition: Float[Array, "*#batch condition"]
    ) -> Float[Array, "*batch"]:
        """Return the log-density of goals, per square unit of length."""
        jacobian = GOAL_DIM * jnp.log(self.goal_scale)
        return self.flow.log_prob(goal / self.goal_scale, condition) - jacobian

    def q(self, observation: Array, action: Array, goal: Array) -> Array:
        """Return log p(g | phi(s, a)), of one or many goals."""
        return self.log_prob(goal, self.encoder(jnp.concatenate((observation, action))))

    def coverage(self, goals: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
        """Return log p(g) = log p(g | 0).

        The condition has no batch, so what couplings make of it is computed once for all goals.
        """
        return self.log_prob(goals, jnp.zeros(self.encoder.layers[-1].bias.shape))


class NFUGSState(eqx.Module):
    """What the optimisers remember."""

    critic: optax.OptState
    actor: SoftActorState


class NFUGS(eqx.Module):
    """The agent: an actor, a critic, the temperature, the optimisers' states, its configuration."""

    policy: GaussianActor | FlowActor
    critic: FlowCritic
    log_temperature: Float[Array, ""]
    optimizer_state: NFUGSState
    config: NFUGSConfig = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    commands_test_goals = False

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["NFUGS", dict[str, Array]]:
        """Take one gradient step of the critic, and then one of the actor and its temperature."""
        noise_key, mask_key, actor_key = jr.split(key, 3)
        goals = batch.goals + self.config.noise * jr.normal(noise_key, batch.goals.shape)
        unmasked = jr.bernoulli(mask_key, 1 - self.config.mask_probability, (len(goals), 1))
        inputs = jnp.concatenate((batch.observations, batch.actions), axis=-1)

        def loss(critic: FlowCritic) -> tuple[Array, dict[str, Array]]:
            conditions = jnp.where(unmasked, jax.vmap(critic.encoder)(inputs), 0)
            log_prob = critic.log_prob(goals, conditions)
            return -log_prob.mean(), {"log_prob": _mean(log_prob, unmasked[:, 0])}

        critic, critic_state, metrics = gradient_step(
            loss, self.critic, self.config.critic_optimizer(), self.optimizer_state.critic
        )
        policy, log_temperature, actor_state, actor_metrics = improve(
            self.policy,
            self.log_temperature,
            self.optimizer_state.actor,
            critic.q,
            batch,
            actor_key,
            self.config.learning_rate,
        )
        state = NFUGSState(critic_state, actor_state)
        agent = NFUGS(policy, critic, log_temperature, state, self.config)
        return agent, metrics | actor_metrics

    def act(
        self, observation: Float[Array, " observation"], goal: Float[Array, "2"], key: PRNGKeyArray
    ) -> Float[Array, " action"]:
        """Sample an action."""
        return self.policy.sample_and_log_prob(observation, goal, key)[0]

    def command(
        self,
        key: PRNGKeyArray,
        candidates: Float[Array, "candidates 2"],
        start: Float[Array, " observation"],
    ) -> Float[Array, "2"]:
        """Choose the goal of lowest log p(g); neither the key nor the start is used."""
        return candidates[jnp.argmin(self.critic.coverage(candidates))]

    def q(self, observation: Array, action: Array, goal: Array) -> Array:
        """Return Q(s, a, g) = log p(g | phi(s, a)), of one or many goals."""
        return self.critic.q(observation, action, goal)

    def coverage(self, goals: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
        """Return log p(g)."""
        return self.critic.coverage(goals)


def _mean(values: Array, where: Array) -> Array:
    """Return the mean of some values; 0 if there are none."""
    return (values * where).sum() / jnp.maximum(where.sum(), 1)
