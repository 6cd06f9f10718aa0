"""Time a convolution as XLA has it and as nfrl computes it: python scripts/convolutions.py

Each alone in a compiled call, and in a loop of one, as training is. Seconds of processor time for
one step down the gradient of three convolutions on 128 images of 96 x 96.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from nfrl.networks.image_encoders import Conv

STEPS = 3
SHAPES = ((3, 16, 8, 4), (16, 32, 4, 2), (32, 32, 3, 1))
"""Inputs, outputs, side of the kernel and stride of each."""


def xla(conv: Conv, x: jax.Array) -> jax.Array:
    """Compute a convolution by XLA's own operation."""
    outputs = conv.linear.bias.shape[0]
    weight = conv.linear.weight.reshape(conv.kernel, conv.kernel, -1, outputs)
    strides, layout = (conv.stride,) * 2, ("NHWC", "HWIO", "NHWC")
    found = jax.lax.conv_general_dilated(
        x[None], weight, strides, "VALID", dimension_numbers=layout
    )
    return found[0] + conv.linear.bias


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the processor time of a call that was compiled before."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    began = time.process_time()
    jax.block_until_ready(compiled(*arguments))
    return time.process_time() - began


def main() -> None:
    """Print the table."""
    convs = [Conv(jr.key(i), *shape) for i, shape in enumerate(SHAPES)]
    images = jr.uniform(jr.key(9), (128, 96, 96, 3))
    for name, apply in (("XLA's convolution", xla), ("product of patches", Conv.__call__)):

        def loss(convs: list[Conv], image: jax.Array, apply: Any = apply) -> jax.Array:
            for conv in convs:
                image = jax.nn.relu(apply(conv, image))
            return jnp.square(image).mean()

        def step(convs: list[Conv], images: jax.Array, loss: Any = loss) -> list[Conv]:
            def total(convs: list[Conv]) -> jax.Array:
                return jax.vmap(loss, in_axes=(None, 0))(convs, images).mean()

            return jax.tree.map(lambda a, b: a - 0.1 * b, convs, eqx.filter_grad(total)(convs))

        def steps(convs: list[Conv], images: jax.Array, step: Any = step) -> list[Conv]:
            return jax.lax.scan(lambda c, _: (step(c, images), None), convs, None, STEPS)[0]

        alone, looped = seconds(step, convs, images), seconds(steps, convs, images) / STEPS
        print(f"| {name} | {alone:.2f} | {looped:.2f} |")


if __name__ == "__main__":
    main()
