"""Encoders of images, and the slot for them. Each sees one image; batching is ``vmap``."""

import abc
import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.errors import UserError
from nfrl.networks.layers import LayerNorm, Linear

ImageEncoder = Callable[[Float[Array, "height width channels"]], Float[Array, " features"]]
"""A pytree that maps an image, its pixels from 0 to 1, to a vector."""


class ImageEncoderConfig(abc.ABC):
    """A frozen dataclass that builds an encoder of images.

    One of yours is a subclass of this, named on the command line as ``--agent.images.encoder
    package.module:MyEncoderConfig``. That is also the way to a pretrained network: ``build`` loads
    its weights, and ``--agent.images.frozen`` keeps them as they are.
    """

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray, shape: tuple[int, int, int]) -> ImageEncoder:
        """Build an encoder.

        Args:
            key: Random key of the initial weights.
            shape: (height, width, channels) of the images.
        """


@dataclasses.dataclass(frozen=True)
class ImpalaConfig(ImageEncoderConfig):
    """The small residual network of OGBench's agents (Espeholt et al., 2018; Park et al., 2025)."""

    channels: tuple[int, ...] = (16, 32, 32)
    """Of each stack; a stack halves height and width."""
    blocks: int = 1
    """Residual blocks of a stack."""
    features: int = 512
    """Width of what it returns."""

    def build(self, key: PRNGKeyArray, shape: tuple[int, int, int]) -> ImageEncoder:
        stacks_key, head_key = jr.split(key)
        inputs = (shape[2], *self.channels)
        stacks = tuple(
            _Stack(one, before, after, self.blocks)
            for one, before, after in zip(
                jr.split(stacks_key, len(self.channels)), inputs, self.channels, strict=False
            )
        )
        return _Convolutional(head_key, stacks, shape, self.features)


@dataclasses.dataclass(frozen=True)
class StridedConfig(ImageEncoderConfig):
    """Three convolutions with strides, as deep Q-networks have (Mnih et al., 2015).

    On a processor it is some forty times as fast as the residual network (docs/pixels.md).
    """

    channels: tuple[int, ...] = (16, 32, 32)
    """Of each layer (Mnih et al.: 32, 64, 64)."""
    kernels: tuple[int, ...] = (8, 4, 3)
    """Side of each layer's kernel."""
    strides: tuple[int, ...] = (4, 2, 1)
    """Stride of each layer."""
    features: int = 128
    """Width of what it returns."""

    def __post_init__(self):
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise UserError("channels, kernels and strides of an encoder must be as many")

    def build(self, key: PRNGKeyArray, shape: tuple[int, int, int]) -> ImageEncoder:
        layers_key, head_key = jr.split(key)
        inputs = (shape[2], *self.channels)
        keys = jr.split(layers_key, len(self.channels))
        sizes = zip(keys, inputs, self.channels, self.kernels, self.strides, strict=False)
        layers = tuple(Conv(*each) for each in sizes)
        return _Convolutional(head_key, layers, shape, self.features)


