"""A function as a list of elementary operations, which other programs can carry out.

The operations have the names and the meaning of ONNX's, so that an ONNX file is a program written
in another notation, and NumPy carries one out with a function for each name. What ONNX takes as
constant inputs (a shape, a permutation, an axis) are attributes here.

Lowering goes by what policies are made of. What no policy here needs is refused by its name.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Port:
    """An array that goes in or out."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation: ``outputs = kind(inputs, attributes)``."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    body: "Program | None" = None
    """Of a loop: what a turn does."""


@dataclasses.dataclass(frozen=True)
class Program:
    """Operations in order.

    Attributes:
        inputs: What it is given.
        outputs: What it returns.
        operations: In an order in which they can be carried out.
        constants: Arrays by name; a loop's body may use those of the program around it.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operations: tuple[Operation, ...]
    constants: dict[str, np.ndarray]

    def kinds(self) -> set[str]:
        """Return the names of all operations, those of loops' bodies included."""
        found = {each.kind for each in self.operations}
        return found.union(*(each.body.kinds() for each in self.operations if each.body))


def lower(function: Callable[..., Any], inputs: Sequence[Port], outputs: Sequence[str]) -> Program:
    """Write a function as a program.

    Args:
        function: Of these inputs, with no random draws in it.
        inputs: Names, shapes and types.
        outputs: Names for what it returns, in order.

    Raises:
        UserError: It does something that programs cannot; the message names it.
    """
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in inputs]
    closed = jax.make_jaxpr(function)(*shapes)
    lowering = _Lowering(_Names(), {})
    results = lowering.trace(closed, [_Value(each.name, each.shape) for each in inputs])
    ports = tuple(
        Port(name, tuple(each.aval.shape), str(each.aval.dtype))
        for name, each in zip(outputs, closed.jaxpr.outvars, strict=True)
    )
    # An output has a name of its own, also where it is an input or a constant.
    for port, value in zip(ports, results, strict=True):
        lowering.operations.append(Operation("Identity", (lowering.name(value),), (port.name,)))
    return _tidy(Program(tuple(inputs), ports, tuple(lowering.operations), lowering.constants))


@dataclasses.dataclass(frozen=True)
class _Value:
    """An array of the program that is no constant."""

    name: str
    shape: tuple[int, ...]
    narrow: "_Value | None" = None
    """The same before it was expanded to its shape: operations broadcast by themselves."""


class _Names:
    def __init__(self) -> None:
        self._count = 0

    def new(self) -> str:
        self._count += 1
        return f"v{self._count}"


