"""Actors that maximise Q and entropy: a density of squashed actions, and its tuned temperature.

    max E_{a ~ pi(. | s, g)} [ Q(s, a, g) - alpha log pi(a | s, g) ],  H(pi) tuned to -d_a / 2

(Haarnoja et al., 2018). An action is tanh(x), and

    log pi(a | s, g) = log p(x | s, g) - sum log(1 - tanh(x)^2)

with x Gaussian, or from a flow. Both densities are exact, so that all else is the same.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from paramax import unwrap

from nfrl.agents.parts.networks import exploring_network
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.agents.parts.tanh_gaussian import LOG_STD_RANGE, log_tanh_slope
from nfrl.data.samplers import GoalBatch
from nfrl.flows import FlowConfig
from nfrl.networks import MLP

ActorKind = Literal["gaussian", "flow"]
Policy = TypeVar("Policy", bound="SoftActor")


class SoftActor(Protocol):
    """What an actor can do, whatever its density and its inputs."""

    def sample_and_log_prob(
        self, observation: Array, goal: Array, key: PRNGKeyArray
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """Draw an action, and return its log-density as well."""
        ...


class GaussianActor(eqx.Module):
    """tanh(N(mu(s, g), diag sigma(s, g)^2)), with log sigma in [-5, 2]."""

    network: MLP

    def sample_and_log_prob(
        self, observation: Array, goal: Array, key: PRNGKeyArray
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """Draw an action, and return its log-density as well."""
        mean, log_std = self._moments(observation, goal)
        noise = jr.normal(key, mean.shape)
        log_prob = jax.scipy.stats.norm.logpdf(noise).sum() - log_std.sum()
        return squash(mean + jnp.exp(log_std) * noise, log_prob)

    def mode(self, observation: Array, goal: Array) -> Float[Array, " action"]:
        """Return the action of no noise."""
        return jnp.tanh(self._moments(observation, goal)[0])

    def _moments(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        mean, log_std = jnp.split(self.network(jnp.concatenate((observation, goal))), 2)
        low, high = LOG_STD_RANGE
        return mean, low + (high - low) / 2 * (1 + jnp.tanh(log_std))


class FlowActor(eqx.Module):
    """tanh of a flow, p(x | s, g): MaxEnt RL by variational inference (paper, section 3.2)."""

    encoder: MLP
    flow: Any

    def sample_and_log_prob(
        self, observation: Array, goal: Array, key: PRNGKeyArray
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """Draw an action, and return its log-density as well."""
        condition = self.encoder(jnp.concatenate((observation, goal)))
        return squash(*self.flow.sample_and_log_prob(key, (), condition))

    def mode(self, observation: Array, goal: Array) -> Float[Array, " action"]:
        """Return the action of the latent 0."""
        condition = self.encoder(jnp.concatenate((observation, goal)))
        latent = jnp.zeros(self.flow.shape)
        return jnp.tanh(unwrap(self.flow).bijection.transform(latent, condition))


def squash(x: Float[Array, " action"], log_prob: Array) -> tuple[Array, Array]:
    """Return tanh(x) and its log-density, from x and its own."""
    return jnp.tanh(x), log_prob - log_tanh_slope(x).sum()


def build_actor(
    kind: ActorKind,
    key: PRNGKeyArray,
    inputs: int,
    action_dim: int,
    *,
    hidden: tuple[int, ...],
    condition_dim: int,
    flow: FlowConfig,
) -> GaussianActor | FlowActor:
    """Build an untrained actor.

    Args:
        kind: "gaussian" or "flow".
        key: Random key of the initial weights.
        inputs: Width of an observation and a goal together.
        action_dim: Width of an action.
        hidden: Hidden widths of the network of observation and goal.
        condition_dim: For a flow, the width k of its condition.
        flow: For a flow, its configuration.
    """
    if kind == "gaussian":
        return GaussianActor(exploring_network(key, inputs, hidden, 2 * action_dim))
    encoder_key, flow_key = jr.split(key)
    return FlowActor(
        exploring_network(encoder_key, inputs, hidden, condition_dim),
        flow.build(flow_key, dim=action_dim, cond_dim=condition_dim),
    )


class SoftActorState(NamedTuple):
    """What the optimisers of an actor and of its temperature remember."""

    policy: optax.OptState
    log_temperature: optax.OptState


def initial_actor_state(policy: Any, learning_rate: float) -> SoftActorState:
    """Return the optimisers' states for a new actor."""
    optimizer = constant_rate(learning_rate)
    return SoftActorState(initial_state(optimizer, policy), optimizer.init(jnp.zeros(())))


def improve(
    policy: Policy,
    log_temperature: Float[Array, ""],
    state: SoftActorState,
    q: Callable[[Array, Array, Array], Array],
    batch: GoalBatch,
    key: PRNGKeyArray,
    learning_rate: float,
) -> tuple[Policy, Array, SoftActorState, dict[str, Array]]:
    """Take one gradient step of the actor, and one of its temperature.

    Args:
        policy: The actor.
        log_temperature: log alpha.
        state: Their optimisers' states.
        q: Q(s, a, g) of one observation, action and goal.
        batch: Its s and g.
        key: Random key of the actions.
        learning_rate: Of both.

    Returns:
        The new actor, log alpha and states, and metrics.
    """
    temperature = jnp.exp(log_temperature)
    keys = jr.split(key, len(batch.observations))

    def loss(policy: Policy) -> tuple[Array, dict[str, Array]]:
        def of_one(observation: Array, goal: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            action, log_prob = policy.sample_and_log_prob(observation, goal, key)
            return q(observation, action, goal), log_prob

        values, log_probs = jax.vmap(of_one)(batch.observations, batch.goals, keys)
        metrics = {"q": values.mean(), "entropy": -log_probs.mean()}
        return (temperature * log_probs - values).mean(), metrics

    optimizer = constant_rate(learning_rate)
    policy, policy_state, metrics = gradient_step(loss, policy, optimizer, state.policy)
    action_dim = batch.actions.shape[-1]
    # alpha grows while the entropy is below its target: d/d(log alpha) of alpha (H - target).
    gradient = temperature * (metrics["entropy"] + action_dim / 2)
    change, temperature_state = optimizer.update(gradient, state.log_temperature, log_temperature)
    metrics["temperature"] = temperature
    metrics["actor_loss"] = metrics.pop("loss")
    metrics["actor_grad_norm"] = metrics.pop("grad_norm")
    return (
        policy,
        optax.apply_updates(log_temperature, change),
        SoftActorState(policy_state, temperature_state),
        metrics,
    )


def constant_rate(learning_rate: float, weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Adam with a constant learning rate, and with decoupled weight decay if that is not 0."""
    return AdamW(learning_rate, weight_decay, 0, learning_rate).build(1)
