"""Flow matching with straight paths (Lipman et al., 2023).

min E |v(a_t, t, y) - (a - eps)|^2, a_t = (1 - t) eps + t a, t ~ U(0, 1), eps ~ N(0, I);
an action is a number of Euler steps from eps.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import gelu_network
from nfrl.networks import MLP

Field = Callable[[Array, Array, Array], Array]
"""v: (a_t, t, y) -> the velocity of a_t, of its shape."""


class VelocityField(eqx.Module):
    """A fully connected v(a_t, t, y).

    Args:
        key: Random key.
        condition_dim: Width of y.
        hidden: Hidden widths.
        action_dim: Width of an action.
        layer_norm: Whether each hidden layer is normalised.
    """

    network: MLP
    action_dim: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        condition_dim: int,
        hidden: tuple[int, ...],
        action_dim: int,
        *,
        layer_norm: bool,
    ):
        inputs = action_dim + 1 + condition_dim
        self.network = gelu_network(key, inputs, hidden, action_dim, layer_norm=layer_norm)
        self.action_dim = action_dim

    def __call__(
        self,
        action: Float[Array, " action"],
        time: Float[Array, ""],
        condition: Float[Array, " condition"],
    ) -> Float[Array, " action"]:
        return self.network(jnp.concatenate((action, time[None], condition)))


def matching_error(
    field: Field,
    actions: Float[Array, "batch ..."],
    conditions: Float[Array, "batch condition"],
    key: PRNGKeyArray,
) -> Array:
    """Return the flow-matching loss: the velocity's mean squared error per coordinate."""
    noise_key, time_key = jr.split(key)
    noise = jr.normal(noise_key, actions.shape)
    time = jr.uniform(time_key, (len(actions),))
    share = time.reshape(-1, *[1] * (actions.ndim - 1))
    noisy = (1 - share) * noise + share * actions
    velocity = jax.vmap(field)(noisy, time, conditions)
    return jnp.square(velocity - (actions - noise)).mean()


def integrate(
    field: Field, noise: Float[Array, "..."], condition: Float[Array, " condition"], steps: int
) -> Float[Array, "..."]:
    """Follow the velocity field from noise at time 0 to an action at time 1, by Euler steps."""

    def euler(action: Array, time: Array) -> tuple[Array, None]:
        return action + field(action, time, condition) / steps, None

    return jax.lax.scan(euler, noise, jnp.arange(steps) / steps)[0]
