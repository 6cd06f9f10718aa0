"""A suite: a text file whose every line is what follows ``nfrl train``; # begins a comment."""

import dataclasses
import importlib.resources
import os
import shlex
from pathlib import Path

from nfrl import registry
from nfrl.errors import UserError, unknown_name
from nfrl.reading import one_line, read_text

LARGEST = 16_000_000
"""Bytes of a suite's file."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One line of a suite."""

    words: tuple[str, ...]
    """What follows ``nfrl train``."""

    @property
    def title(self) -> str:
        """The line, as it would be typed."""
        return shlex.join(self.words)

    def gives(self, option: str) -> bool:
        """Whether the line has an option of its own: ``--runs there``, or ``--runs=there``."""
        return any(word == option or word.startswith(f"{option}=") for word in self.words)


def known_suites() -> list[str]:
    """Name the suites that installed packages announce, this one among them."""
    return sorted(_announced())


def find_suite(name: str) -> Path:
    """Return the file of a suite: a path, or a name of :func:`known_suites`.

    Raises:
        UserError: There is none, or two packages announce it.
    """
    if os.path.lexists(name):
        return Path(name)
    announced = _announced()
    if name not in announced:
        raise unknown_name("suite", name, announced)
    return announced[name]


def _announced() -> dict[str, Path]:
    """Return every NAME.txt of the packages that hold suites, by its NAME."""
    found: dict[str, Path] = {}
    for announced, package in registry.entries("suites"):
        for file in importlib.resources.files(package).iterdir():
            path = Path(str(file))
            if path.suffix != ".txt":
                continue
            if path.stem in found:
                raise UserError(f"nfrl.suites: {announced} announces {path.stem} a second time")
            found[path.stem] = path
    return found


def read_suite(path: Path) -> list[Job]:
    """Read a suite's jobs.

    Raises:
        UserError: A line cannot be split into words, has fewer than two, or stands there twice.
    """
    jobs: list[Job] = []
    for number, line in enumerate(read_text(path, LARGEST).split("\n"), 1):
        if not line.replace("\t", " ").rstrip("\r").isprintable():
            raise UserError(f"{path}:{number}: this is no text: {one_line(repr(line))}")
        try:
            words = tuple(shlex.split(line, comments=True))
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from error
        if not words:
            continue
        if len(words) < 2:
            raise UserError(
                f"{path}:{number}: a run is an agent and a task: {one_line(repr(line))}"
            )
        if Job(words) in jobs:
            raise UserError(f"{path}:{number}: stands there already: {one_line(repr(line))}")
        jobs.append(Job(words))
    if not jobs:
        raise UserError(f"{path}: no runs in it")
    return jobs
