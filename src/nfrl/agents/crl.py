"""CRL: contrastive reinforcement learning, the baselines of NF-UGS (Eysenbach et al., 2022).

    energy    f(s, a, g) = -|phi(s, a) - psi(g)|_2, which is Q
    critic    min E [ L_i - f(s_i, a_i, g_i) ] + 0.1 E [ (logsumexp_j f(s_i, a_i, g_j))^2 ]
    forward   L_i = logsumexp_j f(s_i, a_i, g_j), over goals
    backward  L_i = logsumexp_j f(s_j, a_j, g_i), over states and actions
    actor     as NF-UGS's; it sees g, or psi(g)

The three differ in the goals that they command: the test's own ("oracle"), uniform ones from the
buffer ("uniform"), or of many from the buffer the one of lowest Q from the start ("minmax").
"""

import dataclasses
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from paramax import NonTrainable, unwrap

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
Contrast = Literal["forward", "backward"]


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
    contrast: Contrast = "forward"
    """Whether InfoNCE tells a goal among goals, or a state and action among others: in the code
    backward for uniform and minmax."""
    penalty: float = 0.1
    """Weight of the mean squared logsumexp."""
    represent_goals: bool = False
    """Show the actor psi(g) in place of g, as the code does."""
    minmax_by_mode: bool = False
    """Score minmax's goals by the action without noise, as the code does, in place of a sample."""
    goal_scale: float = 1.0
    """Units of length that are 1 to psi; 1 in the paper. As NF-UGS's."""
    noise: float = 0.0
    """sigma of the training noise on the critic's goals, in units of length; 0 in the paper. As
    NF-UGS's."""
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
            self.goal_scale,
        )
        hidden = self.actor_hidden
        inputs = observation_dim + (width if self.represent_goals else GOAL_DIM)
        actor = GaussianActor(exploring_network(actor_key, inputs, hidden, 2 * action_dim))
        policy = RepresentingActor.of(actor, critic) if self.represent_goals else actor
        state = CRLState(
            initial_state(constant_rate(self.learning_rate), critic),
            initial_actor_state(policy, self.learning_rate),
        )
        return CRL(policy, critic, jnp.zeros(()), state, self)


ORACLE, UNIFORM, MINMAX = (CRLConfig(goals) for goals in get_args(Goals))
"""One for each choice of goals."""


class ContrastiveCritic(eqx.Module):
    """The energy -|phi(s, a) - psi(g / scale)|_2."""

    phi: MLP
    psi: MLP
    goal_scale: float = eqx.field(static=True)

    def represent(self, goal: Float[Array, "2"]) -> Float[Array, " r"]:
        """Return psi of a goal, given in units of length."""
        return self.psi(goal / self.goal_scale)

    def q(self, observation: Array, action: Array, goal: Array) -> Array:
        """Return the energy of one or many goals."""
        psi = jnp.vectorize(self.represent, signature="(g)->(r)")(goal)
        return energy(self.phi(jnp.concatenate((observation, action))), psi)


class RepresentingActor(eqx.Module):
    """An actor that sees psi(g). The critic's loss alone trains psi, so it is a constant here."""

    actor: GaussianActor
    psi: NonTrainable[MLP]
    goal_scale: float = eqx.field(static=True)

    @classmethod
    def of(cls, actor: GaussianActor, critic: ContrastiveCritic) -> "RepresentingActor":
        """Join an actor and a copy of a critic's psi."""
        return cls(actor, NonTrainable(jax.tree.map(_copy, critic.psi)), critic.goal_scale)

    def sample_and_log_prob(
        self, observation: Array, goal: Array, key: PRNGKeyArray
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """Draw an action, and return its log-density as well."""
        return self.actor.sample_and_log_prob(observation, self._represent(goal), key)

    def mode(self, observation: Array, goal: Array) -> Float[Array, " action"]:
        """Return the action of no noise."""
        return self.actor.mode(observation, self._represent(goal))

    def _represent(self, goal: Array) -> Array:
        return unwrap(self.psi)(goal / self.goal_scale)


def _copy(leaf: Any) -> Any:
    # What a compiled update gives away must not be given away twice.
    return jnp.copy(leaf) if eqx.is_array(leaf) else leaf


def energy(phi: Float[Array, "*#batch r"], psi: Float[Array, "*#batch r"]) -> Array:
    """Return -|phi - psi|_2, whose gradient is finite where they meet."""
    return -jnp.sqrt(jnp.square(phi - psi).sum(-1) + 1e-6)


def energies(phi: Float[Array, "n r"], psi: Float[Array, "m r"]) -> Float[Array, "n m"]:
    """Return the energy of every pair, through |phi|^2 - 2 phi psi + |psi|^2: one product.

    The product is float32's on every device. A GPU's ten bits (TF32) would leave nothing of a
    difference that is small beside the squares: energies were off by 0.08 to 0.4 there.
    """
    squares = jnp.square(phi).sum(-1)[:, None] + jnp.square(psi).sum(-1)
    products = jnp.matmul(phi, psi.T, precision=jax.lax.Precision.HIGHEST)
    return -jnp.sqrt(jnp.maximum(squares - 2 * products, 0) + 1e-6)


class CRLState(eqx.Module):
    """What the optimisers remember."""

    critic: optax.OptState
    actor: SoftActorState


class CRL(eqx.Module):
    """The agent: an actor, a critic, the temperature, the optimisers' states, its configuration."""

    policy: GaussianActor | RepresentingActor
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
        goals, contrast = batch.goals, self.config.contrast
        if self.config.noise:
            noise_key, key = jr.split(key)
            goals += self.config.noise * jr.normal(noise_key, goals.shape)

        def loss(critic: ContrastiveCritic) -> tuple[Array, dict[str, Array]]:
            phi, psi = jax.vmap(critic.phi)(inputs), jax.vmap(critic.represent)(goals)
            logits = energies(phi, psi)
            totals = jax.nn.logsumexp(logits, axis=1)
            against = totals if contrast == "forward" else jax.nn.logsumexp(logits, axis=0)
            right = logits.argmax(1) == jnp.arange(len(logits))
            value = (against - jnp.diag(logits)).mean()
            penalty = jnp.square(totals).mean()
            return value + self.config.penalty * penalty, {"accuracy": right.mean()}

        optimizer = constant_rate(self.config.learning_rate)
        critic, critic_state, metrics = gradient_step(
            loss, self.critic, optimizer, self.optimizer_state.critic
        )
        policy = self.policy
        if isinstance(policy, RepresentingActor):
            policy = RepresentingActor.of(policy.actor, critic)
        policy, log_temperature, actor_state, actor_metrics = improve(
            policy,
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
            if self.config.minmax_by_mode:
                return self.critic.q(start, self.policy.mode(start, goal), goal)
            return self.critic.q(start, self.act(start, goal, key), goal)

        return candidates[jnp.argmin(jax.vmap(value)(candidates, jr.split(key, len(candidates))))]

    def q(self, observation: Array, action: Array, goal: Array) -> Array:
        """Return the energy Q(s, a, g), of one or many goals."""
        return self.critic.q(observation, action, goal)

    def coverage(self, goals: Float[Array, "*batch 2"]) -> None:
        """Return no density: this critic has none."""
