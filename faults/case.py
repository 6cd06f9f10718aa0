"""What a case is, and what came of it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        kind: What is met by the fault, for the table: ``training``, ``zarr``.
        name: Which fault it is; no other case of the part has the same kind and name.
        run: Gets an empty folder that is its own and its working folder. It raises
            AssertionError where a promise is broken, and returns what is worth telling: the error's
            line, for one.
        short: Whether ``make test`` runs it, too.
        seconds: A case that takes longer has failed.
        megabytes: So has one whose processes, each, took more memory than this.
    """

    kind: str
    name: str
    run: Callable[[Path], str | None]
    short: bool = False
    seconds: float = 120.0
    megabytes: float = 4000.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        part: The part of the suite.
        kind: As the case has it.
        name: As the case has it.
        passed: Whether every promise was kept.
        said: What the case returned; or why it failed.
        seconds: How long it took.
        megabytes: The most memory that one of its processes held at a time.
    """

    part: str
    kind: str
    name: str
    passed: bool
    said: str
    seconds: float
    megabytes: float
