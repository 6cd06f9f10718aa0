"""CRL from data: contrastive reinforcement learning (Eysenbach et al., 2022), OGBench's version.

    critic  f_i(s, a, g) = phi_i(s, a)^T psi_i(g) / sqrt(d),  i = 1, 2
            min E [ -log sigma(f_i(s_j, a_j, g_j)) - sum_{k != j} log sigma(-f_i(s_j, a_j, g_k)) ]
    actor   max E [ min_i f_i(s, mu(s, g), g) / mean |f| + alpha log N(a; mu(s, g), I) ]

g_j is a later state of s_j's trajectory, Delta ~ Geom(1 - gamma) steps later; those of the other
transitions of the batch are what it is told from. f is then the logarithm of p(g | s, a) / p(g):
how much likelier g is later on than by chance, the logarithm of Q up to p(g). The mean acts.

The agents of this name that explore without data are in :mod:`nfrl.agents.crl`.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.checks import check_positive
from nfrl.agents.parts.gaussian import ddpg_bc_loss, mean_network
from nfrl.agents.parts.goal_values import GoalValueConfig, towards
from nfrl.agents.parts.networks import gelu_network
from nfrl.agents.parts.optimization import gradient_step, initial_state, join_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalMixture, GoalTransitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP

LEAST_Q = 1e-6
"""Below it Q = exp(f) is no longer told from 0, so that an actor is not drawn by the hopeless."""


@dataclasses.dataclass(frozen=True)
class OfflineCRLConfig(GoalValueConfig):
    """CRL from data with OGBench's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, draws_chunks=True)

    value_goals: GoalMixture = GoalMixture()
    """The goals that belong to their transitions: those later in the trajectory."""
    latent_dim: int = 512
    """d, width of phi and psi."""
    alpha: float = 0.1
    """Weight of imitation in the actor's loss, tuned for each kind of task."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "latent_dim")

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "OfflineCRL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`."""
        policy_key, *critic_keys = jr.split(key, 3)
        policy = mean_network(
            policy_key, 2 * observation_dim, self.hidden, action_dim, layer_norm=False
        )
        critic = tuple(
            Bilinear(each, observation_dim, action_dim, self.critic, self.latent_dim)
            for each in critic_keys
        )
        optimizer = self.optimizer.build(steps)
        states = initial_state(optimizer, policy), initial_state(optimizer, critic)
        return OfflineCRL(policy, critic, states, self, steps)


class Bilinear(eqx.Module):
    """phi(s, a) and psi(g), whose scaled product is f."""

    phi: MLP
    psi: MLP

    def __init__(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        hidden: tuple[int, ...],
        latent_dim: int,
    ):
        phi_key, psi_key = jr.split(key)
        inputs = observation_dim + action_dim
        self.phi = gelu_network(phi_key, inputs, hidden, latent_dim, layer_norm=True)
        self.psi = gelu_network(psi_key, observation_dim, hidden, latent_dim, layer_norm=True)

    def embed(
        self,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        goals: Float[Array, "batch observation"],
    ) -> tuple[Float[Array, "batch d"], Float[Array, "batch d"]]:
        """Return phi / sqrt(d) and psi of every transition of a batch."""
        phi = jax.vmap(self.phi)(jnp.concatenate((observations, actions), -1))
        return phi / jnp.sqrt(phi.shape[-1]), jax.vmap(self.psi)(goals)


class OfflineCRL(eqx.Module):
    """The agent: the network of the mean action, two critics, two optimisers' states."""

    policy: MLP
    critic: tuple[Bilinear, ...]
    optimizer_state: tuple[optax.OptState, optax.OptState]
    config: OfflineCRLConfig = eqx.field(static=True)
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

    def update(
        self, batch: GoalTransitions, key: PRNGKeyArray
    ) -> tuple["OfflineCRL", dict[str, Array]]:
        """Take one step of critics and actor each, both from the present networks."""
        optimizer = self.config.optimizer.build(self.steps)
        policy_state, critic_state = self.optimizer_state
        policy, policy_state, of_actor = gradient_step(
            lambda policy: self._actor_loss(policy, batch), self.policy, optimizer, policy_state
        )
        critic, critic_state, of_critic = gradient_step(
            lambda critic: _contrastive_loss(critic, batch), self.critic, optimizer, critic_state
        )
        states = policy_state, critic_state
        agent = OfflineCRL(policy, critic, states, self.config, self.steps)
        return agent, join_metrics(critic=of_critic, actor=of_actor)

    def validate(self, batch: GoalTransitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses, how often a goal is told from the others, and the actor's parts."""
        critic_loss, of_critic = _contrastive_loss(self.critic, batch)
        actor_loss, of_actor = self._actor_loss(self.policy, batch)
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, **of_critic, **of_actor}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Return the mean action, clipped to [-1, 1]; the key is not used."""
        return jnp.clip(self.policy(towards(observation, goal)), -1, 1)

    def _actor_loss(self, policy: MLP, batch: GoalTransitions) -> tuple[Array, dict[str, Array]]:
        state, goals = batch.observations, batch.actor_goals

        def log_q(actions: Array) -> Array:
            pairs = [member.embed(state, actions, goals) for member in self.critic]
            least = jnp.stack([(phi * psi).sum(-1) for phi, psi in pairs]).min(0)
            return jnp.maximum(least, jnp.log(LEAST_Q))

        inputs = towards(state, goals)
        return ddpg_bc_loss(policy, inputs, batch.actions, log_q, self.config.alpha)


def _contrastive_loss(
    critic: tuple[Bilinear, ...], batch: GoalTransitions
) -> tuple[Array, dict[str, Array]]:
    pairs = [member.embed(batch.observations, batch.actions, batch.goals) for member in critic]
    logits = jnp.stack([phi @ psi.T for phi, psi in pairs])
    own = jnp.eye(len(batch.goals))
    loss = optax.sigmoid_binary_cross_entropy(logits, own).mean()
    told = logits.mean(0).argmax(1) == jnp.arange(len(batch.goals))
    return loss, {"accuracy": told.mean()}
