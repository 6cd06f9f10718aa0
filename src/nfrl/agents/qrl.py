"""QRL: quasimetric reinforcement learning (Wang et al., 2023), with OGBench's values.

With d the quasimetric of :mod:`nfrl.agents.parts.quasimetric`, phi its embedding, T a model of what
an action does to phi(s), and lambda > 0:

    distance  min E_{s, g} 100 softplus(5 - d(s, g) / 100) + lambda c,  c = E relu(d(s, s') - 1)^2
    lambda    max lambda (c - epsilon)
    model     min E [ d(phi(s'), T) + d(T, phi(s')) ] / 2,  T = phi(s) + f(phi(s), a)
    actor     max E [ -d(T(s, mu(s, g)), g) / mean d + alpha log N(a; mu(s, g), I) ]

States are pushed apart as far as single steps allow: what is left is the length of shortest paths.
The mean acts.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.gaussian import ddpg_bc_loss, mean_network
from nfrl.agents.parts.goal_values import GoalValueConfig, towards
from nfrl.agents.parts.networks import gelu_network
from nfrl.agents.parts.optimization import gradient_step, initial_state, join_metrics
from nfrl.agents.parts.quasimetric import Quasimetric
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalMixture, GoalTransitions
from nfrl.interfaces.agent import Capabilities
from nfrl.networks import MLP

FAR, SCALE = 5.0, 100.0
"""Of the loss that pushes apart: its slope is half where d is FAR * SCALE, 500 steps."""


@dataclasses.dataclass(frozen=True)
class QRLConfig(GoalValueConfig):
    """QRL with OGBench's values."""

    algorithm: ClassVar[Capabilities] = Capabilities(goals=True, draws_chunks=True)

    value_goals: GoalMixture = GoalMixture(random=1.0)
    """The goals that states are pushed apart from."""
    latent_dim: int = 512
    """Width of phi, a multiple of 8."""
    epsilon: float = 0.05
    """How far steps may be longer than their cost, squared, on average."""
    alpha: float = 0.003
    """Weight of imitation in the actor's loss, tuned for each kind of task."""

    def build_algorithm(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "QRL":
        """Build an untrained agent; arguments as in :class:`AgentOptions`.

        Raises:
            UserError: ``latent_dim`` is no multiple of 8.
        """
        policy_key, metric_key, model_key = jr.split(key, 3)
        policy = mean_network(
            policy_key, 2 * observation_dim, self.hidden, action_dim, layer_norm=False
        )
        width = self.latent_dim
        distances = Distances(
            Quasimetric(metric_key, observation_dim, self.critic, width),
            gelu_network(model_key, width + action_dim, self.critic, width, layer_norm=True),
            jnp.zeros(()),
        )
        optimizer = self.optimizer.build(steps)
        states = initial_state(optimizer, policy), initial_state(optimizer, distances)
        return QRL(policy, distances, states, self, steps)


class Distances(eqx.Module):
    """The quasimetric, the model of what actions do to an embedding, and log lambda."""

    metric: Quasimetric
    model: MLP
    log_lambda: Float[Array, ""]

    def after(
        self, embedded: Float[Array, "batch latent"], actions: Float[Array, "batch action"]
    ) -> Float[Array, "batch latent"]:
        """Return T: the embeddings of where actions are expected to lead."""
        return embedded + jax.vmap(self.model)(jnp.concatenate((embedded, actions), -1))


class QRL(eqx.Module):
    """The agent: the network of the mean action, distances, two optimisers' states."""

    policy: MLP
    distances: Distances
    optimizer_state: tuple[optax.OptState, optax.OptState]
    config: QRLConfig = eqx.field(static=True)
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

    def update(self, batch: GoalTransitions, key: PRNGKeyArray) -> tuple["QRL", dict[str, Array]]:
        """Take one step of distances and actor each, both from the present networks."""
        optimizer = self.config.optimizer.build(self.steps)
        policy_state, distance_state = self.optimizer_state
        policy, policy_state, of_actor = gradient_step(
            lambda policy: self._actor_loss(policy, batch), self.policy, optimizer, policy_state
        )
        distances, distance_state, of_distance = gradient_step(
            lambda distances: self._distance_loss(distances, batch),
            self.distances,
            optimizer,
            distance_state,
        )
        states = policy_state, distance_state
        agent = QRL(policy, distances, states, self.config, self.steps)
        return agent, join_metrics(distance=of_distance, actor=of_actor)

    def validate(self, batch: GoalTransitions, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the losses and their parts; ``step_excess`` is c."""
        distance_loss, of_distance = self._distance_loss(self.distances, batch)
        actor_loss, of_actor = self._actor_loss(self.policy, batch)
        losses = {"distance_loss": distance_loss, "actor_loss": actor_loss}
        return {**losses, **of_distance, **of_actor}

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
        """Return -d(s, g): minus the number of steps to the goal."""
        metric = self.distances.metric
        return -metric.between(metric.phi(observation), metric.phi(goal))

    def _distance_loss(
        self, distances: Distances, batch: GoalTransitions
    ) -> tuple[Array, dict[str, Array]]:
        metric = distances.metric
        state, following = metric.embed(batch.observations), metric.embed(batch.next_observations)
        far = metric.between(state, metric.embed(batch.goals))
        apart = (SCALE * jax.nn.softplus(FAR - far / SCALE)).mean()
        # A chunk of actions costs as many steps as it has.
        excess = jax.nn.relu(metric.between(state, following) - batch.steps)
        excess = jnp.square(excess).mean()
        weight = jnp.exp(distances.log_lambda)
        constrained = apart + jax.lax.stop_gradient(weight) * excess
        dual = weight * (self.config.epsilon - jax.lax.stop_gradient(excess))
        expected = distances.after(state, batch.actions)
        there, back = metric.between(following, expected), metric.between(expected, following)
        model = (there + back).mean() / 2
        metrics = {"distance": far.mean(), "step_excess": excess, "lambda": weight}
        return constrained + dual + model, {**metrics, "model_loss": model}

    def _actor_loss(self, policy: MLP, batch: GoalTransitions) -> tuple[Array, dict[str, Array]]:
        metric, goals = self.distances.metric, batch.actor_goals
        state, embedded_goals = metric.embed(batch.observations), metric.embed(goals)

        def q(actions: Array) -> Array:
            return -metric.between(self.distances.after(state, actions), embedded_goals)

        inputs = towards(batch.observations, goals)
        return ddpg_bc_loss(policy, inputs, batch.actions, q, self.config.alpha)
