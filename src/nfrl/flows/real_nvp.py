"""The paper's flow: linear flows and couplings in turn (Ghugare and Eysenbach, 2025, section 4)."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax.random as jr
from flowjax.bijections import AbstractBijection, Flip, Identity, RationalQuadraticSpline
from flowjax.distributions import AbstractTransformed, StandardNormal
from jaxtyping import PRNGKeyArray

from nfrl.flows.config import FlowConfig
from nfrl.flows.coupling import Coupling, ExpAffine
from nfrl.flows.float32 import Float32Chain
from nfrl.flows.plu import PLULinear

Mixing = Literal["plu", "reverse", "none"]
Transformer = Literal["affine", "spline"]

_TRANSFORMERS: dict[str, Callable[[], AbstractBijection]] = {
    "affine": ExpAffine,
    # Data in [-1, 1], rotated and noisy, stay well inside; the tails outside are the identity.
    "spline": partial(RationalQuadraticSpline, knots=8, interval=4),
}


class RealNVP(AbstractTransformed):
    """Conditional density p(x | y) of x in R^d given y in R^k, as a flowjax distribution.

    z = f_T(... f_1(x; y) ...; y) with z ~ N(0, I), each block a linear flow and then a coupling:

        log p(x | y) = log N(f(x; y); 0, I) + sum_t log |det J_t|

    Sampling inverts the blocks at the same cost. Keys must be typed (``jax.random.key``).

    Args:
        key: Random key; every block has its own share.
        dim: Number of coordinates d of x, one or more.
        cond_dim: Number of coordinates k of y; None for an unconditional density.
        blocks: Number of blocks T.
        channels: Width c of the coupling networks, (c + k, c).
        transformer: "affine" (the paper's), "spline" (rational-quadratic, Durkan et al., 2019), or
            any function that makes a scalar unconditional flowjax bijection.
        mixing: The linear flow of each block: "plu" (the paper's), "reverse" (a fixed reversal of
            the coordinates), or "none" (the paper's ablation: half of x is never moved).
        layer_norm: Whether the coupling networks normalise their activations.

    Example:
        >>> import jax
        >>> flow = RealNVP(jax.random.key(0), dim=2, cond_dim=3, blocks=2, channels=16)
        >>> x = flow.sample(jax.random.key(1), (5,), condition=jax.numpy.ones(3))
        >>> x.shape, flow.log_prob(x, jax.numpy.ones(3)).shape
        ((5, 2), (5,))
    """

    base_dist: StandardNormal
    bijection: Float32Chain

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        dim: int,
        cond_dim: int | None = None,
        blocks: int = 6,
        channels: int = 256,
        transformer: Transformer | Callable[[], AbstractBijection] = "affine",
        mixing: Mixing = "plu",
        layer_norm: bool = True,
    ):
        if dim < 1 or blocks < 1 or channels < 1:
            raise ValueError(
                f"dim, blocks and channels must be at least 1; got {dim}, {blocks} and {channels}"
            )
        if isinstance(transformer, str) and transformer not in _TRANSFORMERS:
            raise ValueError(f"transformer is one of {list(_TRANSFORMERS)}; got {transformer!r}")
        make = _TRANSFORMERS[transformer] if isinstance(transformer, str) else transformer
        layers: list[AbstractBijection] = []
        for block_key in jr.split(key, blocks):
            linear_key, coupling_key = jr.split(block_key)
            layers += [
                _linear(linear_key, dim, mixing),
                Coupling(
                    coupling_key,
                    dim=dim,
                    cond_dim=cond_dim,
                    channels=channels,
                    transformer=make,
                    layer_norm=layer_norm,
                ),
            ]
        self.base_dist = StandardNormal(shape=(dim,))
        # A flowjax chain maps latents to data; its inverse takes the layers in the order above.
        self.bijection = Float32Chain(layers[::-1])


@dataclasses.dataclass(frozen=True)
class RealNVPConfig(FlowConfig):
    """The sizes of a RealNVP; the defaults are the paper's for OGBench."""

    blocks: int = 6
    """Blocks of the flow: a linear flow and a coupling each."""
    channels: int = 256
    """Width c of the coupling networks (the code; the paper's table says 512)."""
    transformer: Transformer = "affine"
    """What a coupling does to a coordinate; "spline" is rational-quadratic."""
    mixing: Mixing = "plu"
    """The linear flow between couplings; "none" is the paper's ablation."""
    layer_norm: bool = True
    """LayerNorm in the coupling networks; False is the paper's ablation."""

    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> RealNVP:
        return RealNVP(key, dim=dim, cond_dim=cond_dim, **dataclasses.asdict(self))


def _linear(key: PRNGKeyArray, dim: int, mixing: Mixing) -> AbstractBijection:
    match mixing:
        case "plu":
            return PLULinear(key, dim)
        case "reverse":
            return Flip(shape=(dim,))
        case "none":
            return Identity(shape=(dim,))
    raise ValueError(f"mixing is 'plu', 'reverse' or 'none'; got {mixing!r}")
