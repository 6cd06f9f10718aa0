"""A run is a folder, readable without this program.

config.json      what was asked for: task, agent, every value, seed, data, versions
metrics.jsonl    one line a chunk of updates
checkpoints/     safetensors, the last few
result.json      what came out, a record
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.formats.ogbench import read_archive
from nfrl.errors import UserError
from nfrl.files import held, not_written, write_atomically, write_json
from nfrl.reading import parse_json, read_bytes, read_json
from nfrl.runs.records import Record, check_record, read_result

Columns = Mapping[str, NDArray[np.float64]]
Arrays = Mapping[str, NDArray[Any]]

# The dimensions of the arrays that are read of each file; others may stand beside them.
_EVALUATION = {"successes": 2, "xy": 4, "goal_xy": 2}
_SAMPLES = {"actions": 3, "data_actions": 2}
_LATEST = 2**63
_MAZE = {"steps": 1, "visits": 3, "commanded": 3, "q": 4, "coverage": 3, "walls": 2}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths of one run (one seed), and how its files are read and written."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """JSON lines, one a chunk of updates."""
        return self.path / "metrics.jsonl"

    @property
    def evaluation_file(self) -> Path:
        """The outcome of every evaluation episode (.npz)."""
        return self.path / "evaluation.npz"

    @property
    def samples_file(self) -> Path:
        """Actions of the policy beside the data's at the same states (.npz)."""
        return self.path / "policy_samples.npz"

    @property
    def config_file(self) -> Path:
        """What was asked for."""
        return self.path / "config.json"

    @property
    def maze_file(self) -> Path:
        """What was seen of a maze, and the agent's densities over it (.npz)."""
        return self.path / "maze.npz"

    @property
    def result_file(self) -> Path:
        """What came out."""
        return self.path / "result.json"

    @property
    def has_result(self) -> bool:
        """Whether something came out, be it that the run diverged."""
        return self.result_file.is_file()

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a run."""
        return self.config_file.is_file()

    def held(self) -> AbstractContextManager[None]:
        """Keep the folder for this process alone, so that no other trains in it.

        Raises:
            UserError: Another one does.
        """
        return held(self.path, f"another process works on {self.path}; wait for it, or stop it")

    def read_config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            UserError: The folder is no run.
        """
        return self._read("config.json")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json, making the folder."""
        write_json(self.config_file, config)

    def read_result(self) -> Record | None:
        """Read the record in result.json; None while the run has none.

        Raises:
            UserError: What stands there is no record.
        """
        return read_result(self.path) if self.has_result else None

    def write_result(self, record: Record) -> None:
        """Write result.json.

        Raises:
            UserError: ``read_result`` would refuse the record.
        """
        write_json(self.result_file, check_record(record, f"{self.result_file}: the record"))

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl.

        Raises:
            UserError: The disk is full or fails; what is left of the line goes with the next
                truncation.
        """
        try:
            with self.metrics_file.open("a") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise UserError(not_written(self.metrics_file, error)) from error

    def truncate_metrics(self, step: int) -> None:
        """Drop what was measured after a step, and a line that a kill cut short.

        Raises:
            UserError: A whole line is malformed.
        """
        if not self.metrics_file.is_file():
            return
        kept = b""
        lines = self.metrics_file.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") or self._metrics_line(line, number)["step"] > step:
                break
            kept += line
        write_atomically(self.metrics_file, lambda file: file.write(kept))

    def seconds_until(self, step: int) -> float:
        """Return the training time that metrics.jsonl reports up to a step."""
        lines = self.read_metrics() if step else []
        return max((line["seconds"] for line in lines if line["step"] <= step), default=0.0)

    def read_curve(self) -> list[dict[str, float]]:
        """Return step, seconds and score of each evaluation that metrics.jsonl reports."""
        keys = ("step", "seconds", "score")
        return [{key: line[key] for key in keys} for line in self.read_metrics() if "score" in line]

    def last_step(self) -> int:
        """Return the latest step that metrics.jsonl reports; 0 if it reports none."""
        return int(max((line["step"] for line in self.read_metrics()), default=0))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl; none if it is missing.

        Raises:
            UserError: A line is malformed.
        """
        if not os.path.lexists(self.metrics_file):
            return []
        # A line that is being written, or that a kill cut short, has no end yet.
        *lines, _ = read_bytes(self.metrics_file).split(b"\n")
        return [
            self._metrics_line(line, number)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]

    def read_columns(self) -> Columns:
        """Return metrics.jsonl as columns of equal length, sorted by step; none if it is missing.

        What a line lacks is NaN. Where a resumed run repeats a step, the later line counts.

        Raises:
            UserError: A line is malformed.
        """
        rows = {float(row["step"]): row for row in self.read_metrics()}
        names = dict.fromkeys(name for row in rows.values() for name in row)
        return {
            name: np.array([_float(rows[step].get(name)) for step in sorted(rows)])
            for name in names
        }

    def read_evaluation(self) -> Arrays:
        """Read the evaluation episodes; none if they are missing.

        Returns:
            ``successes`` and ``lengths`` (goals, episodes); for mazes also ``xy`` (goals,
            episodes, time, 2), padded with NaN, and ``goal_xy`` (goals, 2).

        Raises:
            UserError: The file is damaged, or an array has other dimensions.
        """
        return _read_arrays(self.evaluation_file, _EVALUATION)

    def read_samples(self) -> Arrays:
        """Read the actions sampled at some states of the data; none if they are missing.

        Returns:
            ``actions`` (states, samples, action) and ``data_actions`` (states, action).

        Raises:
            UserError: The file is damaged, or an array has other dimensions.
        """
        return _read_arrays(self.samples_file, _SAMPLES)

    def read_maze(self) -> Arrays:
        """Read what was seen of a maze, at several moments; none if it explored none.

        Raises:
            UserError: The file is damaged, or an array has other dimensions.
        """
        return _read_arrays(self.maze_file, _MAZE)

    def _metrics_line(self, line: bytes, number: int) -> dict[str, Any]:
        row = parse_json(line, f"{self.metrics_file}:{number}")
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, bool) or not isinstance(step, int | float) or not 0 <= step < _LATEST:
            raise UserError(f"{self.metrics_file}:{number}: not a JSON object with a 'step'")
        return row

    def _read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not os.path.lexists(file):
            raise UserError(f"{self.path} is not a run folder: it has no {name}")
        return read_json(file)


def _float(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else np.nan
    except OverflowError:  # an integer beyond the largest float
        return np.nan


def _read_arrays(path: Path, dimensions: Mapping[str, int]) -> Arrays:
    """Read the arrays of an ``.npz`` file, those named of these dimensions; {} if it is missing."""
    if not os.path.lexists(path):
        return {}
    arrays, refused = read_archive(path)
    for name, reason in refused.items():
        raise UserError(f"{path}: {name}: {reason}")
    for name, dimension in dimensions.items():
        if name in arrays and arrays[name].ndim != dimension:
            shape = arrays[name].shape
            raise UserError(f"{path}: {name!r} should have {dimension} dimensions, has {shape}")
    return arrays
