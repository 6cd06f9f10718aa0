"""Operations that stand for several: what a runtime carries out in one go instead of in eleven.

A small network for one observation is bound by the number of operations and not by their size.
Each rule here looks for the exact operations that JAX makes of a layer, whose results nothing else
uses, and puts one operation in their place.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from nfrl.exporting.program import Operation, Program

Constants = dict[str, np.ndarray]
Rule = Callable[["_Uses", Operation, Constants], "_Found | None"]


@dataclasses.dataclass(frozen=True)
class _Found:
    """Operations, and the one that does the same; it stands where the last of them stood."""

    operations: tuple[Operation, ...]
    instead: Operation


def fuse(program: Program) -> Program:
    """Return a program that computes the same with fewer operations."""
    return _fuse(program, program.constants)


def _fuse(program: Program, constants: Constants) -> Program:
    operations = _once(
        [
            dataclasses.replace(each, body=_fuse(each.body, constants)) if each.body else each
            for each in program.operations
        ],
        {port.name for port in program.outputs},
    )
    for rule in (_leaky_relu, _layer_norm):
        operations = _apply(rule, operations, constants)
    return dataclasses.replace(program, operations=tuple(operations))


def _once(operations: list[Operation], outputs: set[str]) -> list[Operation]:
    """Compute what is computed twice once."""
    kept: list[Operation] = []
    renamed: dict[str, str] = {}
    seen: dict[object, Operation] = {}
    for each in operations:
        if each.body is not None:
            if renamed:
                each = _rename(each, renamed)
            kept.append(each)
            continue
        each = _rename(each, renamed)
        key = (each.kind, each.inputs, repr(sorted(each.attributes.items())))
        first = seen.setdefault(key, each)
        if first is each or outputs.intersection(each.outputs):
            kept.append(each)
        else:
            renamed.update(zip(each.outputs, first.outputs, strict=True))
    return kept


def _rename(operation: Operation, renamed: dict[str, str]) -> Operation:
    inputs = tuple(renamed.get(name, name) for name in operation.inputs)
    body = operation.body and dataclasses.replace(
        operation.body,
        operations=tuple(_rename(each, renamed) for each in operation.body.operations),
    )
    return dataclasses.replace(operation, inputs=inputs, body=body)


class _Uses:
    """Which operations use a value."""

    def __init__(self, operations: list[Operation]):
        self._users: dict[str, list[Operation]] = {}
        for each in operations:
            names = set(each.inputs) | (_within(each) if each.body else set())
            for name in names:
                self._users.setdefault(name, []).append(each)

    def all(self, name: str) -> list[Operation]:
        """Return all that use it."""
        return self._users.get(name, [])

    def only(self, operation: Operation, kind: str, *, through: str = "") -> Operation | None:
        """Return what uses an operation's result, if it is one operation of a kind.

        Args:
            operation: The operation.
            kind: The kind.
            through: A kind that may stand between, which changes the shape alone.
        """
        users = self.all(operation.outputs[0])
        if len(users) != 1:
            return None
        if users[0].kind == through:
            return self.only(users[0], kind)
        return users[0] if users[0].kind == kind else None

    def path(self, begin: Operation, end: Operation) -> tuple[Operation, ...]:
        """Return what stands between two operations, ends included, each the other's only user."""
        found = [begin]
        while found[-1] is not end:
            found.append(self.all(found[-1].outputs[0])[0])
        return tuple(found)


def _within(operation: Operation) -> set[str]:
    assert operation.body is not None
    names: set[str] = set()
    for each in operation.body.operations:
        names |= set(each.inputs) | (_within(each) if each.body else set())
    return names


def _apply(rule: Rule, operations: list[Operation], constants: Constants) -> list[Operation]:
    uses = _Uses(operations)
    dropped: set[int] = set()
    instead: dict[int, Operation] = {}
    for each in operations:
        found = rule(uses, each, constants)
        if found is None or any(id(one) in dropped for one in found.operations):
            continue
        dropped |= {id(one) for one in found.operations}
        instead[id(found.operations[-1])] = found.instead
    return [
        instead.get(id(each), each)
        for each in operations
        if id(each) not in dropped or id(each) in instead
    ]


def _leaky_relu(uses: _Uses, operation: Operation, constants: Constants) -> _Found | None:
    """``where(x >= 0, x, slope x)``."""
    if operation.kind != "GreaterOrEqual":
        return None
    x, zero = operation.inputs
    chosen = uses.only(operation, "Where")
    if chosen is None or not _is(constants, zero, 0.0) or chosen.inputs[1] != x:
        return None
    scaled = [each for each in uses.all(x) if each.outputs[0] == chosen.inputs[2]]
    if not scaled or scaled[0].kind != "Mul" or len(uses.all(scaled[0].outputs[0])) != 1:
        return None
    slopes = [name for name in scaled[0].inputs if name != x]
    if len(slopes) != 1 or slopes[0] not in constants or constants[slopes[0]].size != 1:
        return None
    alpha = float(constants[slopes[0]].reshape(()))
    fused = Operation("LeakyRelu", (x,), chosen.outputs, {"alpha": alpha})
    return _Found((operation, scaled[0], chosen), fused)


def _layer_norm(uses: _Uses, operation: Operation, constants: Constants) -> _Found | None:
    """``(x - mean) rsqrt(mean((x - mean)^2) + epsilon) scale + shift``, over the last axis."""
    if operation.kind != "ReduceSum":
        return None
    (x,) = operation.inputs
    mean = uses.only(operation, "Div")
    centred = mean and uses.only(mean, "Sub", through="Reshape")
    if not mean or not centred or centred.inputs[0] != x:
        return None
    users = uses.all(centred.outputs[0])
    squares = [each for each in users if each.kind == "Mul" and len(set(each.inputs)) == 1]
    if len(users) != 2 or len(squares) != 1:
        return None
    total = uses.only(squares[0], "ReduceSum")
    variance = total and uses.only(total, "Div")
    more = variance and uses.only(variance, "Add")
    root = more and uses.only(more, "Sqrt")
    inverse = root and uses.only(root, "Reciprocal")
    normal = inverse and uses.only(inverse, "Mul", through="Reshape")
    scaled = normal and uses.only(normal, "Mul")
    shifted = scaled and uses.only(scaled, "Add")
    if not total or not variance or not more or not normal or not scaled or not shifted:
        return None
    scale, shift = _constant(scaled, constants), _constant(shifted, constants)
    epsilon, count = _constant(more, constants), constants.get(mean.inputs[1])
    if not scale or not shift or not epsilon or normal not in users or count is None:
        return None
    width = constants[scale].size
    one_axis = constants[scale].shape == constants[shift].shape == (width,)
    if not one_axis or operation.attributes != total.attributes or float(count) != width:
        return None
    attributes = {"epsilon": float(constants[epsilon])}
    fused = Operation("LayerNormalization", (x, scale, shift), shifted.outputs, attributes)
    steps = (*uses.path(operation, centred), *uses.path(squares[0], shifted))
    return _Found(steps, fused)


def _constant(operation: Operation, constants: Constants) -> str | None:
    """Return the constant among an operation's inputs, if there is one."""
    found = [name for name in operation.inputs if name in constants]
    return found[0] if len(found) == 1 else None


def _is(constants: Constants, name: str, value: float) -> bool:
    return name in constants and constants[name].size == 1 and float(constants[name]) == value
