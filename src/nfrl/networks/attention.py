"""Transformers (Vaswani et al., 2017) over the rows of a matrix, all at once or row by row.

Layers are normalised before, not after (Xiong et al., 2020), so that they train without warm-up.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from equinox import Module, field
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nfrl.errors import UserError
from nfrl.networks.layers import LayerNorm, Linear

EXPANSION = 4


class Attention(Module):
    """softmax(Q K^T / sqrt(d)) V in several heads, and a linear map of what they found.

    Args:
        key: Random key.
        width: Width of the rows, of queries and of what is attended to.
        heads: How many heads; each has width / heads numbers.

    Raises:
        UserError: The heads do not divide the width.
    """

    query: Linear
    key_value: Linear
    output: Linear
    heads: int = field(static=True)

    def __init__(self, key: PRNGKeyArray, width: int, heads: int):
        if heads < 1 or width % heads:
            raise UserError(f"heads ({heads}) must divide the width ({width}) of a transformer")
        query_key, key_value_key, output_key = jr.split(key, 3)
        self.query = Linear(query_key, width, width)
        self.key_value = Linear(key_value_key, width, 2 * width)
        self.output = Linear(output_key, width, width)
        self.heads = heads

    def __call__(
        self,
        x: Float[Array, "rows width"],
        keys_values: Float[Array, "others two_widths"],
        mask: Bool[Array, "rows others"] | None = None,
    ) -> Float[Array, "rows width"]:
        """Attend to rows whose keys and values are ``key_value(row)``, where the mask is true."""
        q = self._split(self.query(x))
        k, v = map(self._split, jnp.split(keys_values, 2, axis=-1))
        scores = jnp.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = jnp.where(mask, scores, -1e9)
        found = jnp.einsum("hij,jhd->ihd", jax.nn.softmax(scores, axis=-1), v)
        return self.output(found.reshape(x.shape))

    def _split(self, x: Float[Array, "rows width"]) -> Float[Array, "rows heads head"]:
        return x.reshape(len(x), self.heads, -1)


class TransformerLayer(Module):
    """Self-attention, cross-attention where there is something to attend to, and an MLP (GELU).

    Each is added to what it is given, which it normalises first.

    Args:
        key: Random key.
        width: Width of the rows.
        heads: Heads of each attention.
        cross: Whether it attends to rows of another matrix, too.
    """

    norms: tuple[LayerNorm, ...]
    own: Attention
    cross: Attention | None
    first: Linear
    second: Linear

    def __init__(self, key: PRNGKeyArray, width: int, heads: int, *, cross: bool = False):
        own_key, cross_key, first_key, second_key = jr.split(key, 4)
        self.norms = tuple(LayerNorm(width) for _ in range(3 if cross else 2))
        self.own = Attention(own_key, width, heads)
        self.cross = Attention(cross_key, width, heads) if cross else None
        self.first = Linear(first_key, width, EXPANSION * width)
        self.second = Linear(second_key, EXPANSION * width, width)

    def __call__(
        self,
        h: Float[Array, "rows width"],
        *,
        memory: Float[Array, "others width"] | None = None,
        mask: Bool[Array, "rows rows"] | None = None,
    ) -> Float[Array, "rows width"]:
        """Return all rows, each of which attends to those that the mask allows, and to a memory."""
        normal = by_row(self.norms[0], h)
        h += self.own(normal, self.own.key_value(normal), mask)
        if self.cross is not None and memory is not None:
            h += self.cross(by_row(self.norms[1], h), self.cross.key_value(memory))
        return h + self._mlp(h)

    def step(
        self,
        h: Float[Array, " width"],
        cache: Float[Array, "rows two_widths"],
        i: Int[Array, ""],
    ) -> tuple[Float[Array, " width"], Float[Array, "rows two_widths"]]:
        """Return row i alone, under a causal mask, and the cache with its keys and values.

        Args:
            h: Row i.
            cache: Keys and values of the rows before; of any value from i on.
            i: Its number, from 0.
        """
        numbers = jnp.arange(len(cache))
        normal = self.norms[0](h)
        cache = jnp.where((numbers == i)[:, None], self.own.key_value(normal), cache)
        rows = h[None] + self.own(normal[None], cache, (numbers <= i)[None])
        return (rows + self._mlp(rows))[0], cache

    def _mlp(self, h: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
        return self.second(jax.nn.gelu(self.first(by_row(self.norms[-1], h))))


def by_row(norm: LayerNorm, h: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """Normalise each row."""
    return jax.vmap(norm)(h)
