"""Records: what was run, on what data, with what, and what came out, one JSON object each."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nfrl.errors import UserError

# Any of these makes a folder a run folder, whose metrics.jsonl must not be taken for records.
_RUN_FILES = ("result.json", "config.json", "metrics.jsonl")


@dataclasses.dataclass(frozen=True)
class Record:
    """The outcome of one run.

    Attributes:
        task: The task's name: ``cube-single-play-v0``.
        agent: The agent's name: ``nf-gcbc``.
        seed: The seed of the run.
        steps: Gradient steps.
        score: Success rate in [0, 1], the mean over goals; None for a run that diverged or was
            not evaluated.
        preset: The preset it started from: ``laptop``.
        variant: What was changed: ``no-layernorm``; empty for the plain algorithm.
        scores: Success rate of each goal.
        interval: 95% interval of ``score``, bootstrapped over episodes.
        episodes: Evaluation episodes per goal.
        dataset: ``name``, ``origin``, ``transitions`` and ``sha256`` of the data.
        parameters: Number of trained parameters.
        config: Every setting of the run.
        versions: Version by package.
        commit: Commit of the code.
        device: What it ran on, in words.
        train_seconds: Time spent training.
        steps_per_second: Gradient steps per second.
        sample_ms: Milliseconds to sample one action.
        curve: Step, seconds and score of each evaluation on the way, and the share of a
            maze's free cells seen by then.
        date: When it ended, in ISO 8601.
        status: ``finished``, or ``diverged``.
        extra: Whatever else the record says.
    """

    task: str
    agent: str
    seed: int
    steps: int
    score: float | None
    preset: str = ""
    variant: str = ""
    scores: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    episodes: int = 0
    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: str = ""
    device: str = ""
    train_seconds: float | None = None
    steps_per_second: float | None = None
    sample_ms: float | None = None
    curve: tuple[Mapping[str, float], ...] = ()
    date: str = ""
    status: str = "finished"
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """``scored``, ``diverged`` or ``not evaluated``."""
        if self.score is not None:
            return "scored"
        return "diverged" if self.status == "diverged" else "not evaluated"

    @property
    def transitions(self) -> int | None:
        """Number of transitions in the data."""
        return self.dataset.get("transitions")

    @property
    def identity(self) -> tuple[object, ...]:
        """What two copies of the same record have in common."""
        return (
            *(self.task, self.agent, self.preset, self.variant),
            *(self.seed, self.steps, self.date),
        )


def load_records(paths: Iterable[Path]) -> list[Record]:
    """Read every record under ``paths``, without duplicates, in the order found.

    Args:
        paths: Run folders, ``.jsonl`` files, or folders that hold either at any depth. Files of
            other kinds are passed over in such folders, and refused where they are named.

    Raises:
        UserError: A path holds no records, or one of them is malformed (file, line and reason).
    """
    sources = find_sources(paths)
    records = [read_result(run) for run in sources.runs]
    for file in sources.files:
        records += read_jsonl(file)
    return list({record.identity: record for record in reversed(records)}.values())[::-1]


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where records were found: run folders, ``.jsonl`` files; and runs that have no result yet."""

    runs: tuple[Path, ...]
    files: tuple[Path, ...]
    unfinished: tuple[Path, ...]


def find_sources(paths: Iterable[Path]) -> Sources:
    """Find the run folders and files of records under ``paths``.

    Raises:
        UserError: One of the paths leads to neither.
    """
    found: dict[str, dict[Path, Path]] = {"runs": {}, "files": {}, "unfinished": {}}
    for path in map(Path, paths):
        places = list(_walk(path))
        if not places:
            raise UserError(f"not a run folder nor records: {path}")
        if all(kind == "unfinished" for kind, _ in places):
            raise UserError(f"no result yet in {path}: the run is not finished and evaluated")
        for kind, place in places:
            found[kind].setdefault(place.resolve(), place)
    return Sources(**{kind: tuple(places.values()) for kind, places in found.items()})


