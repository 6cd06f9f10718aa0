"""Flow matching with straight paths and a fully connected velocity field (Lipman et al., 2023).

min E |v(a_t, t, y) - (a - eps)|^2, a_t = (1 - t) eps + t a, t ~ U(0, 1), eps ~ N(0, I);
an action is a number of Euler steps from eps.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.networks import MLP


def velocity_field(
    key: PRNGKeyArray,
    condition_dim: int,
    hidden: tuple[int, ...],
    action_dim: int,
    *,
    layer_norm: bool,
    activation: Callable[[Array], Array] = jax.nn.silu,
) -> MLP:
    """Build the network v(a_t, t, y)."""
    return MLP(
        key,
        action_dim + 1 + condition_dim,
        hidden,
        action_dim,
        activation=activation,
        layer_norm=layer_norm,
    )


def matching_error(
    field: MLP,
    actions: Float[Array, "batch action"],
    conditions: Float[Array, "batch condition"],
    key: PRNGKeyArray,
) -> Array:
    """Return the flow-matching loss: the velocity's mean squared error per coordinate."""
    noise_key, time_key = jr.split(key)
    noise = jr.normal(noise_key, actions.shape)
    time = jr.uniform(time_key, (len(actions),))
    noisy = (1 - time[:, None]) * noise + time[:, None] * actions
    velocity = eqx.filter_vmap(_velocity, in_axes=(None, 0, 0, 0))(field, noisy, time, conditions)
    return jnp.square(velocity - (actions - noise)).mean()


def integrate(
    field: MLP, noise: Float[Array, " action"], condition: Float[Array, " condition"], steps: int
) -> Float[Array, " action"]:
    """Follow the velocity field from noise at time 0 to an action at time 1, by Euler steps."""

    def euler(action: Array, time: Array) -> tuple[Array, None]:
        return action + _velocity(field, action, time, condition) / steps, None

    return jax.lax.scan(euler, noise, jnp.arange(steps) / steps)[0]


def _velocity(field: MLP, action: Array, time: Array, condition: Array) -> Array:
    return field(jnp.concatenate((action, time[None], condition)))
