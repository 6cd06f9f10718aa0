"""What a launcher is: it hands out commands, here or on a cluster, and says how each ended.

A launcher of your own needs no change here. Name it ``package.module:Class``, or announce it as an
entry point of the group ``nfrl.launchers``.
"""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Protocol


@dataclasses.dataclass(frozen=True)
class Command:
    """A program with its words, and where what it prints goes."""

    words: tuple[str, ...]
    """The program and what follows it."""
    log: Path
    """The file it prints to."""


class Running(Protocol):
    """A command that was handed out: it waits, runs, or has ended."""

    def poll(self) -> int | None:
        """Return its exit status, negative for the signal that killed it; None until it ends."""
        ...

    def interrupt(self) -> None:
        """Stop it as by Ctrl-C, without waiting for it. If it waits, it never begins."""
        ...


Start = Callable[[Sequence[Command]], Sequence[Running]]
"""Hands out commands, together; returns each as it runs, in their order."""


class Launcher(Protocol):
    """A frozen dataclass whose fields are its options; nothing inherits from it.

    ``nfrl suite run --launcher NAME`` and ``nfrl tune --launcher NAME`` take each field as a flag,
    with the text under the field as its help. Every field needs a default. An attribute
    ``requires``, a tuple of names of packages, says what must be installed.
    """

    at_once: ClassVar[int]
    """How many commands are handed out together, at most: 1 unless the cluster likes arrays."""

    def lanes(self) -> int | None:
        """Return how many commands are handed out unless someone says; None for all of them."""
        ...

    def cores(self, lanes: int) -> int:
        """Return how many cores a command has if so many are handed out."""
        ...

    def open(self, lanes: int) -> AbstractContextManager[Start]:
        """Hold the machines for as long as it is entered; at most ``lanes`` commands at a time.

        Raises:
            UserError: There are none.
        """
        ...