def _walk(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file() and path.name == "result.json":
        yield "runs", path.parent
    elif path.is_file() and path.suffix == ".jsonl":
        yield "files", path
    elif path.is_dir():
        for folder, inner, files in os.walk(path):
            place = Path(folder)
            if any(name in files for name in _RUN_FILES):
                inner.clear()  # what a run folder holds besides is its own affair
                if "result.json" not in files:
                    yield "unfinished", place
                elif place == path or not _is_foreign(place / "result.json"):
                    yield "runs", place
                continue
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(files):
                if name.endswith(".jsonl") and not _is_foreign(place / name):
                    yield "files", place / name


def _is_foreign(path: Path) -> bool:
    """Whether a file is of another kind: its first object does not say how a task was scored.

    An expert's result is of no task, and what else is measured of agents has no score. What is no
    JSON object at all is left to be refused where it is read.
    """
    text = _read_text(path)
    if path.suffix == ".jsonl":
        text = next((line for line in text.split("\n") if line.strip()), "")
    try:
        first = json.loads(text)
    except ValueError:
        return False
    return isinstance(first, dict) and not {"task", "score"} <= first.keys()


def read_result(run: Path) -> Record:
    """Read the record of one run folder."""
    path = run / "result.json"
    return parse_record(_read_text(path), str(path))


def read_jsonl(path: Path) -> list[Record]:
    """Read a file with one record a line; blank lines are passed over."""
    lines = enumerate(_read_text(path).split("\n"), start=1)
    return [parse_record(line, f"{path}:{number}") for number, line in lines if line.strip()]


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record to a ``.jsonl`` file, as one line that is there entirely or not at all.

    A record that the file holds already is not added again.
    Several processes may append to one file at the same time, and a line that an earlier kill
    or a full disk cut short stays a line of its own.

    Raises:
        UserError: ``load_records`` would refuse the record.
    """
    try:
        line = json.dumps(record, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: the record is not plain JSON: {error}") from None
    parse_record(line, f"{path}: the new record")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and line in path.read_text().splitlines(keepends=True):
        return
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        # Two writers may both add the newline: a blank line, which readers pass over.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = "\n" + line
        data = line.encode()
        # One write: with O_APPEND, what others append lands before or after it, never inside.
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: the disk took only a part of the record")
    finally:
        os.close(descriptor)


def parse_record(text: str, where: str) -> Record:
    """Make a record of its JSON text.

    Args:
        text: One JSON object.
        where: The file (and line) it stands in, for the error message.

    Raises:
        UserError: It is no JSON object, lacks a field, or a field has the wrong type.
    """
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UserError(f"{where}: not a record but a {type(fields).__name__}")
    values: dict[str, Any] = {}
    for name, check in _FIELDS.items():
        if name not in fields:
            if name in _REQUIRED:
                raise UserError(f"{where}: the record lacks {name!r}")
            continue
        if fields[name] is None and name in _OPTIONAL:
            continue
        try:
            values[name] = check(fields[name])
        except ValueError as error:
            raise UserError(f"{where}: {name!r} should be {error}, not {fields[name]!r}") from None
    values.setdefault("score", None)
    if values["score"] is not None and values.get("status") == "diverged":
        raise UserError(f"{where}: the record has a score, and its status is 'diverged'")
    values["extra"] = {name: fields[name] for name in fields if name not in _FIELDS}
    return Record(**values)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("an integer")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a finite number")
    return float(value)


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("a list of numbers")
    return tuple(_number(entry) for entry in value)


def _pair(value: object) -> tuple[float, ...]:
    numbers = _numbers(value)
    if len(numbers) != 2:
        raise ValueError("two numbers")
    return numbers


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")
    return value


def _curve(value: object) -> tuple[Mapping[str, float], ...]:
    if not isinstance(value, list):
        raise ValueError("a list of points")
    points = [_mapping(point) for point in value]
    keys = ["step", "seconds", "score"]
    if points and "coverage" in points[0]:
        keys.append("coverage")
    return tuple({key: _number(point.get(key)) for key in keys} for point in points)


def _dataset(value: object) -> Mapping[str, Any]:
    dataset = _mapping(value)
    if dataset.get("transitions") is not None:
        _integer(dataset["transitions"])
    return dataset


def _config(value: object) -> Mapping[str, Any]:
    config = _mapping(value)
    for part in ("agent", "training"):
        if config.get(part) is not None and not isinstance(config[part], dict):
            raise ValueError(f"an object whose {part!r} is an object")
    return config


_FIELDS = {
    **dict.fromkeys(("task", "agent", "preset", "variant", "commit", "device"), _text),
    **dict.fromkeys(("date", "status"), _text),
    **dict.fromkeys(("seed", "steps", "episodes", "parameters"), _integer),
    **dict.fromkeys(("score", "train_seconds", "steps_per_second", "sample_ms"), _number),
    "scores": _numbers,
    "curve": _curve,
    "interval": _pair,
    "dataset": _dataset,
    "config": _config,
    "versions": _mapping,
}
_REQUIRED = frozenset({"task", "agent", "seed", "steps", "score"})
_OPTIONAL = frozenset(_FIELDS) - {"task", "agent", "seed", "steps"}
