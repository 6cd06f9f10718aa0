"""Networks of a noisy chunk, a time and a condition, for diffusion and flow matching."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.unet import UNet, embed_time
from nfrl.networks import MLP

NetworkKind = Literal["mlp", "unet"]


class TimeMLP(eqx.Module):
    """A fully connected network of the flat chunk, the time's embedding and the condition."""

    network: MLP
    time_dim: int = eqx.field(static=True)

    def __call__(
        self,
        chunk: Float[Array, "predicted action"],
        time: Float[Array, ""],
        condition: Float[Array, " condition"],
    ) -> Float[Array, "predicted action"]:
        parts = (chunk.reshape(-1), embed_time(time, self.time_dim), condition)
        return self.network(jnp.concatenate(parts)).reshape(chunk.shape)


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
        hidden: Hidden widths of the MLP; channels of the U-Net's levels.
        time_dim: Width of the time's embedding, even.
    """
    if kind == "unet":
        return UNet(
            key,
            predicted=predicted,
            action_dim=action_dim,
            condition_dim=condition_dim,
            widths=hidden,
            time_dim=time_dim,
        )
    flat = predicted * action_dim
    return TimeMLP(MLP(key, flat + time_dim + condition_dim, hidden, flat), time_dim)
