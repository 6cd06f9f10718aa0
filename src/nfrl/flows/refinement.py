"""Towards the nearest mode: gradient ascent on a sample's likelihood (NF-P, Li et al., 2025)."""

import jax
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, Float

from nfrl.flows.denoising import score


def refine(
    distribution: AbstractDistribution,
    x: Float[Array, " dim"],
    condition: Float[Array, " cond_dim"] | None,
    steps: int,
    rate: float,
) -> Float[Array, " dim"]:
    """Return x after so many steps of x <- x + rate * grad_x log p(x | y).

    Args:
        distribution: Any density.
        x: Where to begin.
        condition: Its condition; None if unconditional.
        steps: K; 0 returns x.
        rate: In squared units of x. Beyond twice the variance of the density's narrowest direction
            the steps diverge.
    """
    if steps == 0:
        return x
    ascend = lambda _, x: x + rate * score(distribution, x, condition)  # noqa: E731
    return jax.lax.fori_loop(0, steps, ascend, x)
