"""``--launcher NAME`` and its options, of commands that hand out many runs."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro

from nfrl import registry
from nfrl.cli.words import early
from nfrl.errors import UserError

LauncherT = TypeVar("LauncherT")
LauncherName = Annotated[str, tyro.conf.arg(name="launcher")]

DEFAULT = "local"
_METHODS = ("lanes", "cores", "open")


def parse(kind: Any, words: Sequence[str], prog: str) -> Any:
    """Parse words into options, of which a field ``launcher`` is the launcher.

    Args:
        kind: A dataclass that is generic in the kind of its launcher, with ``launcher_name``, too.
        words: The words; those that are options of the launcher stand among the others.
        prog: The command, for its help.

    Raises:
        UserError: There is no such launcher, or an option is another launcher's.
        ModuleNotFoundError: A package that the launcher needs is not installed.
    """
    name = early(words, launcher={"default": DEFAULT}).launcher
    launcher = _find(name)
    _refuse_options_of_others(name, launcher, words)
    return tyro.cli(
        kind[launcher], args=list(words), prog=prog, config=(tyro.conf.OmitArgPrefixes,)
    )


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of runs at a time that is none."""
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be at least 1, not {jobs}")


def _find(name: str) -> type:
    found = registry.find("launchers", name)
    lacks = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if lacks or not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(
            f"{name} is no launcher: "
            + (f"it has no method {lacks[0]}" if lacks else "it is no dataclass")
        )
    registry.check_installed(found, f"launching with {name}", "cluster")
    return found


def _refuse_options_of_others(name: str, launcher: type, words: Sequence[str]) -> None:
    given = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    others: dict[str, list[str]] = {}
    for other, kind in registry.entries("launchers"):
        for flag in given & (_flags(kind) - _flags(launcher)):
            others.setdefault(flag, []).append(other)
    for flag, kinds in others.items():
        raise UserError(f"{flag} is for --launcher {' and '.join(kinds)}, not for {name}")


def _flags(launcher: type) -> set[str]:
    return {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(launcher)}
