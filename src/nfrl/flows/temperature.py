"""Sampling nearer the modes: latents of less spread, as Glow does (Kingma and Dhariwal, 2018)."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flowjax.distributions import AbstractDistribution, AbstractTransformed
from jaxtyping import Array, Float, PRNGKeyArray
from paramax import unwrap


def sample_at(
    temperature: float,
    flow: AbstractDistribution,
    key: PRNGKeyArray,
    condition: Float[Array, " cond_dim"] | None = None,
    shape: tuple[int, ...] = (),
) -> Float[Array, "*shape dim"]:
    """Return samples of a flow whose latents are multiplied by a temperature.

    With T the latents are N(0, T^2 I) where those of the density itself are N(0, I): the modes
    stay, and what lies far from them becomes rare.

    Args:
        temperature: T, at least 0. At 1 they are samples of the density; at 0 the image of the
            latents' origin.
        flow: Any flowjax distribution at 1; otherwise a transformed one with a standard normal
            base, as :class:`~nfrl.flows.RealNVP` is.
        key: Random key.
        condition: Their condition; None if unconditional.
        shape: How many samples; one alone unless told.

    Raises:
        ValueError: The distribution has no latents.
    """
    if temperature == 1:
        return flow.sample(key, shape, condition)
    if not isinstance(flow, AbstractTransformed):
        raise ValueError(f"{type(flow).__name__} has no latents for a temperature to multiply")
    # As its own methods do: flows of flowjax keep their weights wrapped.
    unwrapped: Any = unwrap(flow)
    latents = temperature * unwrapped.base_dist.sample(key, shape)
    transform = partial(unwrapped.bijection.transform, condition=condition)
    return jnp.vectorize(transform, signature="(d)->(d)")(latents)
