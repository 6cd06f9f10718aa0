"""What follows a run: a tracker, which is told its configuration, numbers, pictures and end.

A tracker of your own needs no change here. Name it ``package.module:Class``, or announce it as an
entry point of the group ``nfrl.trackers``.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True)
class RunDescription:
    """What a tracker is told of a run before its first numbers."""

    name: str
    """The run's name: ``TASK/AGENT-PRESET/seed-N``."""
    group: str
    """What all seeds of it share: ``TASK/AGENT-PRESET``."""
    config: Mapping[str, Any]
    """Everything that decides the run's outcome: plain JSON, in tables."""
    folder: Path | None
    """Where the run's files are kept, and a tracker may keep its own; None if they are dropped."""


@dataclasses.dataclass(frozen=True)
class Bookmark:
    """Where a tracker's own run stands. It is kept in RUN/trackers.json."""

    id: str
    """The tracker's name for its run."""
    step: int = 0
    """The last step that it holds; 0 for none. Later ones are sent to it."""
    where: str = ""
    """Where the tracker keeps the run, if it must be told when the run goes on. No passwords."""


class Tracker(Protocol):
    """A class that is built with no arguments, once for each run; nothing inherits from it.

    Its methods are called in one thread of its own, so they may be slow. They may raise: the run
    goes on without the tracker, and one line says why. An attribute ``requires``, a tuple of names
    of packages, says what must be installed.
    """

    def start(self, run: RunDescription, resume: Bookmark | None) -> Bookmark:
        """Begin a run of the tracker's, or go on with one.

        Args:
            run: What is tracked.
            resume: Where the tracker's run stood; None if there was none.

        Returns:
            Where it stands. A tracker that knows what it holds may correct ``resume.step``.
        """
        ...

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take a line of metrics; steps grow. What was taken should survive a kill."""
        ...

    def image(self, name: str, path: Path, step: int) -> None:
        """Take a picture: a PNG file, which may be gone afterwards."""
        ...

    def video(self, name: str, path: Path, step: int) -> None:
        """Take a video: an MP4 or GIF file."""
        ...

    def finish(self, status: str, summary: Mapping[str, float]) -> None:
        """Take the end of the run, and send whatever waits.

        Args:
            status: ``finished``, ``diverged``, or ``interrupted``: then the run may go on later.
            summary: The numbers of the run's record; empty if it has none.
        """
        ...
