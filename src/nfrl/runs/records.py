"""Records: what was run, on what data, with what, and what came out, one JSON object each."""

import dataclasses
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nfrl.errors import UserError, unknown_name
from nfrl.files import locked, not_written
from nfrl.reading import one_line, parse_json, read_text
from nfrl.runs import checks

SCHEMA = 1
"""The version of the fields below. A record that does not say is of version 0, from before."""

# Any of these makes a folder a run folder, whose metrics.jsonl must not be taken for records.
_RUN_FILES = ("result.json", "config.json", "metrics.jsonl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The outcome of one run, in the order in which its fields are written.

    Attributes:
        schema: The version of these fields.
        task: The task's name: ``cube-single-play-v0``.
        family: What the task gives to learn from; see :class:`nfrl.task.Task`.
        agent: The agent's name: ``nf-gcbc``.
        preset: The preset it started from: ``laptop``.
        variant: What was changed: ``no-layernorm``; empty for the plain algorithm.
        seed: The seed of the run.
        steps: Gradient steps.
        environment_steps: Steps of the environments that an explorer learned from.
        status: ``finished``, or ``diverged``.
        measure: What ``score`` is, in words: ``success rate``. A sum of rewards is a ``return``,
            or ends in that word (``normalized return``), and may be any number; what else there
            is lies in [0, 1]. Empty: what the task says.
        score: The mean over goals; None for a run that diverged or was not evaluated.
        scores: The score of each goal.
        interval: 95% interval of ``score``, bootstrapped over episodes.
        max_score: The furthest that episodes came at any time, of a task that is scored by how far
            they are at their end.
        success: Success rate of such a task.
        success_easy: Of an explorer, success on the goals near its start.
        success_hard: Of an explorer, success on the far goals.
        coverage: Share of a maze's free cells that an explorer saw.
        mode_entropy: Entropy of the ways that episodes went, in bits.
        mean_return: Mean sum of rewards of an episode, whatever the score is.
        returns: The same of each goal.
        return_interval: 95% interval of ``mean_return``.
        online_steps: Steps in the environment that followed the offline run.
        offline_score: The score before them.
        episodes: Evaluation episodes per goal.
        failures: Evaluation episodes that ended by an action or an observation that is not finite.
        environment: What it was scored in, as the task refers to it.
        dataset: ``name``, ``origin``, ``transitions`` and ``sha256`` of the data.
        parameters: Number of trained parameters.
        config: Every setting of the run.
        versions: Version by package.
        commit: Commit of the code.
        device: What it was trained on, in words.
        evaluated_on: What it was evaluated on, if that was another device.
        seeds_together: How many seeds trained at the same time.
        train_seconds: Wall-clock time of training, of all of them together.
        steps_per_second: Gradient steps per second, summed over them.
        environment_steps_per_second: The same of an explorer's environments.
        curve: Step, seconds and score of each evaluation on the way, and the share of a maze's
            free cells seen by then.
        sample_ms: Milliseconds to sample one action.
        date: When it ended, in ISO 8601.
        extra: Whatever else there is to say.
    """

    schema: int = SCHEMA
    task: str
    family: str = ""
    agent: str
    preset: str = ""
    variant: str = ""
    seed: int
    steps: int
    environment_steps: int | None = None
    status: str = "finished"
    measure: str = ""
    score: float | None
    scores: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    max_score: float | None = None
    success: float | None = None
    success_easy: float | None = None
    success_hard: float | None = None
    coverage: float | None = None
    mode_entropy: float | None = None
    mean_return: float | None = None
    returns: tuple[float, ...] = ()
    return_interval: tuple[float, float] | None = None
    online_steps: int = 0
    offline_score: float | None = None
    episodes: int = 0
    failures: int = 0
    environment: str | None = None
    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: str | None = None
    device: str | None = None
    evaluated_on: str | None = None
    seeds_together: int | None = None
    train_seconds: float | None = None
    steps_per_second: float | None = None
    environment_steps_per_second: float | None = None
    curve: tuple[Mapping[str, float], ...] = ()
    sample_ms: float | None = None
    date: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """``scored``, ``diverged`` or ``not evaluated``."""
        if self.score is not None:
            return "scored"
        return "diverged" if self.status == "diverged" else "not evaluated"

    @property
    def scored_by_return(self) -> bool:
        """Whether the score is a sum of rewards, and so may be any number."""
        return self.measure.split()[-1:] == ["return"]

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

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values, ready for JSON, in the order of its fields.

        What only some kinds of runs have is left out where it says nothing. A record of version 0
        stays one: it has no ``schema``, and its other fields stand among the rest.
        """
        written = set(_ALWAYS)
        if self.environment_steps is None:
            written.add("sample_ms")
        else:
            written |= {"success_easy", "success_hard", "coverage", "environment_steps_per_second"}
        if self.max_score is not None:
            written |= {"success", "mode_entropy"}
        if self.online_steps:
            written.add("offline_score")
        if self.mean_return is not None:
            written |= {"returns", "return_interval"}
        values = {
            name: _plain(value)
            for name, nothing in _DEFAULTS.items()
            if (value := getattr(self, name)) != nothing or name in written
        }
        if self.schema:
            return values
        del values["schema"]
        extra = values.pop("extra", {})
        return {**values, **extra}

    @classmethod
    def from_json(cls, value: object, where: str) -> "Record":
        """Make a record of a JSON object.

        Args:
            value: The object, of this schema or of an older one.
            where: The file (and line) it stands in, for the error message.

        Raises:
            UserError: It is no object, or of a newer schema; it lacks a field, has one that is not
                known, or one whose value is wrong. The message is one line.
        """
        if not isinstance(value, dict):
            raise UserError(f"{where}: not a record but a {type(value).__name__}")
        schema = value.get("schema", 0)
        if isinstance(schema, int) and schema > SCHEMA:
            raise UserError(
                f"{where}: made by a newer nfrl: schema {schema}; this one reads up to {SCHEMA}"
            )
        known = _CHECKS if schema else {name: _CHECKS[name] for name in _CHECKS if name != "extra"}
        values: dict[str, Any] = {}
        for name, check in known.items():
            if name not in value:
                if name in _REQUIRED:
                    raise UserError(f"{where}: the record lacks {name!r}")
            elif value[name] is not None or name not in _OPTIONAL:
                values[name] = _checked(check, name, value[name], where)
        other = {name: value[name] for name in value if name not in known}
        if schema and other:
            raise UserError(f"{where}: {unknown_name('field', next(iter(other)), known)}")
        values.setdefault("score", None)
        record = cls(**{"schema": 0, **values, **({} if schema else {"extra": other})})
        if not record.scored_by_return:
            for name in ("score", "scores", "max_score", "offline_score"):
                _checked(checks.bounded, name, getattr(record, name), where)
        if record.score is not None and record.status == "diverged":
            raise UserError(f"{where}: the record has a score, and its status is 'diverged'")
        return record


def load_records(paths: Iterable[Path]) -> list[Record]:
    """Read every record under ``paths``, without duplicates, in the order found.

    Args:
        paths: Run folders, ``.jsonl`` files, or folders that hold either at any depth. Files of
            other kinds are passed over in such folders, and refused where they are named.

    Raises:
        UserError: A path holds no records, or one of them is malformed (file, line and reason).
    """
    paths = list(paths)
    sources = find_sources(paths)
    records = [read_result(run) for run in sources.runs]
    for file in sources.files:
        records += read_jsonl(file)
    if not records:
        raise UserError(f"no record in {', '.join(map(str, paths))}")
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
    text = read_text(path)
    if path.suffix == ".jsonl":
        text = next((line for line in text.split("\n") if line.strip()), "")
    try:
        first = parse_json(text, path)
    except UserError:
        return False
    return isinstance(first, dict) and not {"task", "score"} <= first.keys()


def read_result(run: Path) -> Record:
    """Read the record of one run folder."""
    path = run / "result.json"
    return parse_record(read_text(path), str(path))


def read_jsonl(path: Path) -> list[Record]:
    """Read a file with one record a line; blank lines are passed over."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [parse_record(line, f"{path}:{number}") for number, line in lines if line.strip()]


def append_record(path: Path, record: Record) -> None:
    """Append one record to a ``.jsonl`` file, as one line that is there entirely or not at all.

    A record that the file holds already is not added again. Several processes may append to one
    file at the same time. Half a record, as a kill leaves it at the end, is taken away.

    Raises:
        UserError: ``load_records`` would refuse the record, or the file cannot be written.
    """
    checked = check_record(record, f"{path}: the new record")
    line = json.dumps(checked).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that a write is one: what others append lands before or after it.
        with open(path, "ab+", buffering=0) as file, locked(file):
            file.seek(0)
            lines = file.read().split(b"\n")
            if line in lines:
                return
            if _is_half(lines[-1]):
                lines[-1] = b""
            kept = b"\n".join(lines)
            added = line + b"\n" if lines[-1] == b"" else b"\n" + line + b"\n"
            file.truncate(len(kept))
            try:
                if file.write(added) != len(added):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(len(kept))
                raise
    except OSError as error:
        raise UserError(f"the record was not kept: {not_written(path, error)}") from error


def _is_half(line: bytes) -> bool:
    """Whether a line is the beginning of a record."""
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(b"{")
    return False


def check_record(record: Record, where: str) -> dict[str, Any]:
    """Return a record as JSON, and be sure that it can be read back.

    Args:
        record: The record.
        where: What to call it, for the error message.

    Raises:
        UserError: It could not be.
    """
    value = record.to_json()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} is not plain JSON: {error}") from None
    Record.from_json(value, where)
    return value


def parse_record(text: str, where: str) -> Record:
    """Make a record of its JSON text.

    Args:
        text: One JSON object.
        where: The file (and line) it stands in, for the error message.

    Raises:
        UserError: It is no JSON; or see :meth:`Record.from_json`.
    """
    return Record.from_json(parse_json(text, where), where)


def _checked(check: checks.Check, name: str, value: object, where: str) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise UserError(
            f"{where}: {name!r} should be {error}, not {one_line(repr(value))}"
        ) from None


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


_DEFAULTS: dict[str, Any] = {
    field.name: {} if field.default_factory is dict else field.default
    for field in dataclasses.fields(Record)
}
_CHECKS: dict[str, checks.Check] = {
    "schema": checks.amount,
    **dict.fromkeys(("task", "family", "agent", "preset", "variant", "status"), checks.text),
    **dict.fromkeys(("measure", "environment", "commit", "device", "evaluated_on"), checks.text),
    "date": checks.text,
    **dict.fromkeys(("seed", "steps", "environment_steps", "online_steps"), checks.integer),
    **dict.fromkeys(("episodes", "parameters", "seeds_together"), checks.integer),
    "failures": checks.amount,
    **dict.fromkeys(("score", "max_score", "offline_score"), checks.number),
    **dict.fromkeys(("success", "success_easy", "success_hard", "coverage"), checks.share),
    **dict.fromkeys(("mode_entropy", "mean_return", "train_seconds", "sample_ms"), checks.number),
    **dict.fromkeys(("steps_per_second", "environment_steps_per_second"), checks.number),
    **dict.fromkeys(("scores", "returns"), checks.numbers),
    **dict.fromkeys(("interval", "return_interval"), checks.pair),
    "dataset": checks.dataset,
    "config": checks.config,
    "curve": checks.curve,
    **dict.fromkeys(("versions", "extra"), checks.mapping),
}
_REQUIRED = ("task", "agent", "seed", "steps", "score")
_OPTIONAL = _CHECKS.keys() - {"schema", "task", "agent", "seed", "steps"}
# What every record says, even if it says nothing; of the others, see to_json.
_ALWAYS = (
    *("schema", "task", "agent", "preset", "variant", "seed", "steps", "status"),
    *("score", "scores", "interval", "episodes", "parameters", "config", "versions", "commit"),
    *("device", "seeds_together", "train_seconds", "steps_per_second", "curve", "date"),
)
