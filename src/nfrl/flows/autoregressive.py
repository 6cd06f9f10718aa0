"""A transformer autoregressive flow: TarFlow (Zhai et al., 2024) over the tokens of a sequence.

Blocks in turn, each of which reads the tokens x_1 ... x_T in its own direction. A causal
transformer chooses from the tokens before i, and from the condition y, how token i moves:

    z_i = (x_i - b_i) exp(-a_i),   (a_i, b_i) = f(x_1 ... x_{i-1}; y),   log det = -sum a_i

The density is one parallel pass. A sample is made token by token, with a cache of keys and values.
Unlike the paper's, the first token of a block moves, too: as the condition alone says.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from equinox import Module, field
from flowjax.bijections import AbstractBijection
from flowjax.distributions import (
    AbstractDistribution,
    AbstractTransformed,
    StandardNormal,
    Transformed,
)
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfrl.errors import UserError
from nfrl.flows.config import SequenceFlowConfig, check_sizes
from nfrl.flows.float32 import Float32Chain
from nfrl.networks import LayerNorm, Linear, TransformerLayer, by_row


class CausalNetwork(Module):
    """The tokens before each token, and the condition -> how it moves; zero before training.

    Args:
        key: Random key.
        tokens: Number of tokens T.
        width: Number of coordinates of a token.
        cond_dim: Width k of the condition; None for none.
        channels: Width of the transformer.
        layers: Its layers.
        heads: Heads of each attention.
    """

    start: Float[Array, " channels"]
    position: Float[Array, "tokens channels"]
    embed: Linear
    of_condition: Linear | None
    layers: tuple[TransformerLayer, ...]
    norm: LayerNorm
    last: Linear

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        tokens: int,
        width: int,
        cond_dim: int | None,
        channels: int,
        layers: int,
        heads: int,
    ):
        start_key, position_key, embed_key, condition_key, last_key, *keys = jr.split(
            key, 5 + layers
        )
        self.start = jr.normal(start_key, (channels,))
        self.position = jr.normal(position_key, (tokens, channels))
        self.embed = Linear(embed_key, width, channels)
        self.of_condition = None if cond_dim is None else Linear(condition_key, cond_dim, channels)
        self.layers = tuple(TransformerLayer(each, channels, heads) for each in keys)
        self.norm = LayerNorm(channels)
        self.last = jax.tree.map(jnp.zeros_like, Linear(last_key, channels, 2 * width))

    def places(
        self, condition: Float[Array, " cond_dim"] | None
    ) -> Float[Array, "tokens channels"]:
        """Return what each token is told beside those before it: its place, and the condition."""
        if self.of_condition is None or condition is None:
            return self.position
        return self.position + self.of_condition(condition)

    def __call__(
        self, x: Float[Array, "tokens width"], places: Float[Array, "tokens channels"]
    ) -> Float[Array, "tokens two width"]:
        """Return a and b of all tokens at once."""
        h = places + jnp.concatenate([self.start[None], self.embed(x[:-1])])
        mask = jnp.tril(jnp.ones((len(x), len(x)), bool))
        for layer in self.layers:
            h = layer(h, mask=mask)
        return self.last(by_row(self.norm, h)).reshape(len(x), 2, -1)

    def step(
        self,
        before: Float[Array, " channels"],
        place: Float[Array, " channels"],
        caches: tuple[Array, ...],
        i: Int[Array, ""],
    ) -> tuple[Float[Array, "two width"], tuple[Array, ...]]:
        """Return a and b of token i alone, and each layer's cache with it.

        Args:
            before: Token i - 1, embedded; at first ``start``.
            place: Row i of :meth:`places`.
            caches: Each layer's.
            i: The token's number.
        """
        h, filled = before + place, []
        for layer, cache in zip(self.layers, caches, strict=True):
            h, cache = layer.step(h, cache, i)
            filled.append(cache)
        return self.last(self.norm(h)).reshape(2, -1), tuple(filled)

    def caches(self) -> tuple[Float[Array, "tokens two_channels"], ...]:
        """Return each layer's cache before the first token."""
        tokens, channels = self.position.shape
        return tuple(jnp.zeros((tokens, 2 * channels)) for _ in self.layers)


