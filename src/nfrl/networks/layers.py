"""Networks that flows and agents are built of. Each works on one example; batching is ``vmap``."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray
from paramax import NonTrainable

PYTORCH_EPSILON, FLAX_EPSILON = 1e-5, 1e-6
"""What LayerNorm adds to a variance."""

Initializer = Callable[[PRNGKeyArray, tuple[int, int]], Array]
"""Makes initial weights (inputs, outputs), as those of ``jax.nn.initializers`` do."""


class Linear(eqx.Module):
    """x -> x W + b, with W stored (inputs, outputs).

    In this order a batch under ``vmap`` is one plain product, whose result needs no transposing as
    that of W x would.

    Args:
        key: Random key.
        inputs: Width of the input; 0 is allowed, and leaves the bias.
        outputs: Width of the output.
        fan_in: Sets the scale of PyTorch's initial weights and bias, uniform in +-fan_in^(-1/2);
            ``inputs`` if None.
        initializer: Makes the initial weights in another way; the bias is then 0, as Flax's.
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(
        self,
        key: PRNGKeyArray,
        inputs: int,
        outputs: int,
        *,
        fan_in: int | None = None,
        initializer: Initializer | None = None,
    ):
        weight_key, bias_key = jr.split(key)
        if initializer is None:
            limit = max(inputs if fan_in is None else fan_in, 1) ** -0.5
            self.weight = jr.uniform(weight_key, (inputs, outputs), minval=-limit, maxval=limit)
            self.bias = jr.uniform(bias_key, (outputs,), minval=-limit, maxval=limit)
        else:
            self.weight = initializer(weight_key, (inputs, outputs))
            self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return x @ self.weight + self.bias


class LayerNorm(eqx.Module):
    """Normalise to mean 0 and variance 1, then scale and shift (Ba et al., 2016)."""

    scale: Float[Array, " width"]
    shift: Float[Array, " width"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, width: int, epsilon: float = PYTORCH_EPSILON):
        self.scale = jnp.ones(width)
        self.shift = jnp.zeros(width)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        return _normalised(x, self.epsilon) * self.scale + self.shift


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _normalised(x: Float[Array, " width"], epsilon: float) -> Float[Array, " width"]:
    centred = x - x.mean()
    return centred * jax.lax.rsqrt(jnp.square(centred).mean() + epsilon)


@_normalised.defjvp
def _normalised_jvp(epsilon: float, primals: tuple[Array], tangents: tuple[Array]) -> Any:
    """Differentiate in closed form: in fewer passes over x than rule by rule."""
    (x,), (dx,) = primals, tangents
    centred = x - x.mean()
    scale = jax.lax.rsqrt(jnp.square(centred).mean() + epsilon)
    normal = centred * scale
    return normal, scale * (dx - dx.mean() - normal * (normal * dx).mean())


class MLP(eqx.Module):
    """[Linear -> (LayerNorm) -> activation] x len(widths) -> Linear.

    With LayerNorm and SiLU this is the paper's encoder of a condition.

    Args:
        key: Random key.
        inputs: Width of the input.
        widths: Widths of the hidden layers.
        outputs: Width of the output.
        activation: The nonlinearity.
        layer_norm: Whether each hidden layer is normalised.
        norm_first: Whether it is normalised before its activation, or after.
        epsilon: What LayerNorm adds to a variance.
        initializer: Makes the initial weights; PyTorch's if None.
        last_initializer: Makes those of the last layer; ``initializer`` if None.
    """

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...] | None
    activation: Callable[[Array], Array] = eqx.field(static=True)
    norm_first: bool = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        inputs: int,
        widths: Sequence[int],
        outputs: int,
        *,
        activation: Callable[[Array], Array] = jax.nn.silu,
        layer_norm: bool = True,
        norm_first: bool = True,
        epsilon: float = PYTORCH_EPSILON,
        initializer: Initializer | None = None,
        last_initializer: Initializer | None = None,
    ):
        sizes = [inputs, *widths, outputs]
        keys = jr.split(key, len(sizes) - 1)
        each = [initializer] * len(widths) + [last_initializer or initializer]
        self.layers = tuple(
            Linear(one, before, after, initializer=begin)
            for one, before, after, begin in zip(keys, sizes[:-1], sizes[1:], each, strict=True)
        )
        self.norms = tuple(LayerNorm(width, epsilon) for width in widths) if layer_norm else None
        self.activation = activation
        self.norm_first = norm_first

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if self.norms is None:
                x = self.activation(x)
            elif self.norm_first:
                x = self.activation(self.norms[i](x))
            else:
                x = self.norms[i](self.activation(x))
        return self.layers[-1](x)


def split_trainable(tree: Any) -> tuple[Any, Any]:
    """Split a module into what training may change and what it may not.

    Trainable is every floating-point array, unless it stands inside a ``paramax.NonTrainable``, as
    the constants of flowjax's bijections do: neither gradient nor weight decay may reach those.

    Returns:
        Two modules to be joined by ``equinox.combine``.
    """
    return eqx.partition(
        tree, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, NonTrainable)
    )


def count_parameters(tree: Any) -> int:
    """Return how many trainable numbers a module holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(split_trainable(tree)[0]))
