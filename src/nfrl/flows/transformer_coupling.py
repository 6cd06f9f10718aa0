"""Couplings over the tokens of a sequence, whose networks are transformers: NinA (Tarasov, 2025).

Half of the tokens x_1 pass, and choose with the condition y how the others x_2 move:

    x_2' = (x_2 - t) exp(-s),   (s, t) = f(x_1; y),   log det = -sum s

Both directions are one parallel pass.
"""

import dataclasses
from itertools import chain

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from equinox import Module, field
from flowjax.bijections import AbstractBijection, Reshape, Vmap
from flowjax.distributions import AbstractTransformed, StandardNormal
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.flows.config import SequenceFlowConfig, check_sizes
from nfrl.flows.float32 import Float32Chain
from nfrl.flows.plu import PLULinear
from nfrl.networks import LayerNorm, Linear, TransformerLayer, by_row

LOG_SCALE_LIMIT = 2.0
"""A block stretches by no more than exp(2): log-scales go through tanh."""


class TokenNetwork(Module):
    """The tokens that pass, and the condition -> how the others move; zero before training.

    A transformer over all tokens, of which those that move are only told by their places. They
    attend to each other and to the condition, as a few tokens of its own.

    Args:
        key: Random key.
        kept: How many tokens pass.
        moved: How many move.
        width: Number of coordinates of a token.
        cond_dim: Width k of the condition; None for none.
        channels: Width of the transformer.
        layers: Its layers.
        heads: Heads of each attention.
        condition_tokens: As how many tokens the condition is shown.
    """

    embed: Linear
    position: Float[Array, "tokens channels"]
    of_condition: Linear | None
    layers: tuple[TransformerLayer, ...]
    norm: LayerNorm
    last: Linear
    condition_tokens: int = field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        kept: int,
        moved: int,
        width: int,
        cond_dim: int | None,
        channels: int,
        layers: int,
        heads: int,
        condition_tokens: int,
    ):
        embed_key, position_key, condition_key, last_key, *keys = jr.split(key, 4 + layers)
        self.embed = Linear(embed_key, width, channels)
        self.position = jr.normal(position_key, (kept + moved, channels))
        self.of_condition = (
            None
            if cond_dim is None
            else Linear(condition_key, cond_dim, condition_tokens * channels)
        )
        cross = cond_dim is not None
        self.layers = tuple(TransformerLayer(each, channels, heads, cross=cross) for each in keys)
        self.norm = LayerNorm(channels)
        self.last = jax.tree.map(jnp.zeros_like, Linear(last_key, channels, 2 * width))
        self.condition_tokens = condition_tokens

    def __call__(
        self, x: Float[Array, "kept width"], condition: Float[Array, " cond_dim"] | None
    ) -> tuple[Float[Array, "moved width"], Float[Array, "moved width"]]:
        """Return s, in (-2, 2), and t of the tokens that move."""
        told = self.position[len(x) :]
        h = jnp.concatenate([self.embed(x) + self.position[: len(x)], told])
        memory = None
        if self.of_condition is not None and condition is not None:
            memory = self.of_condition(condition).reshape(self.condition_tokens, -1)
        for layer in self.layers:
            h = layer(h, memory=memory)
        s, t = jnp.split(self.last(by_row(self.norm, h[len(x) :])), 2, axis=-1)
        return LOG_SCALE_LIMIT * jnp.tanh(s / LOG_SCALE_LIMIT), t


class TokenCoupling(AbstractBijection):
    """Some tokens pass, and choose with the condition how the others move.

    Attributes:
        network: Chooses the maps.
        shape: (tokens * width,).
        cond_shape: (k,); None for no condition.
        order: The numbers of the tokens, those that pass first.
        kept: How many pass.
    """

    network: TokenNetwork
    shape: tuple[int, ...] = field(static=True)
    cond_shape: tuple[int, ...] | None = field(static=True)
    order: tuple[int, ...] = field(static=True)
    kept: int = field(static=True)

    def transform_and_log_det(self, x, condition=None):
        x1, x2 = self._halves(x)
        s, t = self.network(x1, condition)
        return self._join(x1, x2 * jnp.exp(s) + t), s.sum()

    def inverse_and_log_det(self, y, condition=None):
        y1, y2 = self._halves(y)
        s, t = self.network(y1, condition)
        return self._join(y1, (y2 - t) * jnp.exp(-s)), -s.sum()

    def _halves(self, x: Float[Array, " dim"]) -> tuple[Array, Array]:
        ordered = x.reshape(len(self.order), -1)[np.array(self.order)]
        return ordered[: self.kept], ordered[self.kept :]

    def _join(self, x1: Array, x2: Array) -> Float[Array, " dim"]:
        return jnp.concatenate([x1, x2])[np.argsort(self.order)].reshape(-1)