class _Lowering:
    """The operations and constants that are found while a trace is gone through."""

    def __init__(self, names: _Names, constants: dict[str, np.ndarray]):
        self.names, self.constants = names, constants
        self.operations: list[Operation] = []
        self._constant_names: dict[Any, str] = {}

    def trace(self, closed: Any, inputs: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = {
            each: np.asarray(value)
            for each, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)
        }
        values |= dict(zip(closed.jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Any:
            if not isinstance(variable, core.Literal):
                return values[variable]
            kind: Any = variable.aval
            return np.asarray(variable.val, kind.dtype)

        for equation in closed.jaxpr.eqns:
            given = [read(each) for each in equation.invars]
            name = equation.primitive.name
            if all(isinstance(each, np.ndarray) for each in given) and name != "scan":
                results = _computed(equation, given)
            elif name in _LOWERED:
                results = _LOWERED[name](self, equation, *given)
            else:
                raise UserError(
                    f"a program of ONNX or NumPy has no {name} here; --to stablehlo has everything"
                )
            if not isinstance(results, list):
                results = [results]
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(each) for each in closed.jaxpr.outvars]

    def name(self, value: Any) -> str:
        """Return the name of a value, which a constant gets when it is used."""
        if isinstance(value, _Value):
            return value.name
        value = np.array(value, _type(value), order="C")  # files hold its bytes in this order
        key = (value.tobytes(), value.shape, value.dtype.str)
        if key not in self._constant_names:
            self._constant_names[key] = name = self.names.new()
            self.constants[name] = value
        return self._constant_names[key]

    def add(
        self, kind: str, inputs: Sequence[Any], shape: Sequence[int], /, **attributes: Any
    ) -> _Value:
        """Add an operation of one output."""
        output = _Value(self.names.new(), tuple(shape))
        names = tuple(self.name(each) for each in inputs)
        plain = {name: _plain(value) for name, value in attributes.items()}
        self.operations.append(Operation(kind, names, (output.name,), plain))
        return output

    def elementwise(self, kind: str, inputs: Sequence[Any], shape: Sequence[int]) -> _Value:
        """Add an operation that broadcasts, with inputs as narrow as they may be."""
        given = list(inputs)
        for i, each in enumerate(given):
            narrow = each.narrow if isinstance(each, _Value) else None
            if narrow is None:
                continue
            others = [
                np.shape(other) if isinstance(other, np.ndarray) else other.shape
                for j, other in enumerate(given)
                if j != i
            ]
            if np.broadcast_shapes(narrow.shape, *others) == tuple(shape):
                given[i] = narrow
        return self.add(kind, given, shape)

    def reshape(self, value: Any, shape: Sequence[int]) -> Any:
        """Lay a value out in another shape."""
        shape = tuple(int(each) for each in shape)
        if isinstance(value, np.ndarray):
            return value.reshape(shape)
        return value if value.shape == shape else self.add("Reshape", [value], shape, shape=shape)

    def transpose(self, value: Any, order: Sequence[int]) -> Any:
        """Put a value's axes in another order."""
        if list(order) == sorted(order):
            return value
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        shape = [value.shape[each] for each in order]
        return self.add("Transpose", [value], shape, perm=list(map(int, order)))

    def gather(self, value: Any, indices: Any, axis: int) -> Any:
        """Take entries of one axis by number."""
        count = np.shape(indices) if isinstance(indices, np.ndarray) else indices.shape
        shape = (*value.shape[:axis], *count, *value.shape[axis + 1 :])
        if isinstance(indices, np.ndarray):
            indices = indices.astype(np.int64)
            whole = np.arange(value.shape[axis])
            if indices.shape == whole.shape and (indices == whole).all():
                return value
        return self.add("Gather", [value, indices], shape, axis=axis)

    def slice(self, value: Any, axis: int, begin: int, end: int) -> Any:
        """Take a stretch of one axis."""
        if (begin, end) == (0, value.shape[axis]):
            return value
        if isinstance(value, np.ndarray):
            return value.take(range(begin, end), axis)
        shape = (*value.shape[:axis], end - begin, *value.shape[axis + 1 :])
        return self.add("Slice", [value], shape, axis=axis, begin=int(begin), end=int(end))


def _type(value: Any) -> str:
    """Return the type of an array; runtimes calculate with signed numbers alone."""
    return str(value.dtype).replace("uint32", "int32")


def _plain(value: Any) -> Any:
    """Return an attribute as JSON knows it."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _computed(equation: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Compute what depends on no input."""
    results = equation.primitive.bind(*map(jnp.asarray, inputs), **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    return [np.asarray(each) for each in results]


def _shape(equation: Any) -> tuple[int, ...]:
    return tuple(equation.outvars[0].aval.shape)


def _same(kind: str) -> Callable[..., Any]:
    """Lower what ONNX has under another name."""

    def lowered(to: _Lowering, equation: Any, *inputs: Any) -> Any:
        return to.elementwise(kind, inputs, _shape(equation))

    return lowered


def _called(to: _Lowering, equation: Any, *inputs: Any) -> list[Any]:
    """Lower a call as what is called."""
    parameters = equation.params
    called = parameters["jaxpr"] if "jaxpr" in parameters else parameters["call_jaxpr"]
    return to.trace(called, inputs)


def _unchanged(to: _Lowering, equation: Any, value: Any) -> Any:
    return value


def _not_equal(to: _Lowering, equation: Any, left: Any, right: Any) -> Any:
    shape = _shape(equation)
    return to.add("Not", [to.elementwise("Equal", [left, right], shape)], shape)


def _is_finite(to: _Lowering, equation: Any, value: Any) -> Any:
    # |x| <= the largest number: false of infinities, and of what is no number.
    largest = np.asarray(np.finfo(np.float32).max)
    magnitude = to.add("Abs", [value], value.shape)
    return to.add("LessOrEqual", [magnitude, largest], value.shape)


def _square(to: _Lowering, equation: Any, value: Any) -> Any:
    return to.add("Mul", [value, value], value.shape)


def _power(to: _Lowering, equation: Any, value: Any) -> Any:
    exponent = equation.params["y"]
    if exponent == 2:
        return _square(to, equation, value)
    if exponent == 3:
        return to.add("Mul", [_square(to, equation, value), value], value.shape)
    return to.add("Pow", [value, np.asarray(exponent, np.float32)], value.shape)


def _reciprocal_root(to: _Lowering, equation: Any, value: Any) -> Any:
    return to.add("Reciprocal", [to.add("Sqrt", [value], value.shape)], value.shape)


def _log_one_plus(to: _Lowering, equation: Any, value: Any) -> Any:
    more = to.add("Add", [value, np.float32(1).reshape(())], value.shape)
    return to.add("Log", [more], value.shape)


def _exp_minus_one(to: _Lowering, equation: Any, value: Any) -> Any:
    power = to.add("Exp", [value], value.shape)
    return to.add("Sub", [power, np.float32(1).reshape(())], value.shape)


def _complementary_error(to: _Lowering, equation: Any, value: Any) -> Any:
    error = to.add("Erf", [value], value.shape)
    return to.add("Sub", [np.float32(1).reshape(()), error], value.shape)


def _remainder(to: _Lowering, equation: Any, left: Any, right: Any) -> Any:
    return to.add("Mod", [left, right], _shape(equation), fmod=1)


def _clamp(to: _Lowering, equation: Any, low: Any, value: Any, high: Any) -> Any:
    least = to.elementwise("Max", [value, low], _shape(equation))
    return to.elementwise("Min", [least, high], _shape(equation))


def _select(to: _Lowering, equation: Any, which: Any, *cases: Any) -> Any:
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise UserError("a program has no choice among more than two")
    return to.elementwise("Where", [which, cases[1], cases[0]], _shape(equation))


def _convert(to: _Lowering, equation: Any, value: Any) -> Any:
    before, after = (_type(each.aval) for each in (equation.invars[0], equation.outvars[0]))
    if before == after:
        return value
    return to.add("Cast", [value], value.shape, to=after)


def _reshape(to: _Lowering, equation: Any, value: Any) -> Any:
    order = equation.params.get("dimensions")
    if equation.primitive.name == "reshape" and order is not None:
        value = to.transpose(value, order)
    return to.reshape(value, _shape(equation))


def _transpose(to: _Lowering, equation: Any, value: Any) -> Any:
    return to.transpose(value, equation.params["permutation"])


def _broadcast(to: _Lowering, equation: Any, value: Any) -> Any:
    shape, kept = _shape(equation), equation.params["broadcast_dimensions"]
    narrow = [1] * len(shape)
    for axis, size in zip(kept, value.shape, strict=True):
        narrow[axis] = size
    laid = to.reshape(value, narrow)
    if tuple(narrow) == shape:
        return laid
    expanded = to.add("Expand", [laid], shape, shape=shape)
    return dataclasses.replace(expanded, narrow=laid)


def _concatenate(to: _Lowering, equation: Any, *inputs: Any) -> Any:
    return to.add("Concat", inputs, _shape(equation), axis=equation.params["dimension"])


def _stack(to: _Lowering, equation: Any, *inputs: Any) -> Any:
    axis, shape = equation.params["axis"], _shape(equation)
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    return to.add("Concat", [to.reshape(each, one) for each in inputs], shape, axis=axis)


def _slices(to: _Lowering, equation: Any, value: Any) -> Any:
    parameters = equation.params
    strides = parameters["strides"] or (1,) * len(value.shape)
    bounds = zip(parameters["start_indices"], parameters["limit_indices"], strides, strict=True)
    for axis, (begin, end, stride) in enumerate(bounds):
        if stride == 1:
            value = to.slice(value, axis, begin, end)
        else:
            value = to.gather(value, np.arange(begin, end, stride), axis)
    return value


def _split(to: _Lowering, equation: Any, value: Any) -> list[Any]:
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"])
    return [
        to.slice(value, axis, int(end - size), int(end))
        for size, end in zip(equation.params["sizes"], ends, strict=True)
    ]


def _reverse(to: _Lowering, equation: Any, value: Any) -> Any:
    for axis in equation.params["dimensions"]:
        value = _backwards(to, value, axis)
    return value


def _backwards(to: _Lowering, value: Any, axis: int = 0) -> Any:
    return to.gather(value, np.arange(value.shape[axis])[::-1], axis)


def _pad(to: _Lowering, equation: Any, value: Any, filling: Any) -> Any:
    config = equation.params["padding_config"]
    if not isinstance(filling, np.ndarray):
        raise UserError("a program pads with constants alone")
    for axis, (low, high, between) in enumerate(config):
        if between:
            value = _interleave(to, value, axis, between, float(filling))
        size = value.shape[axis]
        value = to.slice(value, axis, max(0, -low), size - max(0, -high))
    begins, ends = ([max(0, each[i]) for each in config] for i in (0, 1))
    return _padded(to, value, begins, ends, float(filling))


def _padded(
    to: _Lowering, value: Any, begins: Sequence[int], ends: Sequence[int], filling: float = 0.0
) -> Any:
    if not any((*begins, *ends)):
        return value
    shape = [size + b + e for size, b, e in zip(value.shape, begins, ends, strict=True)]
    return to.add(
        "Pad",
        [value],
        shape,
        begins=list(map(int, begins)),
        ends=list(map(int, ends)),
        value=filling,
    )


def _interleave(to: _Lowering, value: Any, axis: int, between: int, filling: float = 0.0) -> Any:
    """Put so many constants between any two entries of an axis."""
    shape, rank = value.shape, len(value.shape)
    wide = to.reshape(value, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    ends = [0] * (rank + 1)
    ends[axis + 1] = between
    wide = _padded(to, wide, [0] * (rank + 1), ends, filling)
    flat = to.reshape(wide, (*shape[:axis], shape[axis] * (1 + between), *shape[axis + 1 :]))
    return to.slice(flat, axis, 0, flat.shape[axis] - between)


def _reduced(kind: str) -> Callable[..., Any]:
    def lowered(to: _Lowering, equation: Any, value: Any) -> Any:
        axes = list(map(int, equation.params["axes"]))
        return to.add(kind, [value], _shape(equation), axes=axes) if axes else value

    return lowered


def _all_or_any(kind: str) -> Callable[..., Any]:
    """Lower "all are true" as a minimum, and "any is" as a maximum, of numbers."""

    def lowered(to: _Lowering, equation: Any, value: Any) -> Any:
        axes = list(map(int, equation.params["axes"]))
        if not axes:
            return value
        numbers = to.add("Cast", [value], value.shape, to="float32")
        least = to.add(kind, [numbers], _shape(equation), axes=axes)
        return to.add("Cast", [least], _shape(equation), to="bool")

    return lowered


def _extreme(kind: str) -> Callable[..., Any]:
    def lowered(to: _Lowering, equation: Any, value: Any) -> Any:
        (axis,) = equation.params["axes"]
        return to.add(kind, [value], _shape(equation), axis=int(axis))

    return lowered


def _top(to: _Lowering, equation: Any, value: Any) -> list[Any]:
    return _ordered(to, value, int(equation.params["k"]), largest=True)


def _ordered(to: _Lowering, value: Any, count: int, *, largest: bool) -> list[Any]:
    """Return the first values of the last axis in order, and their numbers."""
    values, indices = (_Value(to.names.new(), (*value.shape[:-1], count)) for _ in range(2))
    attributes = {"count": int(count), "largest": largest}
    outputs = values.name, indices.name
    to.operations.append(Operation("TopK", (to.name(value),), outputs, attributes))
    return [values, indices]


def _sort(to: _Lowering, equation: Any, *inputs: Any) -> list[Any]:
    axis, keys = equation.params["dimension"], equation.params["num_keys"]
    first = inputs[0]
    if keys != 1 or axis != len(first.shape) - 1 or not isinstance(first, _Value):
        raise UserError("a program sorts by one key along the last axis alone")
    values, order = _ordered(to, first, first.shape[-1], largest=False)
    others = [to.add("GatherElements", [each, order], each.shape, axis=axis) for each in inputs[1:]]
    return [values, *others]


def _cumulative(to: _Lowering, equation: Any, value: Any) -> Any:
    axis, reverse = int(equation.params["axis"]), equation.params["reverse"]
    given = _backwards(to, value, axis) if reverse else value
    total = to.add("CumSum", [given], value.shape, axis=axis)
    return _backwards(to, total, axis) if reverse else total


def _product(to: _Lowering, equation: Any, left: Any, right: Any) -> Any:
    (of_left, of_right), (batch_left, _) = equation.params["dimension_numbers"]
    shape = _shape(equation)
    if batch_left or len(of_left) != 1 or not isinstance(right, np.ndarray):
        swapped = not batch_left and len(of_left) == 1 and isinstance(left, np.ndarray)
        if not swapped or len(right.shape) != 1 or left.ndim != 2:
            return _einsum(to, equation, left, right)
        # W x = x W^T, for a vector x.
        weights = left if of_left[0] == 0 else left.T
        return to.add("MatMul", [right, np.ascontiguousarray(weights)], shape)
    if right.ndim != 2:
        return _einsum(to, equation, left, right)
    last = len(left.shape) - 1
    order = [*(axis for axis in range(last + 1) if axis != of_left[0]), of_left[0]]
    weights = right if of_right[0] == 0 else right.T
    return to.add("MatMul", [to.transpose(left, order), np.ascontiguousarray(weights)], shape)


def _einsum(to: _Lowering, equation: Any, left: Any, right: Any) -> Any:
    (of_left, of_right), (batch_left, batch_right) = equation.params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in left.shape]
    second = [next(letters) for _ in right.shape]
    for mine, yours in (*zip(of_left, of_right), *zip(batch_left, batch_right)):  # noqa: B905
        second[yours] = first[mine]
    result = [first[axis] for axis in batch_left]
    result += [x for i, x in enumerate(first) if i not in (*of_left, *batch_left)]
    result += [x for i, x in enumerate(second) if i not in (*of_right, *batch_right)]
    words = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    return to.add("Einsum", [left, right], _shape(equation), equation=words)


def _convolution(to: _Lowering, equation: Any, value: Any, kernel: Any) -> Any:
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    ones = parameters["feature_group_count"] == parameters["batch_group_count"] == 1
    if not ones or any(each != 1 for each in parameters["rhs_dilation"]):
        raise UserError("a program has no grouped or dilated convolution")
    value, kernel = to.transpose(value, numbers.lhs_spec), to.transpose(kernel, numbers.rhs_spec)
    for i, between in enumerate(parameters["lhs_dilation"]):
        if between > 1:
            value = _interleave(to, value, i + 2, between - 1)
    for i, (low, high) in enumerate(parameters["padding"]):
        size = value.shape[i + 2]
        value = to.slice(value, i + 2, max(0, -low), size - max(0, -high))
    begins = [0, 0, *(max(0, low) for low, _ in parameters["padding"])]
    ends = [0, 0, *(max(0, high) for _, high in parameters["padding"])]
    value = _padded(to, value, begins, ends)
    shape = [_shape(equation)[axis] for axis in numbers.out_spec]
    strides = list(map(int, parameters["window_strides"]))
    result = to.add("Conv", [value, kernel], shape, strides=strides)
    return to.transpose(result, np.argsort(numbers.out_spec).tolist())


def _gather(to: _Lowering, equation: Any, value: Any, indices: Any) -> Any:
    parameters = equation.params
    numbers, sizes = parameters["dimension_numbers"], parameters["slice_sizes"]
    if len(numbers.start_index_map) != 1:
        raise UserError("a program takes entries along one axis at a time")
    (axis,) = numbers.start_index_map
    shape = indices.shape[:-1]
    flat = to.reshape(indices, shape)
    if numbers.operand_batching_dims:
        # take_along_axis: each row of the last axis by numbers of its own.
        last = len(value.shape) - 1
        if axis != last or tuple(numbers.operand_batching_dims) != tuple(range(last)):
            raise UserError("a program takes entries of rows along the last axis alone")
        if len(shape) == last:
            wide = to.reshape(flat, (*shape, 1))
            taken = to.add("GatherElements", [value, wide], (*shape, 1), axis=axis)
            return to.reshape(taken, _shape(equation))
        return to.add("GatherElements", [value, flat], shape, axis=axis)
    whole = all(size == value.shape[i] for i, size in enumerate(sizes) if i != axis)
    if not whole or sizes[axis] != 1:
        raise UserError("a program takes whole entries along an axis, and no windows")
    if axis in numbers.collapsed_slice_dims:
        taken = to.gather(value, flat, axis)
        kept = [i for i in range(len(value.shape)) if i != axis]
        # Where the entries' own axes stand now, and where they are to be.
        now = [i if i < axis else i - 1 + len(shape) for i in kept]
        of_indices = list(range(axis, axis + len(shape)))
    else:
        taken = to.gather(value, to.reshape(flat, (*shape, 1)), axis)
        now = [i if i < axis else i + len(shape) for i in range(len(value.shape))]
        of_indices = list(range(axis, axis + len(shape)))
    order: list[int] = [-1] * len(taken.shape)
    for place, axis_now in zip(numbers.offset_dims, now, strict=True):
        order[place] = axis_now
    rest = iter(of_indices)
    order = [next(rest) if each < 0 else each for each in order]
    return to.transpose(taken, order)


def _dynamic_slice(to: _Lowering, equation: Any, value: Any, *begins: Any) -> Any:
    for axis, (begin, size) in enumerate(zip(begins, equation.params["slice_sizes"], strict=True)):
        if size == value.shape[axis]:
            continue
        if isinstance(begin, np.ndarray):
            value = to.slice(value, axis, int(begin), int(begin) + size)
            continue
        numbers = to.add("Add", [to.reshape(begin, (1,)), np.arange(size, dtype=np.int32)], (size,))
        value = to.gather(value, numbers, axis)
    return value


def _scatter(to: _Lowering, equation: Any, value: Any, indices: Any, updates: Any) -> Any:
    """Set some entries of one axis, whose numbers are known, or one whose number is not."""
    numbers = equation.params["dimension_numbers"]
    axes = numbers.scatter_dims_to_operand_dims
    if not axes and updates.shape == value.shape:
        return updates
    known = isinstance(indices, np.ndarray) and len(axes) == 1
    if known and indices.shape == (1,) and not numbers.inserted_window_dims:
        # A stretch of the axis.
        (axis,), begin = axes, int(indices[0])
        end = begin + updates.shape[axis]
        parts = [
            to.slice(value, axis, 0, begin),
            updates,
            to.slice(value, axis, end, value.shape[axis]),
        ]
        return to.add(
            "Concat", [each for each in parts if each.shape[axis]], value.shape, axis=axis
        )
    if not known or numbers.operand_batching_dims or numbers.inserted_window_dims != axes:
        chosen, laid = _one_entry(to, equation, value, indices, updates)
        return to.add("Where", [chosen, laid, value], _shape(equation))
    (axis,) = axes
    shape = _shape(equation)
    flat = indices.reshape(-1)
    # The updates' axes: those of the window, and that of the numbers, which goes where it belongs.
    rank = len(updates.shape)
    if rank == len(shape) - 1:  # one number alone
        updates = to.reshape(updates, (*shape[:axis], 1, *shape[axis + 1 :]))
    else:
        window = list(numbers.update_window_dims)
        (counted,) = [i for i in range(rank) if i not in window]
        updates = to.transpose(updates, [*window[:axis], counted, *window[axis:]])
    source = np.zeros(shape[axis], np.int64)
    source[flat] = np.arange(len(flat))
    chosen = np.zeros(shape[axis], bool)
    chosen[flat] = True
    spread = [1] * len(shape)
    spread[axis] = shape[axis]
    if isinstance(updates, np.ndarray):
        spread_updates: Any = updates.take(source, axis)
    else:
        spread_updates = to.gather(updates, source, axis)
    return to.add("Where", [chosen.reshape(spread), spread_updates, value], shape)


def _one_entry(
    to: _Lowering, equation: Any, value: Any, indices: Any, updates: Any
) -> tuple[Any, Any]:
    """Return which entry of an axis is meant, of all rows or of each its own, and its update."""
    numbers, shape = equation.params["dimension_numbers"], _shape(equation)
    axes, rows = numbers.scatter_dims_to_operand_dims, tuple(numbers.operand_batching_dims)
    inserted, windows = tuple(numbers.inserted_window_dims), updates.shape[len(rows) :]
    whole = len(axes) == 1 and (inserted == tuple(axes) or (rows and inserted + windows == (1,)))
    own = rows == tuple(range(len(shape) - 1)) and indices.shape == (*shape[:-1], 1)
    if not whole or not (own or (not rows and indices.shape == (1,))):
        raise UserError("a program sets entries along one axis: of known numbers, or one entry")
    (axis,) = axes
    count, one = [1] * len(shape), (*shape[:axis], 1, *shape[axis + 1 :])
    count[axis] = shape[axis]
    index = to.reshape(indices, one if rows else [1] * len(shape))
    each = np.arange(shape[axis], dtype=np.int32).reshape(count)
    chosen = to.add("Equal", [each, index], np.broadcast_shapes(each.shape, index.shape))
    return chosen, to.reshape(updates, one)


def _scatter_add(to: _Lowering, equation: Any, value: Any, indices: Any, updates: Any) -> Any:
    """Add to entries of one axis, of any numbers; to a row's own entry no more than once."""
    numbers, shape = equation.params["dimension_numbers"], _shape(equation)
    axes, windows = numbers.scatter_dims_to_operand_dims, tuple(numbers.update_window_dims)
    whole = len(axes) == 1 and tuple(numbers.inserted_window_dims) == tuple(axes)
    if not whole or numbers.operand_batching_dims or len(indices.shape) != 2:
        placed = _scatter(to, equation, np.zeros(shape, np.float32), indices, updates)
        return to.add("Add", [value, placed], shape)
    # The updates' axes: of what stands beside the axis, that of the numbers, that of the entries.
    (axis,), (count, _) = axes, indices.shape
    (counted,) = [i for i in range(len(updates.shape)) if i not in windows]
    updates = to.transpose(updates, [*windows, counted])
    beside = [size for i, size in enumerate(shape) if i != axis]
    pairs = (*beside, count, shape[axis])
    each = np.arange(shape[axis], dtype=np.int32)[None]
    meant = to.add("Equal", [each, indices], (count, shape[axis]))
    column = to.reshape(updates, (*beside, count, 1))
    spread = to.add("Where", [meant, column, np.zeros(1, np.float32)], pairs)
    total = to.add("ReduceSum", [spread], (*beside, shape[axis]), axes=[len(beside)])
    order = list(range(len(beside)))
    total = to.transpose(total, [*order[:axis], len(beside), *order[axis:]])
    return to.add("Add", [value, total], shape)


def _scan(to: _Lowering, equation: Any, *inputs: Any) -> list[Any]:
    parameters = equation.params
    body, length = parameters["jaxpr"], parameters["length"]
    known, carried = parameters["num_consts"], parameters["num_carry"]
    rows = list(inputs[known + carried :])
    if parameters["reverse"]:  # forwards, over rows in the other order
        rows = [_backwards(to, each) for each in rows]
    within = _Lowering(to.names, to.constants)
    within._constant_names = to._constant_names

    def port(variable: Any) -> Port:
        return Port(to.names.new(), tuple(variable.aval.shape), _type(variable.aval))

    ports = [port(each) for each in body.jaxpr.invars[known:]]
    given = [*inputs[:known], *(_Value(each.name, each.shape) for each in ports)]
    if not rows:  # ONNX has no loop over nothing
        rows = [np.zeros(length, np.float32)]
        ports.append(Port(to.names.new(), ()))
    found = within.trace(body, given)
    outs = [port(each) for each in body.jaxpr.outvars]
    for each, value in zip(outs, found, strict=True):
        within.operations.append(Operation("Identity", (within.name(value),), (each.name,)))
    results = [_Value(to.names.new(), tuple(each.aval.shape)) for each in equation.outvars]
    to.operations.append(
        Operation(
            "Scan",
            tuple(to.name(each) for each in (*inputs[known : known + carried], *rows)),
            tuple(each.name for each in results),
            {"carried": carried, "length": int(length)},
            Program(tuple(ports), tuple(outs), tuple(within.operations), {}),
        )
    )
    if parameters["reverse"]:
        return [*results[:carried], *(_backwards(to, each) for each in results[carried:])]
    return list(results)


_LOWERED: dict[str, Callable[..., Any]] = {
    **{
        name: _same(kind)
        for name, kind in {
            "add": "Add",
            "add_any": "Add",
            "sub": "Sub",
            "mul": "Mul",
            "div": "Div",
            "neg": "Neg",
            "max": "Max",
            "min": "Min",
            "pow": "Pow",
            "abs": "Abs",
            "sign": "Sign",
            "floor": "Floor",
            "ceil": "Ceil",
            "exp": "Exp",
            "log": "Log",
            "sqrt": "Sqrt",
            "tanh": "Tanh",
            "sin": "Sin",
            "cos": "Cos",
            "erf": "Erf",
            "logistic": "Sigmoid",
            "eq": "Equal",
            "lt": "Less",
            "le": "LessOrEqual",
            "lt_to": "Less",
            "le_to": "LessOrEqual",
            "gt": "Greater",
            "ge": "GreaterOrEqual",
            "and": "And",
            "or": "Or",
            "not": "Not",
        }.items()
    },
    **{name: _unchanged for name in ("copy", "copy_p", "stop_gradient", "optimization_barrier")},
    **{
        name: _reduced(kind)
        for name, kind in {
            "reduce_sum": "ReduceSum",
            "reduce_max": "ReduceMax",
            "reduce_min": "ReduceMin",
            "reduce_prod": "ReduceProd",
        }.items()
    },
    "reduce_and": _all_or_any("ReduceMin"),
    "reduce_or": _all_or_any("ReduceMax"),
    **dict.fromkeys(("jit", "custom_jvp_call", "custom_vjp_call"), _called),
    "argmax": _extreme("ArgMax"),
    "argmin": _extreme("ArgMin"),
    "ne": _not_equal,
    "is_finite": _is_finite,
    "square": _square,
    "integer_pow": _power,
    "rsqrt": _reciprocal_root,
    "log1p": _log_one_plus,
    "expm1": _exp_minus_one,
    "erfc": _complementary_error,
    "rem": _remainder,
    "clamp": _clamp,
    "select_n": _select,
    "convert_element_type": _convert,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "stack": _stack,
    "slice": _slices,
    "split": _split,
    "rev": _reverse,
    "pad": _pad,
    "top_k": _top,
    "sort": _sort,
    "cumsum": _cumulative,
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "scatter": _scatter,
    "scatter-add": _scatter_add,
    "scan": _scan,
}


def _tidy(program: Program) -> Program:
    """Drop what nothing uses."""
    used = {port.name for port in program.outputs}
    kept: list[Operation] = []
    for operation in reversed(program.operations):
        if not used.intersection(operation.outputs):
            continue
        if operation.body is not None:
            body = _tidy(operation.body)
            operation = dataclasses.replace(operation, body=body)
            used |= {name for each in body.operations for name in _names_in(each)}
        used |= set(operation.inputs)
        kept.append(operation)
    constants = {name: value for name, value in program.constants.items() if name in used}
    return dataclasses.replace(program, operations=tuple(kept[::-1]), constants=constants)


def _names_in(operation: Operation) -> set[str]:
    names = set(operation.inputs)
    if operation.body is not None:
        names = names.union(*(_names_in(each) for each in operation.body.operations))
    return names
