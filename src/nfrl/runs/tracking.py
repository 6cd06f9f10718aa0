"""What stands between a run and its trackers, so that none of them stops or slows it.

A run is a folder, and trackers follow the folder: each has a thread that reads what metrics.jsonl
gained. Training knows nothing of them, and what a tracker missed stands in the file until it is
resumed. Where each tracker stands is kept in RUN/trackers.json.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nfrl import registry
from nfrl.errors import UserError
from nfrl.files import temporary_folder, write_json
from nfrl.interfaces.tracker import Bookmark, RunDescription, Tracker
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record

PERIOD = 1.0
"""Seconds between two looks at metrics.jsonl."""
PATIENCE = 30.0
"""Seconds that trackers have, all together, to send what is left when a run ends."""

Trackers = Sequence[str | Tracker]
"""Names that :func:`nfrl.registry.find` knows, or trackers that are built already."""
Draw = Callable[[RunFolder, Record, Path], Mapping[str, Path]]
"""Of (folder, record, place): draws a run's figures into a place, and returns them by name."""

# Python 3.11 may fail where two threads parse at a time (cpython issue 106905), as wandb's and
# mlflow's imports do.
_importing = threading.Lock()
_METHODS = ("start", "metrics", "image", "video", "finish")
_LONGEST_CAUSE = 200


def check_trackers(names: Trackers) -> None:
    """Refuse trackers that cannot be; no tracker's own package is imported.

    Raises:
        UserError: There is none of that name, or what has it is no tracker.
        ModuleNotFoundError: A package that it needs is not installed.
    """
    _makers(names)


def description_of(folder: RunFolder) -> RunDescription | None:
    """Describe a run by its folder; None while it is not begun."""
    if not folder.is_begun:
        return None
    *group, seed = folder.path.absolute().parts[1:][-3:]
    return RunDescription(
        name="/".join((*group, seed)),
        group="/".join(group),
        config=folder.read_config(),
        folder=folder.path,
    )


