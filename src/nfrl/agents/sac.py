"""SAC: soft actor-critic, which trains the locomotion experts (Haarnoja et al., 2018).

critic:       min (Q_i(s,a) - [r + discount mask (agg_j Qbar_j(s',a') - alpha log pi(a'|s'))])^2
policy:       max agg_i Q_i(s,a) - alpha log pi(a|s),  a ~ pi(.|s)
temperature:  min alpha (-log pi(a|s) - target entropy)
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.optimization import gradient_step, initial_state
from nfrl.agents.parts.tanh_gaussian import TanhGaussian
from nfrl.data.dataset import Dataset
from nfrl.data.experience import Experience
from nfrl.networks import MLP
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class SACConfig:
    """SAC with the values of OGBench's locomotion experts (Park et al., 2025)."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden widths of the policy's network."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Hidden widths of each critic's network."""
    critic_layer_norm: bool = False
    """LayerNorm in the critics."""
    aggregate: Literal["min", "mean"] = "min"
    """What of the two critics is believed."""
    learning_rate: float = 1e-4
    """Of Adam, for everything that is learned."""
    discount: float = 0.99
    """Weight of the next step's value, in [0, 1)."""
    tau: float = 0.005
    """How far the target critics move towards the critics in one update."""
    target_entropy_scale: float = 0.5
    """Target entropy of the policy, in negative nats per dimension of the action."""
    initial_temperature: float = 0.1
    """alpha at the start. OGBench's is 1: with this learning rate the first 23,000 updates would
    do little but lower it to 0.1."""

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int = 0, data: Dataset | None = None
    ) -> "SAC":
        """Build an untrained agent; its learning rates are constant, and it learns from no data."""
        observation_dim, action_dim = spec.observation_dim, spec.action_dim
        policy_key, *critic_keys = jr.split(key, 3)
        critics = tuple(
            MLP(
                critic_key,
                observation_dim + action_dim,
                self.critic_hidden,
                1,
                activation=jax.nn.relu,
                layer_norm=self.critic_layer_norm,
            )
            for critic_key in critic_keys
        )
        networks = Networks(
            policy=TanhGaussian(policy_key, observation_dim, self.hidden, action_dim),
            critics=critics,
            # Of a definite type: a weak one would change with the first update, and compile twice.
            log_temperature=jnp.log(jnp.asarray(self.initial_temperature, jnp.float32)),
        )
        # The targets are updated in place, so they need buffers of their own.
        targets = jax.tree.map(lambda x: x.copy() if eqx.is_array(x) else x, critics)
        return SAC(networks, targets, initial_state(self.optimizer(), networks), self)

    def optimizer(self) -> optax.GradientTransformation:
        """Build the optimiser: Adam over one long vector, as one call is cheaper than many."""
        return optax.flatten(optax.adam(self.learning_rate))


class Networks(eqx.Module):
    """What the gradient changes."""

    policy: TanhGaussian
    critics: tuple[MLP, ...]
    log_temperature: Float[Array, ""]


class SAC(eqx.Module):
    """The agent: networks, target critics, the optimiser's state, the configuration."""

    networks: Networks
    target_critics: tuple[MLP, ...]
    optimizer_state: optax.OptState
    config: SACConfig = eqx.field(static=True)

    @property
    def policy(self) -> TanhGaussian:
        """The network that acts."""
        return self.networks.policy

    def update(self, batch: Experience, key: PRNGKeyArray) -> tuple["SAC", dict[str, Array]]:
        """Take one gradient step on all three losses, and move the targets.

        Args:
            batch: Transitions with rewards.
            key: Random key, of the policy's samples.

        Returns:
            The new agent, and ``loss``, ``grad_norm``, ``critic_loss``, ``policy_loss``,
            ``entropy`` (nats), ``temperature`` and ``q`` (mean over the batch).
        """
        networks, state, metrics = gradient_step(
            lambda networks: self._loss(networks, batch, key),
            self.networks,
            self.config.optimizer(),
            self.optimizer_state,
        )
        targets = jax.tree.map(
            lambda target, critic: (
                target + self.config.tau * (critic - target) if eqx.is_array(target) else target
            ),
            self.target_critics,
            networks.critics,
        )
        return SAC(networks, targets, state, self.config), metrics

    def act(
        self, observation: Float[Array, " observation"], key: PRNGKeyArray
    ) -> Float[Array, " action"]:
        """Draw an action in [-1, 1]."""
        return self.policy.sample_and_log_prob(observation, key)[0]

    def act_mean(self, observation: Float[Array, " observation"]) -> Float[Array, " action"]:
        """Return the action without noise."""
        return self.policy.mode(observation)

    def _loss(
        self, networks: Networks, batch: Experience, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        config = self.config
        next_key, key = jr.split(key)
        temperature = jnp.exp(networks.log_temperature)

        next_actions, next_log_probs = _sample(networks.policy, batch.next_observations, next_key)
        next_values = (
            self._aggregate(_values(self.target_critics, batch.next_observations, next_actions))
            - temperature * next_log_probs
        )
        targets = jax.lax.stop_gradient(batch.rewards + config.discount * batch.masks * next_values)
        values = _values(networks.critics, batch.observations, batch.actions)
        critic_loss = jnp.square(values - targets).mean()

        actions, log_probs = _sample(networks.policy, batch.observations, key)
        frozen = jax.lax.stop_gradient(temperature)
        # Through the critics into the actions, but not into the critics.
        critics = jax.tree.map(
            lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, networks.critics
        )
        worth = self._aggregate(_values(critics, batch.observations, actions))
        policy_loss = (frozen * log_probs - worth).mean()

        entropy = -jax.lax.stop_gradient(log_probs.mean())
        target_entropy = -config.target_entropy_scale * batch.actions.shape[-1]
        temperature_loss = temperature * (entropy - target_entropy)

        metrics = {
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "entropy": entropy,
            "temperature": temperature,
            "q": values.mean(),
        }
        return critic_loss + policy_loss + temperature_loss, metrics

    def _aggregate(self, values: Float[Array, "critics batch"]) -> Float[Array, " batch"]:
        return values.min(0) if self.config.aggregate == "min" else values.mean(0)


def _sample(policy: TanhGaussian, observations: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
    keys = jr.split(key, len(observations))
    return jax.vmap(policy.sample_and_log_prob)(observations, keys)


def _values(
    critics: tuple[MLP, ...], observations: Array, actions: Array
) -> Float[Array, "critics batch"]:
    inputs = jnp.concatenate((observations, actions), axis=-1)
    return jnp.stack([jax.vmap(critic)(inputs)[:, 0] for critic in critics])
