"""Interval quasimetric embeddings: learned distances that keep the triangle inequality.

A state x is embedded as K groups of n numbers. Of two states, each group is the length that n
intervals cover together,

    d_k(x, y) = | union over i of [x_ki, max(x_ki, y_ki)] |,
    d(x, y) = w mean_k d_k + (1 - w) max_k d_k,

with w in (0, 1) learned (Wang and Isola, 2022; "maxmean"). d(x, x) = 0 and d(x, z) <= d(x, y) +
d(y, z), whatever the embedding; d(x, y) and d(y, x) may differ.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import gelu_network
from nfrl.errors import UserError
from nfrl.networks import MLP

INTERVALS = 8
"""n, numbers in a group (OGBench's code)."""


class Quasimetric(eqx.Module):
    """d(phi(s), phi(g)), of an embedding phi and a learned mixture of mean and maximum.

    Args:
        key: Random key.
        observation_dim: Width of a state.
        hidden: Hidden widths of the embedding's network, which has LayerNorm.
        latent_dim: Width of an embedding, a multiple of ``INTERVALS``.

    Raises:
        UserError: It is no multiple.
    """

    phi: MLP
    mixture: Float[Array, ""]

    def __init__(
        self, key: PRNGKeyArray, observation_dim: int, hidden: tuple[int, ...], latent_dim: int
    ):
        if latent_dim < INTERVALS or latent_dim % INTERVALS:
            raise UserError(f"latent-dim must be a multiple of {INTERVALS}; got {latent_dim}")
        self.phi = gelu_network(key, observation_dim, hidden, latent_dim, layer_norm=True)
        self.mixture = jnp.zeros(())

    def embed(
        self, observations: Float[Array, "batch observation"]
    ) -> Float[Array, "batch latent"]:
        """Return phi of every state of a batch."""
        return jax.vmap(self.phi)(observations)

    def between(
        self, x: Float[Array, "*batch latent"], y: Float[Array, "*batch latent"]
    ) -> Float[Array, "*batch"]:
        """Return d of embeddings, which is at least 0."""
        lengths = covered(_grouped(x), _grouped(y))
        weight = jax.nn.sigmoid(self.mixture)
        return weight * lengths.mean(-1) + (1 - weight) * lengths.max(-1)


def covered(
    low: Float[Array, "*batch intervals"], high: Float[Array, "*batch intervals"]
) -> Float[Array, "*batch"]:
    """Return the length that the intervals [low, max(low, high)] cover together.

    In the order of their beginnings, each adds what of it lies beyond all ends before it.
    """
    begins, ends = jax.lax.sort((low, jnp.maximum(low, high)), num_keys=1)
    reached = jax.lax.cummax(ends, axis=ends.ndim - 1)
    # Before the first there is nothing: it adds its whole length.
    before = jnp.concatenate((begins[..., :1], reached[..., :-1]), axis=-1)
    return jax.nn.relu(ends - jnp.maximum(begins, before)).sum(-1)


def _grouped(x: Float[Array, "*batch latent"]) -> Float[Array, "*batch groups intervals"]:
    return x.reshape(*x.shape[:-1], -1, INTERVALS)
