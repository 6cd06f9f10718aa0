"""CRL: contrastive reinforcement learning, the baselines of NF-UGS (Eysenbach et al., 2022).

    energy  f(s, a, g) = -|phi(s, a) - psi(g)|_2, which is Q
    critic  min E [ logsumexp_j f(s_i, a_i, g_j) - f(s_i, a_i, g_i) ] + 0.1 E [ logsumexp_j^2 ]
    actor   as NF-UGS's

The three differ in the goals that they command: the test's own ("oracle"), uniform ones from the
buffer ("uniform"), or of many from the buffer the one of lowest Q from the start ("minmax").
"""

import dataclasses
from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import exploring_network
from nfrl.agents.parts.optimization import gradient_step, initial_state
from nfrl.agents.parts.soft_actor import (
    GaussianActor,
    SoftActorState,
    constant_rate,
    improve,
    initial_actor_state,
)
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalBatch
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP
from nfrl.spec import Spec

GOAL_DIM = 2
Goals = Literal["oracle", "uniform", "minmax"]


@dataclasses.dataclass(frozen=True)
class CRLConfig:
    """CRL with the paper's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(explores=True, goals=True)

    goals: Goals = "uniform"
    """Whose goals are commanded: the test's, the buffer's, or the buffer's of lowest Q."""
    encoder: tuple[int, ...] = (1024, 1024, 1024, 1024)
    """Hidden widths of phi and of psi."""
    representation_dim: int = 64
    """Width of phi(s, a) and psi(g)."""
    actor_hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)
    """Hidden widths of the actor."""
    penalty: float = 0.1
    """Weight of the mean squared logsumexp."""
    learning_rate: float = 3e-4
    """Of Adam for all."""

    @property
    def capabilities(self) -> Capabilities:
        """What the agent will need and be able to do."""
        return self.algorithm

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int = 0, data: Dataset | None = None
    ) -> "CRL":
        """Build an untrained agent; its learning rates are constant, and it learns from no data."""
        observation_dim, action_dim = spec.observation_dim, spec.action_dim
        phi_key, psi_key, actor_key = jr.split(key, 3)
        width = self.representation_dim
        critic = ContrastiveCritic(
            exploring_network(phi_key, observation_dim + action_dim, self.encoder, width),
            exploring_network(psi_key, GOAL_DIM, self.encoder, width),
        )
        hidden = self.actor_hidden
        policy = GaussianActor(
            exploring_network(actor_key, observation_dim + GOAL_DIM, hidden, 2 * action_dim)
        )
        state = CRLState(
            initial_state(constant_rate(self.learning_rate), critic),
            initial_actor_state(policy, self.learning_rate),
        )
        return CRL(policy, critic, jnp.zeros(()), state, self)


ORACLE, UNIFORM, MINMAX = (CRLConfig(goals) for goals in get_args(Goals))
"""One for each choice of goals."""


class ContrastiveCritic(eqx.Module):
    """The energy -|phi(s, a) - psi(g)|_2."""

    phi: MLP
    psi: MLP

    def q(self, observation: Array, action: Array, goal: Array) -> Array:
        """Return the energy of one or many goals."""
        psi = jnp.vectorize(self.psi, signature="(g)->(r)")(goal)
        return energy(self.phi(jnp.concatenate((observation, action))), psi)


def energy(phi: Float[Array, "*#batch r"], psi: Float[Array, "*#batch r"]) -> Array:
    """Return -|phi - psi|_2, whose gradient is finite where they meet."""
    return -jnp.sqrt(jnp.square(phi - psi).sum(-1) + 1e-6)


def energies(phi: Float[Array, "n r"], psi: Float[Array, "m r"]) -> Float[Array, "n m"]:
    """Return the energy of every pair, through |phi|^2 - 2 phi psi + |psi|^2: one product."""
    squares = jnp.square(phi).sum(-1)[:, None] + jnp.square(psi).sum(-1)
    return -jnp.sqrt(jnp.maximum(squares - 2 * phi @ psi.T, 0) + 1e-6)


class CRLState(eqx.Module):
    """What the optimisers remember."""

    critic: optax.OptState
    actor: SoftActorState


class CRL(eqx.Module):
    """The agent: an actor, a critic, the temperature, the optimisers' states, its configuration."""

    policy: GaussianActor
    critic: ContrastiveCritic
    log_temperature: Float[Array, ""]
    optimizer_state: CRLState
    config: CRLConfig = eqx.field(static=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it needs and can do."""
        return self.config.capabilities

    @property
    def commands_test_goals(self) -> bool:
        """Whether the candidates to command are to be the test's goals."""
        return self.config.goals == "oracle"

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["CRL", dict[str, Array]]:
        """Take one gradient step of the critic, and then one of the actor and its temperature."""
        inputs = jnp.concatenate((batch.observations, batch.actions), axis=-1)

        def loss(critic: ContrastiveCritic) -> tuple[Array, dict[str, Array]]:
            phi, psi = jax.vmap(critic.phi)(inputs), jax.vmap(critic.psi)(batch.goals)
            logits = energies(phi, psi)
            totals = jax.nn.logsumexp(logits, axis=1)
            right = logits.argmax(1) == jnp.arange(len(logits))
            value = (totals - jnp.diag(logits)).mean()
            penalty = jnp.square(totals).mean()
            return value + self.config.penalty * penalty, {"accuracy": right.mean()}

        optimizer = constant_rate(self.config.learning_rate)
        critic, critic_state, metrics = gradient_step(
            loss, self.critic, optimizer, self.optimizer_state.critic
        )
        policy, log_temperature, actor_state, actor_metrics = improve(
            self.policy,
            self.log_temperature,
            self.optimizer_state.actor,
            critic.q,
            batch,
            key,
            self.config.learning_rate,
        )
        state = CRLState(critic_state, actor_state)
        agent = CRL(policy, critic, log_temperature, state, self.config)
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
        """Choose a goal for an episode that begins at ``start``: any, or that of lowest Q."""
        if self.config.goals != "minmax":
            return jr.choice(key, candidates)

        def value(goal: Array, key: PRNGKeyArray) -> Array:
            return self.critic.q(start, self.act(start, goal, key), goal)

        return candidates[jnp.argmin(jax.vmap(value)(candidates, jr.split(key, len(candidates))))]

    def q(self, observation: Array, action: Array, goal: Array) -> Array:
        """Return the energy Q(s, a, g), of one or many goals."""
        return self.critic.q(observation, action, goal)

    def coverage(self, goals: Float[Array, "*batch 2"]) -> None:
        """Return no density: this critic has none."""
