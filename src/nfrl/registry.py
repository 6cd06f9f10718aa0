"""Where names are looked up: tasks, agents, flows, formats, recipes, presets, lists of runs.

A name is one that an installed package announces, this one included, by an entry point, or it is
``package.module:name``, which is imported. Nothing else knows what there is, so a user's package
stands exactly where ours does::

    [project.entry-points."nfrl.agents"]
    my-agent = "my_package.agents:MyAgentConfig"

What an entry point leads to is imported when it is asked for, and not before.
"""

import contextlib
import contextvars
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from nfrl.errors import UserError, package_of, unknown_name

KINDS = {
    "agents": "the configuration of an agent, a frozen dataclass with `build`",
    "flows": "the configuration of a flow, a frozen dataclass with `build`",
    "encoders": "the configuration of an image encoder, a frozen dataclass with `build`",
    "tasks": "tasks by name (a mapping), or a function that returns them",
    "recipes": "how data sets are made, by name (a mapping)",
    "formats": "a format of data: a module or object with `matches` and `read`",
    "presets": "a function of (preset, agent, task) that returns values, or None",
    "suites": "a package that holds lists of runs, NAME.txt",
    "zoo": "a package that holds trained policies, TASK/policy.json",
    "launchers": "where many runs go: a class as nfrl.launch.launcher tells",
    "trackers": "what follows a run: a class as nfrl.interfaces.tracker tells",
    "exporters": "how a policy is written for other programs, as nfrl.exporting tells",
}
"""What can be announced, as the entry point group ``nfrl.KIND``, and what its entries lead to."""

# The modules that references may be of; None for any.
_allowed: contextvars.ContextVar[tuple[str, ...] | None] = contextvars.ContextVar(
    "allowed", default=None
)


def find(kind: str, name: str) -> Any:
    """Return what a name of a kind leads to.

    Args:
        kind: One of ``KINDS``.
        name: A name that a package announces, or ``package.module:name``.

    Raises:
        UserError: There is none; the message gives the nearest. Or what stands there cannot be
            imported.
    """
    points = [point for point in _announced(kind) if point.name == name]
    if len(points) > 1:
        both = " and ".join(point.value for point in points)
        raise UserError(f"{name} is announced twice, as {both}; use one of these instead")
    if points:
        return _loaded(kind, points[0])
    if is_reference(name):
        return load_reference(name)
    raise unknown_name(kind.removesuffix("s"), name, names(kind))


def name_of(kind: str, value: Any) -> str:
    """Return the name of a class or function: as it is announced, else ``package.module:name``."""
    reference = f"{value.__module__}:{value.__qualname__}"
    announced = names(kind)
    name = next((p.name for p in _announced(kind) if p.value == reference), reference)
    return name if announced.count(name) == 1 else reference


def names(kind: str) -> list[str]:
    """Return the names of a kind, without importing what they lead to; this package's first."""
    return [point.name for point in _announced(kind)]


def entries(kind: str) -> Iterator[tuple[str, Any]]:
    """Import and return everything of a kind, with its name; this package's first.

    Raises:
        UserError: Something cannot be imported; the message says what announces it.
    """
    for point in _announced(kind):
        yield point.name, _loaded(kind, point)


def find_in_mappings(kind: str, name: str) -> Any:
    """Return the value of a name in the mappings that are announced for a kind.

    Args:
        kind: ``tasks`` or ``recipes``.
        name: A key of one of the mappings, or ``package.module:name``.

    Raises:
        UserError: There is none; the message gives the nearest.
    """
    merged = mappings(kind)
    if name in merged:
        return merged[name]
    if is_reference(name):
        return load_reference(name)
    raise unknown_name(kind.removesuffix("s"), name, merged)


@functools.cache
def mappings(kind: str) -> Mapping[str, Any]:
    """Return everything of a kind whose entries are mappings, as one mapping.

    Raises:
        UserError: Two packages announce the same name.
    """
    merged: dict[str, Any] = {}
    for announced, mapping in entries(kind):
        found = mapping() if callable(mapping) else mapping
        if twice := merged.keys() & found.keys():
            raise UserError(f"nfrl.{kind}: {announced} announces {min(twice)} a second time")
        merged |= found
    return merged


def check_installed(found: Any, purpose: str, extra: str) -> None:
    """Refuse what says, by an attribute ``requires``, that it needs a package that is missing.

    Args:
        found: What a name leads to.
        purpose: What it is for, in words: ``tracking with wandb``.
        extra: The extra that brings its packages.

    Raises:
        ModuleNotFoundError: The message says what to install.
    """
    for package in getattr(found, "requires", ()):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(
                f"{purpose} needs the package {package_of(package)}: pip install 'nfrl[{extra}]'",
                name=package,
            )


def is_reference(name: str) -> bool:
    """Whether a name is of the form ``package.module:name``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(map(str.isidentifier, (*module.split("."), *attribute.split("."))))


def load_reference(reference: str) -> Any:
    """Import what ``package.module:name`` names; modules in the working folder are found, too.

    Raises:
        UserError: The module cannot be imported, or has no such name.
    """
    if not is_reference(reference):
        raise UserError(f"{reference!r} is not of the form package.module:name")
    module, _, attribute = reference.partition(":")
    _check_allowed(reference, module)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        value: Any = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{reference}: cannot import {module}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise UserError(f"{reference}: {module} has no {attribute!r}")
        value = getattr(value, part)
    # What a module has imported from elsewhere is not its own.
    _check_allowed(reference, getattr(value, "__module__", module))
    return value


@contextlib.contextmanager
def references_only_to(modules: Sequence[str]) -> Iterator[None]:
    """Refuse, within, every reference to another module, before anything of it is imported.

    It is for what comes from elsewhere: a reference in it is code that someone else has chosen.
    Names that installed packages announce are found as ever.

    Args:
        modules: The modules and packages that references may be of. A package stands for its
            modules, too.
    """
    before = _allowed.set(tuple(modules))
    try:
        yield
    finally:
        _allowed.reset(before)


def _check_allowed(reference: str, module: str) -> None:
    allowed = _allowed.get()
    if allowed is None or any(f"{module}.".startswith(f"{each}.") for each in allowed):
        return
    raise UserError(
        f"{reference!r} is code, in {module}, and nothing of it was run; if you have read and "
        f"trust your copy of it, allow it: allow=[{module!r}]"
    )


def _loaded(kind: str, point: EntryPoint) -> Any:
    """Import what an entry point leads to."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else "a package"
        raise UserError(
            f"{package} announces {point.name} = {point.value} (nfrl.{kind}), which cannot be "
            f"imported: {error}"
        ) from error


@functools.cache
def _announced(kind: str) -> list[EntryPoint]:
    """Return a kind's entry points, ours first."""
    if kind not in KINDS:
        raise ValueError(f"nothing is registered as {kind!r}")
    points = entry_points(group=f"nfrl.{kind}")
    ours = [point for point in points if point.value.startswith("nfrl.")]
    others = [point for point in points if point not in ours]
    return list({(point.name, point.value): point for point in (*ours, *others)}.values())
