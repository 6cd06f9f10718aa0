"""FM-GCBC: goal-conditioned imitation with flow matching and a fully connected velocity field.

min E |v(a_t, t, s, g) - (a - eps)|^2, a_t = (1 - t) eps + t a, t ~ U(0, 1), eps ~ N(0, I)
(Lipman et al., 2023, with straight paths); an action is ten Euler steps from eps.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.optimization import AdamW, gradient_step, initial_state
from nfrl.data.samplers import GoalBatch
from nfrl.networks import MLP


@dataclasses.dataclass(frozen=True)
class FMGCBCConfig:
    """FM-GCBC with networks of NF-GCBC's size."""

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Hidden widths of the velocity field."""
    layer_norm: bool = True
    """LayerNorm in the velocity field."""
    euler_steps: int = 10
    """Steps of the integration when acting."""
    optimizer: AdamW = AdamW()
    """As NF-GCBC's: the same budget."""

    def build(
        self, key: PRNGKeyArray, observation_dim: int, action_dim: int, steps: int
    ) -> "FMGCBC":
        """Build an untrained agent; arguments as in :meth:`NFGCBCConfig.build`."""
        velocity = MLP(
            key,
            action_dim + 1 + 2 * observation_dim,
            self.hidden,
            action_dim,
            layer_norm=self.layer_norm,
        )
        return FMGCBC(velocity, initial_state(self.optimizer.build(steps), velocity), self, steps)


class FMGCBC(eqx.Module):
    """The agent: a velocity field v(a_t, t, s, g), its optimiser's state, its configuration."""

    policy: MLP
    optimizer_state: optax.OptState
    config: FMGCBCConfig = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def update(self, batch: GoalBatch, key: PRNGKeyArray) -> tuple["FMGCBC", dict[str, Array]]:
        """Take one flow-matching step."""

        def loss(policy: MLP) -> tuple[Array, dict[str, Array]]:
            return _matching_error(policy, batch, key), {}

        policy, state, metrics = gradient_step(
            loss, self.policy, self.config.optimizer.build(self.steps), self.optimizer_state
        )
        return FMGCBC(policy, state, self.config, self.steps), metrics

    def validate(self, batch: GoalBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the flow-matching loss: the velocity's mean squared error per coordinate."""
        return {"loss": _matching_error(self.policy, batch, key)}

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Integrate the velocity field from noise with Euler steps, and clip to [-1, 1]."""
        steps = self.config.euler_steps
        condition = jnp.concatenate((observation, goal))
        (action_dim,) = self.policy.layers[-1].bias.shape

        def euler(action: Array, time: Array) -> tuple[Array, None]:
            return action + _velocity(self.policy, action, time, condition) / steps, None

        noise = jr.normal(key, (action_dim,))
        action, _ = jax.lax.scan(euler, noise, jnp.arange(steps) / steps)
        return jnp.clip(action, -1, 1)


def _velocity(policy: MLP, action: Array, time: Array, condition: Array) -> Array:
    return policy(jnp.concatenate((action, time[None], condition)))


def _matching_error(policy: MLP, batch: GoalBatch, key: PRNGKeyArray) -> Array:
    noise_key, time_key = jr.split(key)
    noise = jr.normal(noise_key, batch.actions.shape)
    time = jr.uniform(time_key, (len(batch.actions),))
    noisy = (1 - time[:, None]) * noise + time[:, None] * batch.actions
    conditions = jnp.concatenate((batch.observations, batch.goals), axis=-1)
    velocity = eqx.filter_vmap(_velocity, in_axes=(None, 0, 0, 0))(policy, noisy, time, conditions)
    return jnp.square(velocity - (batch.actions - noise)).mean()
