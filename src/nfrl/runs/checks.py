"""What a field of a record must be: each check returns the value, or says what was expected.

A check raises ``ValueError`` with the words that complete "should be ...".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError("a string")
    return value


def integer(value: object) -> int:
    """An integer, which true and false are not."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("an integer")
    return value


def amount(value: object) -> int:
    """An integer of at least 0."""
    if integer(value) < 0:
        raise ValueError("an integer of at least 0")
    return integer(value)


def number(value: object) -> float:
    """A finite number."""
    return float(_finite(value))


def share(value: object) -> float:
    """A number in [0, 1]."""
    if not 0 <= number(value) <= 1:
        raise ValueError("a number from 0 to 1")
    return number(value)


def numbers(value: object) -> tuple[float, ...]:
    """A list of finite numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("a list of numbers")
    return tuple(number(entry) for entry in value)


def bounded(value: float | tuple[float, ...] | None) -> object:
    """A score in [0, 1], several of them, or none."""
    scores = () if value is None else value if isinstance(value, tuple) else (value,)
    if not all(0 <= score <= 1 for score in scores):
        raise ValueError("from 0 to 1 where the measure is no return")
    return value


def pair(value: object) -> tuple[float, ...]:
    """Two finite numbers."""
    if len(numbers(value)) != 2:
        raise ValueError("two numbers")
    return numbers(value)


def mapping(value: object) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, Mapping):
        raise ValueError("an object")
    return value


def curve(value: object) -> tuple[Mapping[str, float], ...]:
    """Points with a step, seconds and a score, all of them with the same numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("a list of points")
    points = [mapping(point) for point in value]
    names = dict.fromkeys(("step", "seconds", "score"))
    names |= dict.fromkeys(points[0] if points else ())
    for point in points:
        if point.keys() != names.keys():
            raise ValueError(f"a list of points, each with {', '.join(names)}")
    return tuple({name: _finite(point[name]) for name in point} for point in points)


def dataset(value: object) -> Mapping[str, Any]:
    """An object whose number of transitions is an integer, if it has one."""
    found = mapping(value)
    if found.get("transitions") is not None:
        try:
            integer(found["transitions"])
        except ValueError:
            raise ValueError("an object whose 'transitions' is an integer") from None
    return found


def config(value: object) -> Mapping[str, Any]:
    """An object in which the agent's values and the training's are objects."""
    found = mapping(value)
    for part in ("agent", "training"):
        if found.get(part) is not None and not isinstance(found[part], Mapping):
            raise ValueError(f"an object whose {part!r} is an object")
    return found


Check = Callable[[Any], Any]


def _finite(value: object) -> float:
    """Return a finite number as it stands: a step stays an integer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a finite number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        finite = False
    if not finite:
        raise ValueError("a finite number")
    return value