class TransformerCoupling(AbstractTransformed):
    """Conditional density p(x | y) of x in R^d, d = tokens * width, as a flowjax distribution.

    Blocks come in pairs: the tokens are permuted at random, once and for all; in the first of a
    pair one half of them moves, in the second the other. A single token is moved by the condition
    alone.

    Args:
        key: Random key; every block has its own share.
        tokens: Number of tokens T.
        width: Number of coordinates of each.
        cond_dim: Number of coordinates k of y; None for an unconditional density.
        blocks: Number of blocks.
        channels: Width of each block's transformer.
        layers: Its layers.
        heads: Heads of each attention; they divide the channels.
        condition_tokens: As how many tokens the condition is shown to cross-attention.
        plu: Whether each block mixes the coordinates of a token first, all tokens alike.

    Raises:
        UserError: The heads do not divide the channels, or a size is less than 1.
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
        blocks: int = 6,
        channels: int = 128,
        layers: int = 1,
        heads: int = 4,
        condition_tokens: int = 4,
        plu: bool = True,
    ):
        check_sizes(
            tokens=tokens,
            width=width,
            blocks=blocks,
            channels=channels,
            layers=layers,
            condition_tokens=condition_tokens,
        )
        self.base_dist = StandardNormal((tokens * width,))
        made: list[AbstractBijection] = []
        for order, each in zip(_orders(tokens, blocks), jr.split(key, blocks), strict=True):
            plu_key, network_key = jr.split(each)
            if plu:
                mixing = Vmap(PLULinear(plu_key, width), axis_size=tokens)
                made.append(Reshape(mixing, (tokens * width,)))
            kept = tokens // 2
            network = TokenNetwork(
                network_key,
                kept=kept,
                moved=tokens - kept,
                width=width,
                cond_dim=cond_dim,
                channels=channels,
                layers=layers,
                heads=heads,
                condition_tokens=condition_tokens,
            )
            made.append(
                TokenCoupling(
                    network=network,
                    shape=(tokens * width,),
                    cond_shape=None if cond_dim is None else (cond_dim,),
                    order=order,
                    kept=kept,
                )
            )
        # A flowjax chain maps latents to data; its inverse takes the blocks in the order above.
        self.bijection = Float32Chain(made[::-1])


@dataclasses.dataclass(frozen=True)
class TransformerCouplingConfig(SequenceFlowConfig):
    """The sizes of a flow of couplings over time, whose networks are transformers.

    The tokens are the actions of a chunk; the coordinates, of a vector that is no chunk.
    """

    blocks: int = 6
    """Couplings; each pair of them moves every token once."""
    channels: int = 128
    """Width of each coupling's transformer."""
    layers: int = 1
    """Layers of each coupling's transformer."""
    heads: int = 4
    """Heads of each attention; they divide the channels."""
    condition_tokens: int = 4
    """As how many tokens the condition is shown to cross-attention."""
    plu: bool = True
    """A learned linear map of each token's coordinates before each coupling."""

    def build_tokens(
        self, key: PRNGKeyArray, *, tokens: int, width: int, cond_dim: int
    ) -> TransformerCoupling:
        sizes = dataclasses.asdict(self)
        return TransformerCoupling(key, tokens=tokens, width=width, cond_dim=cond_dim, **sizes)


def _orders(tokens: int, blocks: int) -> list[tuple[int, ...]]:
    """Return each block's order of the tokens: a permutation, then the same one backwards.

    They are part of the program and no weights, so they must not depend on the key.
    """
    generator = np.random.default_rng(0)
    pairs = (tuple(map(int, generator.permutation(tokens))) for _ in range((blocks + 1) // 2))
    return list(chain.from_iterable((order, order[::-1]) for order in pairs))[:blocks]
