"""Networks of a noisy chunk, a time and a condition, for diffusion and flow matching."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.unet import UNet, embed_time
from nfrl.errors import UserError
from nfrl.networks import MLP, LayerNorm, Linear

NetworkKind = Literal["mlp", "unet"]


class FiLMBlock(eqx.Module):
    """h + Linear(SiLU(FiLM(LayerNorm(Linear(h))))), with a Linear of the outer h at a new width.

    FiLM: the context scales and shifts each feature (Perez et al., 2018).
    """

    norm: LayerNorm
    film: Linear
    first: Linear
    second: Linear
    past: Linear | None

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int, context: int):
        film_key, first_key, second_key, past_key = jr.split(key, 4)
        self.norm = LayerNorm(outputs)
        self.film = Linear(film_key, context, 2 * outputs)
        self.first = Linear(first_key, inputs, outputs)
        self.second = Linear(second_key, outputs, outputs)
        self.past = None if inputs == outputs else Linear(past_key, inputs, outputs)

    def __call__(
        self, h: Float[Array, " inputs"], context: Float[Array, " context"]
    ) -> Float[Array, " outputs"]:
        scale, shift = jnp.split(self.film(context), 2)
        inside = self.norm(self.first(h)) * (1 + scale) + shift
        return self.second(jax.nn.silu(inside)) + (h if self.past is None else self.past(h))


class TimeMLP(eqx.Module):
    """A fully connected network: residual blocks of the flat chunk, under FiLM.

    The blocks' context is the time's embedding beside the encoded condition. One plain MLP of all
    three learns far more slowly (docs/imitation.md).
    """

    encoder: MLP
    first: Linear
    blocks: tuple[FiLMBlock, ...]
    last: Linear
    time_dim: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        predicted: int,
        action_dim: int,
        condition_dim: int,
        widths: Sequence[int],
        time_dim: int = 64,
    ):
        encoder_key, first_key, last_key, block_key = jr.split(key, 4)
        flat = predicted * action_dim
        self.encoder = MLP(encoder_key, condition_dim, (4 * time_dim,), time_dim)
        self.first = Linear(first_key, flat, widths[0])
        self.blocks = tuple(
            FiLMBlock(one, inputs, outputs, 2 * time_dim)
            for one, (inputs, outputs) in zip(
                jr.split(block_key, len(widths)), pairwise((widths[0], *widths)), strict=True
            )
        )
        self.last = Linear(last_key, widths[-1], flat)
        self.time_dim = time_dim

    def __call__(
        self,
        chunk: Float[Array, "predicted action"],
        time: Float[Array, ""],
        condition: Float[Array, " condition"],
    ) -> Float[Array, "predicted action"]:
        parts = (embed_time(time, self.time_dim), self.encoder(condition))
        context = jax.nn.silu(jnp.concatenate(parts))
        h = self.first(chunk.reshape(-1))
        for block in self.blocks:
            h = block(h, context)
        return self.last(h).reshape(chunk.shape)


def build_time_network(
    key: PRNGKeyArray,
    kind: NetworkKind,
    *,
    predicted: int,
    action_dim: int,
    condition_dim: int,
    hidden: Sequence[int],
    time_dim: int = 64,
) -> TimeMLP | UNet:
    """Build a network of (chunk, time in [0, 1], condition) -> chunk.

    Args:
        key: Random key.
        kind: "mlp", or "unet" (Diffusion Policy's).
        predicted: Actions in a chunk.
        action_dim: Width of an action.
        condition_dim: Width of the condition.
        hidden: Widths of the MLP's blocks; channels of the U-Net's levels.
        time_dim: Width of the time's embedding, even.

    Raises:
        UserError: There is no width, or the U-Net cannot have these.
    """
    if not hidden:
        raise UserError("a network of chunks and times needs a hidden width at least; got none")
    network = UNet if kind == "unet" else TimeMLP
    return network(
        key,
        predicted=predicted,
        action_dim=action_dim,
        condition_dim=condition_dim,
        widths=hidden,
        time_dim=time_dim,
    )
