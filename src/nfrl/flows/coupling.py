"""The coupling layer: one half of x moves by a map that the other half and the condition choose.

RealNVP (Dinh et al., 2017), with the conditioner of Ghugare and Eysenbach (2025), section 4.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from flowjax.bijections import AbstractBijection
from flowjax.utils import get_ravelled_pytree_constructor
from jaxtyping import Array, Float, PRNGKeyArray
from paramax import NonTrainable

from nfrl.networks import LayerNorm, Linear

LEAKY_SLOPE = 0.01


class ExpAffine(AbstractBijection):
    """The scalar map x -> x * exp(log_scale) + shift, which starts as the identity."""

    log_scale: Array
    shift: Array
    shape = ()
    cond_shape = None

    def __init__(self):
        self.log_scale = jnp.zeros(())
        self.shift = jnp.zeros(())

    def transform_and_log_det(self, x, condition=None):
        return x * jnp.exp(self.log_scale) + self.shift, self.log_scale

    def inverse_and_log_det(self, y, condition=None):
        return (y - self.shift) * jnp.exp(-self.log_scale), -self.log_scale


class Conditioner(eqx.Module):
    """[Linear -> LeakyReLU -> LayerNorm] x 2 -> Linear, of x1 and the condition y.

    The widths are c + k, c and the outputs'; the last layer starts at zero. The first layer is
    the sum of a product with x1 and a product with y. Under ``vmap`` over samples that share y,
    the second is computed once.

    Args:
        key: Random key.
        inputs: Width of x1.
        cond_dim: Width k of y; None for none.
        channels: c.
        outputs: Width of the output.
        layer_norm: Whether to normalise.
    """

    of_x: Linear
    of_condition: Float[Array, "cond_dim hidden"] | None
    second: Linear
    last: Linear
    norms: tuple[LayerNorm, LayerNorm] | None

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        inputs: int,
        cond_dim: int | None,
        channels: int,
        outputs: int,
        layer_norm: bool,
    ):
        x_key, condition_key, second_key, last_key = jr.split(key, 4)
        k = cond_dim or 0
        hidden = channels + k
        self.of_x = Linear(x_key, inputs, hidden, fan_in=inputs + k)
        self.of_condition = (
            None if cond_dim is None else Linear(condition_key, k, hidden, fan_in=inputs + k).weight
        )
        self.second = Linear(second_key, hidden, channels)
        self.last = jax.tree.map(jnp.zeros_like, Linear(last_key, channels, outputs))
        self.norms = (LayerNorm(hidden), LayerNorm(channels)) if layer_norm else None

    def __call__(
        self, x: Float[Array, " inputs"], condition: Float[Array, " cond_dim"] | None
    ) -> Float[Array, " outputs"]:
        h = self.of_x(x)
        if self.of_condition is not None and condition is not None:
            h += condition @ self.of_condition
        h = self._activate(h, 0)
        h = self._activate(self.second(h), 1)
        return self.last(h)

    def _activate(self, h: Array, layer: int) -> Array:
        h = jax.nn.leaky_relu(h, LEAKY_SLOPE)
        return h if self.norms is None else self.norms[layer](h)


class Coupling(AbstractBijection):
    """The first ceil(d/2) coordinates pass, and choose with the condition how the others move.

    A single coordinate (d = 1) is moved by the condition alone.

    Args:
        key: Random key.
        dim: Number of coordinates d.
        cond_dim: Width k of the condition; None for none.
        channels: Width c of the networks, whose layers are c + k and c wide.
        transformer: Makes the scalar bijection to be parameterised, at its initial value (the
            identity, for a flow that starts as its linear flows alone).
        layer_norm: Whether the networks normalise their activations.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)
    transformer: Callable[[], AbstractBijection] = eqx.field(static=True)
    conditioners: tuple[Conditioner, ...]

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        dim: int,
        cond_dim: int | None,
        channels: int,
        transformer: Callable[[], AbstractBijection] = ExpAffine,
        layer_norm: bool = True,
    ):
        kept = _kept(dim)
        _, parameters = _constructor(transformer)
        # The affine map has the paper's two separate networks, s and t; any other map has one.
        networks = 2 if transformer is ExpAffine else 1
        self.shape = (dim,)
        self.cond_shape = None if cond_dim is None else (cond_dim,)
        self.transformer = transformer
        self.conditioners = tuple(
            Conditioner(
                network_key,
                inputs=kept,
                cond_dim=cond_dim,
                channels=channels,
                outputs=(dim - kept) * parameters // networks,
                layer_norm=layer_norm,
            )
            for network_key in jr.split(key, networks)
        )

    def transform_and_log_det(self, x, condition=None):
        x1, x2 = jnp.split(x, [_kept(x.size)])
        transformers = self._transformers(x1, condition)
        x2, log_det = eqx.filter_vmap(lambda f, v: f.transform_and_log_det(v))(transformers, x2)
        return jnp.concatenate((x1, x2)), log_det.sum()

    def inverse_and_log_det(self, y, condition=None):
        y1, y2 = jnp.split(y, [_kept(y.size)])
        transformers = self._transformers(y1, condition)
        y2, log_det = eqx.filter_vmap(lambda f, v: f.inverse_and_log_det(v))(transformers, y2)
        return jnp.concatenate((y1, y2)), log_det.sum()

    def _transformers(self, x1: Array, condition: Array | None) -> AbstractBijection:
        """Return the scalar maps of x2's coordinates, stacked along a first axis."""
        constructor, _ = _constructor(self.transformer)
        moved = self.shape[0] - x1.size
        parameters = [network(x1, condition).reshape(moved, -1) for network in self.conditioners]
        return eqx.filter_vmap(constructor)(jnp.concatenate(parameters, axis=1))


def _kept(dim: int) -> int:
    """Return how many of d coordinates a coupling leaves as they are."""
    return (dim + 1) // 2 if dim > 1 else 0


def _constructor(
    transformer: Callable[[], AbstractBijection],
) -> tuple[Callable[[Array], AbstractBijection], int]:
    """Return the map from a vector to a transformer (zero: the initial one), and its length."""
    bijection = transformer()
    if bijection.shape != () or bijection.cond_shape is not None:
        raise ValueError(f"a coupling's transformer is scalar and unconditional; got {bijection}")
    return get_ravelled_pytree_constructor(
        bijection,
        filter_spec=eqx.is_inexact_array,
        is_leaf=lambda leaf: isinstance(leaf, NonTrainable),
    )
