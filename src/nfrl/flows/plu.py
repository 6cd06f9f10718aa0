"""The linear flow: a generalised permutation (Glow, Kingma and Dhariwal, 2018, section 3.2)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
import numpy as np
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float, Int, PRNGKeyArray


class PLULinear(AbstractBijection):
    """The inverse pass is x -> x W with W = P L U, whose log|det| is sum(log|s|).

    P is a fixed permutation, L unit lower triangular, and U upper triangular with the diagonal
    s = sign * exp(log_scale). W starts as a random orthogonal matrix. The permutation and the
    signs are integers, so that no gradient, weight decay or average of weights can reach them in
    either direction; the triangles are stored without their zeros, so that every float is a
    parameter. In :class:`~nfrl.flows.RealNVP` data are mapped to latents by the inverse pass.

    Args:
        key: Random key of the initial orthogonal matrix.
        dim: Number of coordinates d.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: None = eqx.field(static=True)
    permutation: Int[Array, " dim"]
    sign: Int[Array, " dim"]
    log_scale: Float[Array, " dim"]
    lower: Float[Array, " dim*(dim-1)/2"]
    upper: Float[Array, " dim*(dim-1)/2"]

    def __init__(self, key: PRNGKeyArray, dim: int):
        p, lower, upper = jsl.lu(jr.orthogonal(key, dim))
        scale = jnp.diag(upper)
        below = np.tril_indices(dim, -1)
        self.shape = (dim,)
        self.cond_shape = None
        self.permutation = jnp.argmax(p, axis=0)
        self.sign = jnp.where(scale < 0, -1, 1)
        self.log_scale = jnp.log(jnp.abs(scale))
        self.lower = lower[below]
        self.upper = upper.T[below]

    def _triangles(self) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        (dim,) = self.shape
        below = np.tril_indices(dim, -1)
        scale = self.sign * jnp.exp(self.log_scale)
        lower = jnp.eye(dim).at[below].set(self.lower)
        upper = jnp.diag(scale).at[below[::-1]].set(self.upper)
        return lower, upper

    def transform_and_log_det(self, x, condition=None):
        lower, upper = self._triangles()
        # Solved for the identity, not for x: under vmap that is done once for the whole batch, and
        # what is left for each example is a product.
        (dim,) = self.shape
        lower_inverse = jsl.solve_triangular(lower, jnp.eye(dim), lower=True, unit_diagonal=True)
        upper_inverse = jsl.solve_triangular(upper, jnp.eye(dim))
        inverse = _product(upper_inverse, lower_inverse)[:, jnp.argsort(self.permutation)]
        return _product(x, inverse), -self.log_scale.sum()

    def inverse_and_log_det(self, y, condition=None):
        lower, upper = self._triangles()
        matrix = _product(lower, upper)[jnp.argsort(self.permutation)]
        return _product(y, matrix), self.log_scale.sum()


def _product(x: Array, y: Array) -> Array:
    """Multiply in float32 on every device: these products move all of x, and are small."""
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
