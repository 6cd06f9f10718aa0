"""The denoising trick: train on noisy data, remove the noise by one score step when sampling."""

import jax
import jax.numpy as jnp
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Float


def score(
    distribution: AbstractDistribution,
    x: Float[Array, "*batch dim"],
    condition: Float[Array, "*batch cond_dim"] | None,
) -> Float[Array, "*batch dim"]:
    """Return grad_x log p(x | y); a batch of conditions and one of x are broadcast together."""
    if condition is not None and distribution.cond_ndim is not None:
        batch = jnp.shape(condition)[: jnp.ndim(condition) - distribution.cond_ndim]
        x = jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape[:-1], batch) + x.shape[-1:])
    return jax.grad(lambda value: distribution.log_prob(value, condition).sum())(x)


def denoise(
    distribution: AbstractDistribution,
    x: Float[Array, "*batch dim"],
    condition: Float[Array, "*batch cond_dim"] | None,
    sigma: float,
) -> Float[Array, "*batch dim"]:
    """Return E[clean x | noisy x] under a density of data with Gaussian noise (Tweedie's formula).

        x + sigma^2 * grad_x log p(x | y)

    Args:
        distribution: A density trained on x + sigma * eps, eps ~ N(0, I).
        x: Noisy samples.
        condition: Their condition, broadcast against the samples' batch; None if unconditional.
        sigma: Standard deviation of the training noise, in the units of x; 0 returns x.
    """
    if sigma == 0:
        return x
    return x + sigma**2 * score(distribution, x, condition)