class Conv(eqx.Module):
    """A convolution, computed as a product of the image's patches.

    XLA has an operation for it, which on a CPU becomes twenty times slower as soon as it stands in
    a loop, as training does (docs/pixels.md); a product stays fast.

    Args:
        key: Random key.
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel.
        stride: Stride.
        padding: Rows and columns of zeros around the input.
    """

    linear: Linear
    kernel: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: int = 0,
    ):
        # A row of its weight for each place of the kernel and channel, in this order.
        self.linear = Linear(key, kernel * kernel * inputs, outputs)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def __call__(
        self, x: Float[Array, "height width inputs"]
    ) -> Float[Array, "height_out width_out outputs"]:
        kernel, stride, channels = self.kernel, self.stride, x.shape[-1]
        x = jnp.pad(x, ((self.padding,) * 2, (self.padding,) * 2, (0, 0)))
        # Squares of stride x stride pixels become pixels of more channels, so that what is left is
        # a convolution of stride 1 with a smaller kernel; zeros make that a whole number of them.
        reach = -(-kernel // stride)
        rows, columns = ((size - kernel) // stride + 1 for size in x.shape[:2])
        high, wide = (rows + reach - 1) * stride, (columns + reach - 1) * stride
        if min(rows, columns) < 1:
            raise ValueError(f"an image {x.shape} is smaller than the kernel")
        x = x[:high, :wide]
        x = jnp.pad(x, ((0, high - x.shape[0]), (0, wide - x.shape[1]), (0, 0)))
        x = x.reshape(high // stride, stride, wide // stride, stride, channels)
        x = x.transpose(0, 2, 1, 3, 4).reshape(high // stride, wide // stride, -1)
        patches = [x[i : i + rows, j : j + columns] for i in range(reach) for j in range(reach)]
        outputs = self.linear.weight.shape[1]
        weight = self.linear.weight.reshape(kernel, kernel, channels, outputs)
        beyond = (0, reach * stride - kernel)
        weight = jnp.pad(weight, (beyond, beyond, (0, 0), (0, 0)))
        weight = weight.reshape(reach, stride, reach, stride, channels, outputs)
        weight = weight.transpose(0, 2, 1, 3, 4, 5).reshape(-1, outputs)
        return jnp.concatenate(patches, axis=-1) @ weight + self.linear.bias


def max_pool(
    x: Float[Array, "height width channels"],
) -> Float[Array, "height_out width_out channels"]:
    """Return the maximum over 3 x 3 pixels around every other one."""
    x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    rows, columns = ((size - 3) // 2 * 2 + 1 for size in x.shape[:2])
    around = [x[i : i + rows : 2, j : j + columns : 2] for i in range(3) for j in range(3)]
    return jnp.stack(around).max(0)


class _Convolutional(eqx.Module):
    """Convolutions, and a linear layer whose normalised output is the features."""

    layers: tuple[Callable, ...]
    head: Linear
    norm: LayerNorm

    def __init__(
        self,
        key: PRNGKeyArray,
        layers: Sequence[Callable],
        shape: tuple[int, int, int],
        features: int,
    ):
        self.layers = tuple(layers)
        try:
            found = eqx.filter_eval_shape(_convolve, self.layers, jnp.zeros(shape))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"images {shape} are too small for this encoder: choose smaller kernels or strides "
                f"with --agent.images.encoder ({str(error).splitlines()[0]})"
            ) from error
        if not found.size:
            raise UserError(f"images {shape} are too small for this encoder: nothing is left")
        self.head = Linear(key, found.size, features)
        self.norm = LayerNorm(features)

    def __call__(self, image: Float[Array, "height width channels"]) -> Float[Array, " features"]:
        return self.norm(self.head(_convolve(self.layers, image)))


def _convolve(layers: Sequence[Callable], x: Array) -> Array:
    for layer in layers:
        x = jax.nn.relu(layer(x))
    return x.reshape(-1)


class _Stack(eqx.Module):
    """A convolution, a maximum over 3 x 3 with stride 2, and residual blocks of two each."""

    first: Conv
    blocks: tuple[tuple[Conv, Conv], ...]

    def __init__(self, key: PRNGKeyArray, inputs: int, channels: int, blocks: int):
        first_key, *keys = jr.split(key, 1 + 2 * blocks)
        self.first = Conv(first_key, inputs, channels, 3, padding=1)
        pairs = [Conv(one, channels, channels, 3, padding=1) for one in keys]
        self.blocks = tuple(zip(pairs[::2], pairs[1::2], strict=True))

    def __call__(self, x: Float[Array, "height width channels"]) -> Array:
        x = max_pool(self.first(x))
        for one, other in self.blocks:
            x = x + other(jax.nn.relu(one(jax.nn.relu(x))))
        return x
