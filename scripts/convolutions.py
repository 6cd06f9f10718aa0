"""Time convolutions, XLA's and ours, and the encoders of images: python scripts/convolutions.py

Each alone in a compiled call, and in a loop of one, as training is. Seconds of processor time for
one step down the gradient, on images of 96 x 96. The record is results/bench/convolutions.json.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from nfrl.files import write_json
from nfrl.networks.image_encoders import Conv, ImpalaConfig, StridedConfig
from nfrl.runs.provenance import provenance

RECORD = Path(__file__).parents[1] / "results" / "bench" / "convolutions.json"
SIDE, STEPS = 96, 3
SHAPES = ((3, 16, 8, 4), (16, 32, 4, 2), (32, 32, 3, 1))
"""Inputs, outputs, side of the kernel and stride of each convolution."""
IMAGES = {"convolutions": 128, "encoders": 16}
"""How many a step is of."""

Encoder = Callable[[jax.Array], jax.Array]


class Convolutions(eqx.Module):
    """The convolutions of the strided encoder, by XLA's own operation or by ours."""

    layers: list[Conv]
    by_xla: bool = eqx.field(static=True)

    def __call__(self, image: jax.Array) -> jax.Array:
        for layer in self.layers:
            image = jax.nn.relu(_xla(layer, image) if self.by_xla else layer(image))
        return image


def _xla(conv: Conv, x: jax.Array) -> jax.Array:
    outputs = conv.linear.bias.shape[0]
    weight = conv.linear.weight.reshape(conv.kernel, conv.kernel, -1, outputs)
    strides, layout = (conv.stride,) * 2, ("NHWC", "HWIO", "NHWC")
    found = jax.lax.conv_general_dilated(
        x[None], weight, strides, "VALID", dimension_numbers=layout
    )
    return found[0] + conv.linear.bias


def measure(encoder: Encoder, count: int) -> dict[str, float]:
    """Return the seconds of one step, alone and in a loop."""
    images = jr.uniform(jr.key(9), (count, SIDE, SIDE, 3))

    def step(encoder: Encoder, images: jax.Array) -> Encoder:
        def loss(encoder: Encoder) -> jax.Array:
            return jnp.square(jax.vmap(encoder)(images)).mean()

        return eqx.apply_updates(encoder, eqx.filter_grad(loss)(encoder))

    def steps(encoder: Encoder, images: jax.Array) -> Encoder:
        dynamic, static = eqx.partition(encoder, eqx.is_array)

        def one(dynamic: Any, _: None) -> tuple[Any, None]:
            after = step(eqx.combine(dynamic, static), images)
            return eqx.filter(after, eqx.is_array), None

        return eqx.combine(jax.lax.scan(one, dynamic, None, STEPS)[0], static)

    return {
        "alone": _seconds(step, encoder, images),
        "in a loop": _seconds(steps, encoder, images) / STEPS,
    }


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    compiled = eqx.filter_jit(function)
    jax.block_until_ready(eqx.filter(compiled(*arguments), eqx.is_array))
    began = time.process_time()
    jax.block_until_ready(eqx.filter(compiled(*arguments), eqx.is_array))
    return round(time.process_time() - began, 4)


def main() -> None:
    """Measure, print a table, and write the record."""
    convs = [Conv(jr.key(i), *shape) for i, shape in enumerate(SHAPES)]
    shape = (SIDE, SIDE, 3)
    measured = {
        "XLA's convolutions": measure(Convolutions(convs, True), IMAGES["convolutions"]),
        "products of patches": measure(Convolutions(convs, False), IMAGES["convolutions"]),
        "encoder strided": measure(StridedConfig().build(jr.key(0), shape), IMAGES["encoders"]),
        "encoder impala": measure(ImpalaConfig().build(jr.key(0), shape), IMAGES["encoders"]),
    }
    for name, seconds in measured.items():
        print(f"| {name} | {seconds['alone']:.2f} | {seconds['in a loop']:.2f} |")
    figures = {"images": IMAGES, "side": SIDE, "seconds": measured}
    write_json(RECORD, {"bench": "convolutions", **figures, **provenance()})


if __name__ == "__main__":
    main()