class CausalAffine(AbstractBijection):
    """One block: an affine map of each token, chosen by those before it and by the condition.

    With ``guidance`` w the condition is two, y and y', one after the other; the maps are those of
    y, moved away from those of y' (Zhai et al., 2024: classifier-free guidance):

        (a_i, b_i) + w i/T [(a_i, b_i) - (a_i', b_i')],   i = 1 ... T

    This is a flow, too, and its likelihood is exact.

    Attributes:
        network: Chooses the maps.
        shape: (tokens * width,).
        cond_shape: (k,), with guidance (2 k,); None for no condition.
        flipped: Whether it reads the tokens from the last to the first.
        guidance: w.
    """

    network: CausalNetwork
    shape: tuple[int, ...] = field(static=True)
    cond_shape: tuple[int, ...] | None = field(static=True)
    flipped: bool = field(static=True)
    guidance: float | None = field(static=True, default=None)

    def transform_and_log_det(self, x, condition=None):
        network, weights, places = self.network, self._weights(), self._places(condition)

        def step(carry, each):
            before, caches = carry
            z, weight, i, *here = each
            found = [
                network.step(before, place, cache, i)
                for place, cache in zip(here, caches, strict=True)
            ]
            a, b = self._guided([maps for maps, _ in found], weight)
            token = z * jnp.exp(a) + b
            return (network.embed(token), [cache for _, cache in found]), (token, a)

        latents = self._tokens(x)
        carry = network.start, [network.caches() for _ in places]
        each = (latents, weights, jnp.arange(len(latents)), *places)
        _, (y, a) = jax.lax.scan(step, carry, each)
        return self._flat(y), a.sum()

    def inverse_and_log_det(self, y, condition=None):
        x = self._tokens(y)
        maps = [self.network(x, each) for each in self._places(condition)]
        guided = self._guided(maps, self._weights()[:, None, None])
        a, b = guided[:, 0], guided[:, 1]
        return self._flat((x - b) * jnp.exp(-a)), -a.sum()

    def _tokens(self, x: Float[Array, " dim"]) -> Float[Array, "tokens width"]:
        tokens = x.reshape(len(self.network.position), -1)
        return tokens[::-1] if self.flipped else tokens

    def _flat(self, tokens: Float[Array, "tokens width"]) -> Float[Array, " dim"]:
        return (tokens[::-1] if self.flipped else tokens).reshape(-1)

    def _places(self, condition: Array | None) -> list[Array]:
        """Return what tokens are told of the condition, or of each of the two."""
        if self.guidance is None or condition is None:
            return [self.network.places(condition)]
        return [self.network.places(each) for each in jnp.split(condition, 2)]

    def _weights(self) -> Float[Array, " tokens"]:
        tokens = len(self.network.position)
        return (self.guidance or 0.0) * jnp.arange(1, tokens + 1) / tokens

    def _guided(self, maps: list[Array], weight: Array) -> Array:
        return maps[0] if len(maps) == 1 else maps[0] + weight * (maps[0] - maps[1])


class Autoregressive(AbstractTransformed):
    """Conditional density p(x | y) of x in R^d, d = tokens * width, as a flowjax distribution.

    The log-density of x is that of its latents under N(0, I), and the blocks' log-determinants.

    Args:
        key: Random key; every block has its own share.
        tokens: Number of tokens T.
        width: Number of coordinates of each.
        cond_dim: Number of coordinates k of y; None for an unconditional density.
        blocks: Number of blocks, which read the tokens forwards and backwards in turn.
        channels: Width of each block's transformer.
        layers: Its layers.
        heads: Heads of each attention; they divide the channels.

    Raises:
        UserError: The heads do not divide the channels.
    """

    base_dist: StandardNormal
    bijection: Float32Chain

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        tokens: int,
        width: int = 1,
        cond_dim: int | None = None,
        blocks: int = 4,
        channels: int = 128,
        layers: int = 2,
        heads: int = 4,
    ):
        check_sizes(tokens=tokens, width=width, blocks=blocks, channels=channels, layers=layers)
        self.base_dist = StandardNormal((tokens * width,))
        made = [
            CausalAffine(
                network=CausalNetwork(
                    each,
                    tokens=tokens,
                    width=width,
                    cond_dim=cond_dim,
                    channels=channels,
                    layers=layers,
                    heads=heads,
                ),
                shape=(tokens * width,),
                cond_shape=None if cond_dim is None else (cond_dim,),
                flipped=number % 2 == 1,
            )
            for number, each in enumerate(jr.split(key, blocks))
        ]
        # A flowjax chain maps latents to data; its inverse takes the blocks in the order above.
        self.bijection = Float32Chain(made[::-1])


@dataclasses.dataclass(frozen=True)
class AutoregressiveConfig(SequenceFlowConfig):
    """The sizes of a transformer autoregressive flow: exact, and sampled token by token.

    The tokens are the actions of a chunk; the coordinates, of a vector that is no chunk.
    """

    blocks: int = 4
    """Blocks, which read the tokens forwards and backwards in turn (the paper: 8, for images)."""
    channels: int = 128
    """Width of each block's transformer."""
    layers: int = 2
    """Layers of each block's transformer (the paper: 4 to 8, for images)."""
    heads: int = 4
    """Heads of each attention; they divide the channels."""

    def build_tokens(
        self, key: PRNGKeyArray, *, tokens: int, width: int, cond_dim: int
    ) -> Autoregressive:
        sizes = dataclasses.asdict(self)
        return Autoregressive(key, tokens=tokens, width=width, cond_dim=cond_dim, **sizes)


def guide(flow: AbstractDistribution, weight: float) -> AbstractDistribution:
    """Return the density of a flow that is guided away from another condition.

    Args:
        flow: An :class:`Autoregressive` flow with a condition.
        weight: w, 0 for the flow itself; see :class:`CausalAffine`.

    Returns:
        p_w(x | y, y'), whose condition is y and y' one after the other, (2 k,).

    Raises:
        UserError: It is another kind of flow.
    """
    if not isinstance(flow, Autoregressive) or flow.cond_shape is None:
        raise UserError(
            f"guidance needs an autoregressive flow, not {type(flow).__name__}: train with "
            "--agent.flow autoregressive"
        )
    shape = (2 * flow.cond_shape[0],)
    blocks: Any = flow.bijection.bijections
    guided = [dataclasses.replace(each, guidance=weight, cond_shape=shape) for each in blocks]
    return Transformed(flow.base_dist, Float32Chain(guided))
