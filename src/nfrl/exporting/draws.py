"""A random function as one of its random numbers: what it draws becomes an input.

No format outside JAX knows JAX's random keys. A policy that samples is exported as a function of
its latents: numbers from N(0, 1) or U(0, 1) that the robot's own loop draws.

The function is traced, and its trace is evaluated again with three changes: a draw becomes an
input, what depends on no input is computed here and now, and calls are inlined. What is left is a
flat list of elementary operations, and loops of these.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from nfrl.errors import UserError

Distribution = Literal["normal", "uniform"]
"""N(0, 1), or U(0, 1)."""
_NAMED: dict[str, Distribution] = {"_normal": "normal", "_uniform": "uniform"}
"""The functions of ``jax.random`` that others are made of, by their names in a trace."""
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint")
_KEY = object()
"""What stands for a random key, which nothing but a draw may look at."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """An array of independent random numbers that a function asks for."""

    distribution: Distribution
    shape: tuple[int, ...]


def with_draws(
    function: Callable[..., Any], *inputs: jax.ShapeDtypeStruct
) -> tuple[Callable[..., Any], tuple[Draw, ...]]:
    """Make a function's random draws inputs of it.

    Args:
        function: Of these inputs; whatever random keys it uses are made inside.
        inputs: The shapes and types that it is called with.

    Returns:
        A function of the inputs and then of an array for each draw, and what these arrays are.

    Raises:
        UserError: It draws in a way that cannot be made an input.
    """
    traced = jax.make_jaxpr(function, return_shape=True)(*inputs)
    closed, shape = traced
    structure = jax.tree.structure(shape)
    draws: list[Draw] = []

    def recorded(*values: Array) -> Any:
        return _evaluate(closed, values, _Recorder(draws))

    jax.eval_shape(recorded, *inputs)

    def drawn(*values: Array) -> Any:
        given, latents = values[: len(inputs)], values[len(inputs) :]
        return jax.tree.unflatten(structure, _evaluate(closed, given, _Feeder(latents)))

    return drawn, tuple(draws)


def draw_all(draws: Sequence[Draw], generator: np.random.Generator) -> list[np.ndarray]:
    """Draw an array for each draw, float32."""
    return [
        generator.standard_normal(draw.shape, np.float32)
        if draw.distribution == "normal"
        else generator.random(draw.shape, np.float32)
        for draw in draws
    ]


class _Recorder:
    """Where draws come from at first: each is written down, and is zeros."""

    computes = False  # only shapes matter

    def __init__(self, found: list[Draw]):
        self._found = found

    def take(self, draw: Draw) -> Array:
        self._found.append(draw)
        return jnp.zeros(draw.shape)


class _Feeder:
    """Where draws come from then: the arrays that are given, in the same order."""

    computes = True

    def __init__(self, arrays: Sequence[Array]):
        self._arrays = iter(arrays)

    def take(self, draw: Draw) -> Array:
        return next(self._arrays)


def _evaluate(closed: Any, inputs: Sequence[Any], source: Any) -> list[Any]:
    """Evaluate a trace, taking its draws from a source."""
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in jaxpr.eqns:
        results = _equation(equation, [read(each) for each in equation.invars], source)
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(each) for each in jaxpr.outvars]


def _equation(equation: Any, inputs: list[Any], source: Any) -> Sequence[Any]:
    name, parameters = equation.primitive.name, equation.params
    if name in _CALLS:
        called = parameters.get("jaxpr", parameters.get("call_jaxpr"))
        if parameters.get("name") in _NAMED and any(each is _KEY for each in inputs):
            return [_draw(_NAMED[parameters["name"]], equation, inputs, source)]
        return _evaluate(_closed(called), inputs, source)
    if name in ("custom_jvp_call", "custom_vjp_call"):
        return _evaluate(_closed(parameters["call_jaxpr"]), inputs, source)
    if all(map(_is_key, equation.outvars)):
        return [_KEY] * len(equation.outvars)
    if name == "scan":
        return _scan(parameters, inputs, source)
    if any(each is _KEY for each in inputs):
        raise UserError(
            f"it draws random numbers by {name}, which cannot be made an input; normal and uniform "
            "draws can, and whatever is made of these"
        )
    if source.computes and not any(isinstance(each, jax.core.Tracer) for each in inputs):
        with jax.ensure_compile_time_eval():
            return _bind(equation, [jnp.asarray(each) for each in inputs])
    return _bind(equation, inputs)


def _bind(equation: Any, inputs: list[Any]) -> Sequence[Any]:
    results = equation.primitive.bind(*inputs, **equation.params)
    return results if equation.primitive.multiple_results else [results]


def _draw(distribution: Distribution, equation: Any, inputs: list[Any], source: Any) -> Any:
    (variable,) = equation.outvars
    found = source.take(Draw(distribution, tuple(variable.aval.shape)))
    if distribution == "uniform":
        _, low, high = inputs
        found = low + (high - low) * found
    return found.astype(variable.aval.dtype)


def _scan(parameters: dict[str, Any], inputs: list[Any], source: Any) -> Sequence[Any]:
    """Evaluate a loop; its draws, one of each a turn, become draws of all turns."""
    body, length = parameters["jaxpr"], parameters["length"]
    constants, carried = parameters["num_consts"], parameters["num_carry"]
    begins = constants + carried

    draws: list[Draw] = []
    variables = body.jaxpr.invars
    outlines = [
        _KEY if _is_key(each) else jax.ShapeDtypeStruct(each.aval.shape, each.aval.dtype)
        for each in variables
    ]
    shapes = [each for each in outlines if each is not _KEY]

    def filled(values: Sequence[Any]) -> list[Any]:
        rest = iter(values)
        return [_KEY if _is_key(each) else next(rest) for each in variables]

    jax.eval_shape(
        lambda *values: _kept(_evaluate(body, filled(values), _Recorder(draws))), *shapes
    )
    latents = [
        source.take(dataclasses.replace(draw, shape=(length, *draw.shape))) for draw in draws
    ]

    def turn(carry: list[Any], each: tuple[list[Any], list[Any]]) -> tuple[list[Any], list[Any]]:
        slices, drawn = each
        given = [*_kept(inputs[:constants]), *carry, *slices]
        results = _evaluate(body, filled(given), _Feeder(drawn))
        return _kept(results[:carried]), _kept(results[carried:])

    carry, stacked = jax.lax.scan(
        turn,
        [jnp.asarray(each) for each in _kept(inputs[constants:begins])],
        ([jnp.asarray(each) for each in _kept(inputs[begins:])], latents),
        length=length,
        reverse=parameters["reverse"],
    )
    outputs = iter((*carry, *stacked))
    return [_KEY if _is_key(each) else next(outputs) for each in body.jaxpr.outvars]


def _kept(values: Sequence[Any]) -> list[Any]:
    return [each for each in values if each is not _KEY]


def _is_key(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jax.dtypes.prng_key)


def _closed(jaxpr: Any) -> Any:
    return jaxpr if hasattr(jaxpr, "consts") else core.ClosedJaxpr(jaxpr, ())