def numbers_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of metrics, or of a record: of a list ``name/0``, ``name/1``."""
    numbers: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, int | float):
            numbers[name] = float(value)
        elif isinstance(value, list) and all(isinstance(each, int | float) for each in value):
            numbers |= {f"{name}/{i}": float(each) for i, each in enumerate(value)}
    return numbers


class Tracking:
    """Follows runs for as long as it is entered.

    It raises nothing once it is entered. On the way out it waits for the trackers, at most
    ``PATIENCE`` seconds.

    Args:
        folders: The runs' folders, also of such as are not begun yet.
        trackers: What follows each of them; None for those that followed it before.
        describe: Describes a run; None while it is not begun.
        record: A run's record; None while it has none.
        draw: Draws the figures of a run that has its record.
        cure: How what is missing can be sent later, for warnings; {} stands for the folder.

    Raises:
        UserError, ModuleNotFoundError: See :func:`check_trackers`.
    """

    def __init__(
        self,
        folders: Sequence[RunFolder],
        trackers: Trackers | None,
        *,
        describe: Callable[[RunFolder], RunDescription | None] = description_of,
        record: Callable[[RunFolder], Record | None] = RunFolder.read_result,
        draw: Draw = lambda folder, record, place: {},
        cure: str = "`nfrl resume {}` sends what is missing",
    ):
        self._record, self._draw = record, draw
        self._warnings = _Warnings(cure)
        self._followers: list[_Follower] = []
        for folder in folders:
            ledger = _Ledger(folder.path / "trackers.json")
            makers = self._remembered(folder, ledger) if trackers is None else _makers(trackers)
            self._followers += [
                _Follower(name, make, folder, describe, ledger, self._warnings)
                for name, make in makers.items()
                if not ledger.is_done(name)
            ]

    def __enter__(self) -> "Tracking":
        for follower in self._followers:
            follower.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._followers:
            return
        with contextlib.ExitStack() as stack:
            at: Path | None = None
            try:
                at = stack.enter_context(temporary_folder("nfrl-figures-"))
            except UserError as error:  # The run is done; its figures are not worth it.
                self._warnings.say("figures", _cause(error), self._followers[0].folder)
            endings: dict[Path, _Ending] = {}
            for number, follower in enumerate(self._followers):
                path = follower.folder.path
                if path not in endings:
                    endings[path] = self._ending(follower.folder, at and at / str(number))
                follower.close(endings[path])
            until = time.monotonic() + PATIENCE
            for follower in self._followers:
                follower.wait(until)

    def _remembered(self, folder: RunFolder, ledger: "_Ledger") -> dict[str, Callable[[], Tracker]]:
        """Return what followed a run before; what is no longer there is warned of."""
        found: dict[str, Callable[[], Tracker]] = {}
        for name in ledger.names():
            try:
                found |= _makers([name])
            except (UserError, ModuleNotFoundError) as error:
                self._warnings.say(name, str(error), folder)
        return found

    def _ending(self, folder: RunFolder, place: Path | None) -> "_Ending":
        record = None
        with contextlib.suppress(UserError):  # It is said elsewhere that the record is damaged.
            record = self._record(folder)
        if record is None:
            return _Ending("interrupted")
        figures: Mapping[str, Path] = {}
        if record.status == "finished" and place is not None:
            try:
                figures = self._draw(folder, record, place)
            except Exception as error:  # The run is done; a figure must not undo that.
                self._warnings.say("figures", _cause(error), folder)
        summary = numbers_of(record.to_json())
        for name in ("schema", "seed"):
            del summary[name]
        return _Ending(record.status, summary, figures)


@dataclasses.dataclass(frozen=True)
class _Ending:
    """How a run ended: what a tracker is told last."""

    status: str
    summary: Mapping[str, float] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, Path] = dataclasses.field(default_factory=dict)


class _Follower:
    """One tracker of one run, in a thread of its own."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        folder: RunFolder,
        describe: Callable[[RunFolder], RunDescription | None],
        ledger: "_Ledger",
        warnings: "_Warnings",
    ):
        self.folder = folder
        self._name, self._make, self._describe = name, make, describe
        self._ledger, self._warnings = ledger, warnings
        self._lines = _Lines(folder.metrics_file)
        self._ending: _Ending | None = None
        self._closing = threading.Event()
        self._given_up = threading.Event()
        # A daemon: a tracker that never answers must not keep the program from its end.
        self._thread = threading.Thread(
            target=self._follow, name=f"nfrl-tracker-{name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self, ending: _Ending) -> None:
        """Say that the run has ended; what is left to send is sent."""
        self._ending = ending
        self._closing.set()

    def wait(self, until: float) -> None:
        """Wait until everything is sent, but no longer than a time."""
        self._thread.join(max(until - time.monotonic(), 0.0))
        if self._thread.is_alive() and not self._given_up.is_set():
            self._given_up.set()
            cause = f"it did not take everything within {PATIENCE:.0f} s of the end"
            self._warnings.say(self._name, cause, self.folder)

    def _follow(self) -> None:
        tracker: Tracker | None = None
        try:
            run = self._begun()
            if run is None:
                return
            earlier = self._ledger.bookmark(self._name)
            tracker = self._make()
            bookmark = tracker.start(run, earlier)
            self._ledger.keep(self._name, bookmark)
            while True:
                # Asked before the last look, so that nothing is written between the two.
                closing = self._closing.wait(PERIOD)
                bookmark = self._send(tracker, bookmark)
                if closing:
                    break
            self._finish(tracker, bookmark)
        except BaseException as error:  # A tracker may also call sys.exit.
            if self._given_up.is_set():
                return  # That was said.
            self._given_up.set()
            self._warnings.say(self._name, _cause(error), self.folder)
            if tracker is not None:
                with contextlib.suppress(BaseException):
                    tracker.finish("interrupted", {})

    def _begun(self) -> RunDescription | None:
        """Wait until the run is begun; None if it never was."""
        while True:
            closing = self._closing.is_set()
            run = self._describe(self.folder)
            if run is not None:
                self._ledger.add(self._name)
                return run
            if closing:
                return None
            self._closing.wait(PERIOD)

    def _send(self, tracker: Tracker, bookmark: Bookmark) -> Bookmark:
        """Send what metrics.jsonl gained; return where the tracker stands then."""
        step = bookmark.step
        for line in self._lines.new():
            # Of a resumed run, what was trained again was sent before.
            if line["step"] > step and not self._given_up.is_set():
                numbers = numbers_of(line)
                del numbers["step"]
                tracker.metrics(line["step"], numbers)
                step = line["step"]
        if step > bookmark.step and not self._given_up.is_set():
            bookmark = dataclasses.replace(bookmark, step=step)
            self._ledger.keep(self._name, bookmark)
        return bookmark

    def _finish(self, tracker: Tracker, bookmark: Bookmark) -> None:
        assert self._ending is not None, "it is set before the run is closing"
        ending = self._ending
        if ending.status == "finished":
            for name, path in ending.figures.items():
                tracker.image(name, path, bookmark.step)
            for path in (self.folder.path / "video.mp4", self.folder.path / "video.gif"):
                if path.is_file():
                    tracker.video("video", path, bookmark.step)
        tracker.finish(ending.status, ending.summary)
        if ending.status == "finished" and not self._given_up.is_set():
            self._ledger.end(self._name)


class _Lines:
    """The lines of metrics.jsonl, as they are added."""

    def __init__(self, path: Path):
        self._path = path
        self._file, self._offset = 0, 0

    def new(self) -> list[dict[str, Any]]:
        """Return the whole lines since the last call; all of them if the file was replaced."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._offset:
                    self._file, self._offset = status.st_ino, 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        # A line that is being written has no end yet.
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.strip()]


class _Ledger:
    """RUN/trackers.json: which trackers follow a run, and where each of them stands."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return list(self._read())

    def is_done(self, name: str) -> bool:
        """Whether a tracker was told the run's end."""
        return bool(self._read().get(name, {}).get("done"))

    def bookmark(self, name: str) -> Bookmark | None:
        """Return where a tracker stands; None if its run never began."""
        kept = self._read().get(name, {})
        fields = {field.name for field in dataclasses.fields(Bookmark)}
        values = {key: kept[key] for key in kept if key in fields}
        return Bookmark(**values) if values.get("id") else None

    def add(self, name: str) -> None:
        self._write(name, {})

    def keep(self, name: str, bookmark: Bookmark) -> None:
        self._write(name, dataclasses.asdict(bookmark))

    def end(self, name: str) -> None:
        self._write(name, {"done": True})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        with self._lock:
            found = self._read()
            changed = {**found, name: {**found.get(name, {}), **values}}
            if changed != found:
                write_json(self._path, changed)


class _Warnings:
    """What is said of trackers that fail: one line for each, however many runs it follows."""

    def __init__(self, cure: str):
        self._cure = cure
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def say(self, name: str, cause: str, folder: RunFolder) -> None:
        with self._lock:
            if name in self._said:
                return
            self._said.add(name)
        cure = self._cure.format(folder.path)
        text = f"tracking: {name} stopped: {cause}; the run goes on without it"
        print(f"{text}; {cure}" if cure else text, file=sys.stderr, flush=True)


def _makers(trackers: Trackers) -> dict[str, Callable[[], Tracker]]:
    """Return what makes each tracker, by its name, once."""
    return dict(map(_maker, trackers))


def _maker(tracker: str | Tracker) -> tuple[str, Callable[[], Tracker]]:
    if isinstance(tracker, str):
        name, kind = tracker, registry.find("trackers", tracker)
        build = kind
    else:
        kind = type(tracker)
        name, build = registry.name_of("trackers", kind), lambda: tracker
    lacks = [method for method in _METHODS if not callable(getattr(kind, method, None))]
    if lacks or not callable(build):
        raise UserError(f"{name} is no tracker: it has no method {lacks[0] if lacks else name}")
    registry.check_installed(kind, f"tracking with {name}", "track")

    def make() -> Tracker:
        with _importing:
            for package in getattr(kind, "requires", ()):
                importlib.import_module(package)
        return build()

    return name, make


def _cause(error: BaseException) -> str:
    """Say in a few words why a tracker failed, and no password."""
    text = next(iter(str(error).strip().splitlines()), "")
    text = re.sub(r"://[^/@\s]+@", "://", text)
    for secret in _secrets():
        text = text.replace(secret, "...")
    text = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    return text.strip(": ")[:_LONGEST_CAUSE]


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if re.search("KEY|TOKEN|PASSWORD|SECRET", name) and len(value) >= 8:
            yield value
