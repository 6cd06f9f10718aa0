"""One Gaussian as a flow: what is left of a density when nothing but mean and deviation move.

    x = exp(a(y)) z + b(y),  z ~ N(0, I),  (a, b) = network(y)

The rival of every other kind of flow, in the same agent and with the same sampling.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from flowjax.distributions import StandardNormal, Transformed
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.flows.config import FlowConfig, check_sizes
from nfrl.flows.float32 import Float32Chain
from nfrl.networks import MLP


class ConditionalAffine(AbstractBijection):
    """x -> exp(a(y)) x + b(y), the identity before training.

    Args:
        key: Random key.
        dim: Number of coordinates.
        cond_dim: Width of the condition y.
        hidden: Hidden widths of the network.
    """

    network: MLP
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, dim: int, cond_dim: int, hidden: tuple[int, ...]):
        network = MLP(key, cond_dim, hidden, 2 * dim)
        last = jax.tree.map(jnp.zeros_like, network.layers[-1])
        self.network = eqx.tree_at(lambda n: n.layers[-1], network, last)
        self.shape, self.cond_shape = (dim,), (cond_dim,)

    def transform_and_log_det(self, x, condition=None):
        log_scale, shift = self._maps(condition)
        return x * jnp.exp(log_scale) + shift, log_scale.sum()

    def inverse_and_log_det(self, y, condition=None):
        log_scale, shift = self._maps(condition)
        return (y - shift) * jnp.exp(-log_scale), -log_scale.sum()

    def _maps(self, condition: Array | None) -> Float[Array, "two dim"]:
        assert condition is not None
        return self.network(condition).reshape(2, -1)


@dataclasses.dataclass(frozen=True)
class GaussianConfig(FlowConfig):
    """A Gaussian whose mean and deviations a network chooses from the condition."""

    hidden: tuple[int, ...] = (256,)
    """Hidden widths of that network, with LayerNorm and SiLU."""

    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> Transformed:
        check_sizes(dim=dim)
        affine = ConditionalAffine(key, dim, cond_dim, self.hidden)
        return Transformed(StandardNormal((dim,)), Float32Chain([affine]))
