"""The 1-D convolutional U-Net of Diffusion Policy (Chi et al., 2023, "CNN-based", appendix)."""

from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.errors import UserError
from nfrl.networks import MLP, Linear

GROUPS = 8


class ConvolutionBlock(eqx.Module):
    """Convolution -> GroupNorm -> Mish, of (channels, length)."""

    convolution: eqx.nn.Conv1d
    norm: eqx.nn.GroupNorm

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int, kernel: int):
        self.convolution = eqx.nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, key=key)
        self.norm = eqx.nn.GroupNorm(GROUPS, outputs)

    def __call__(self, x: Float[Array, "inputs length"]) -> Float[Array, "outputs length"]:
        return jax.nn.mish(self.norm(self.convolution(x)))


class ResidualBlock(eqx.Module):
    """Two convolution blocks with FiLM between them (Perez et al., 2018) and a way past both.

    FiLM: the condition scales and shifts each channel.
    """

    first: ConvolutionBlock
    second: ConvolutionBlock
    film: Linear
    past: eqx.nn.Conv1d | None

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int, condition: int, kernel: int):
        first_key, second_key, film_key, past_key = jr.split(key, 4)
        self.first = ConvolutionBlock(first_key, inputs, outputs, kernel)
        self.second = ConvolutionBlock(second_key, outputs, outputs, kernel)
        self.film = Linear(film_key, condition, 2 * outputs)
        self.past = None if inputs == outputs else eqx.nn.Conv1d(inputs, outputs, 1, key=past_key)

    def __call__(
        self, x: Float[Array, "inputs length"], condition: Float[Array, " condition"]
    ) -> Float[Array, "outputs length"]:
        scale, shift = jnp.split(self.film(jax.nn.mish(condition)), 2)
        h = self.first(x) * scale[:, None] + shift[:, None]
        return self.second(h) + (x if self.past is None else self.past(x))


class UNet(eqx.Module):
    """A chunk with noise, a time and a condition -> a chunk: down, across and up again in time.

    At each level but the last the chunk is half as long as before; on the way up each level also
    sees what it was on the way down.

    Args:
        key: Random key.
        predicted: Actions in a chunk; a multiple of 2^(levels - 1).
        action_dim: Width of an action.
        condition_dim: Width of the condition.
        widths: Channels of each level, multiples of 8.
        kernel: Width of the convolutions, odd.
        time_dim: Width of the embedding of the time.

    Raises:
        UserError: The chunk cannot be halved so often, or a level is no multiple of 8 wide.
    """

    embed: MLP
    down: tuple[tuple[ResidualBlock, ResidualBlock], ...]
    shrink: tuple[eqx.nn.Conv1d, ...]
    middle: tuple[ResidualBlock, ResidualBlock]
    up: tuple[tuple[ResidualBlock, ResidualBlock], ...]
    grow: tuple[eqx.nn.ConvTranspose1d, ...]
    last: ConvolutionBlock
    to_chunk: eqx.nn.Conv1d
    time_dim: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        predicted: int,
        action_dim: int,
        condition_dim: int,
        widths: Sequence[int] = (256, 512, 1024),
        kernel: int = 5,
        time_dim: int = 256,
    ):
        if predicted % 2 ** (len(widths) - 1):
            raise UserError(
                f"a U-Net of {len(widths)} levels needs chunks that are a multiple of "
                f"{2 ** (len(widths) - 1)} long; got {predicted}"
            )
        if any(width % GROUPS for width in widths):
            raise UserError(f"a U-Net's widths must be multiples of {GROUPS}; got {tuple(widths)}")
        keys = iter(jr.split(key, 6 * len(widths) + 5))
        context = time_dim + condition_dim

        def pair(inputs: int, outputs: int) -> tuple[ResidualBlock, ResidualBlock]:
            return (
                ResidualBlock(next(keys), inputs, outputs, context, kernel),
                ResidualBlock(next(keys), outputs, outputs, context, kernel),
            )

        steps = list(pairwise((action_dim, *widths)))
        self.embed = MLP(
            next(keys),
            time_dim,
            (4 * time_dim,),
            time_dim,
            activation=jax.nn.mish,
            layer_norm=False,
        )
        self.down = tuple(pair(inputs, outputs) for inputs, outputs in steps)
        self.shrink = tuple(
            eqx.nn.Conv1d(width, width, 3, stride=2, padding=1, key=next(keys))
            for width in widths[:-1]
        )
        self.middle = pair(widths[-1], widths[-1])
        self.up = tuple(pair(2 * outputs, inputs) for inputs, outputs in steps[:0:-1])
        self.grow = tuple(
            eqx.nn.ConvTranspose1d(inputs, inputs, 4, stride=2, padding=1, key=next(keys))
            for inputs, _ in steps[:0:-1]
        )
        self.last = ConvolutionBlock(next(keys), widths[0], widths[0], kernel)
        self.to_chunk = eqx.nn.Conv1d(widths[0], action_dim, 1, key=next(keys))
        self.time_dim = time_dim

    def __call__(
        self,
        chunk: Float[Array, "predicted action"],
        time: Float[Array, ""],
        condition: Float[Array, " condition"],
    ) -> Float[Array, "predicted action"]:
        context = jnp.concatenate((self.embed(embed_time(time, self.time_dim)), condition))

        def through(blocks: tuple[ResidualBlock, ...], x: Array) -> Array:
            for block in blocks:
                x = block(x, context)
            return x

        x, levels = chunk.T, []
        for i, blocks in enumerate(self.down):
            x = through(blocks, x)
            levels.append(x)
            if i < len(self.shrink):
                x = self.shrink[i](x)
        x = through(self.middle, x)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = grow(through(blocks, jnp.concatenate((x, levels.pop()))))
        return self.to_chunk(self.last(x)).T


def embed_time(time: Float[Array, ""], dim: int) -> Float[Array, " dim"]:
    """Embed a time in [0, 1] as sines and cosines of many frequencies (Vaswani et al., 2017)."""
    frequencies = 10_000.0 ** (-jnp.arange(dim // 2) / max(dim // 2 - 1, 1))
    angles = 1000 * time * frequencies
    return jnp.concatenate((jnp.sin(angles), jnp.cos(angles)))
