"""Run folders: the training metrics, evaluation episodes and policy samples beside a record."""

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nfrl.errors import UserError
from nfrl.runs.records import Record, find_sources, read_result


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its folder and its record. Its arrays are read when asked for."""

    path: Path
    record: Record

    def metrics(self) -> Mapping[str, NDArray[np.float64]]:
        """Read ``metrics.jsonl`` as columns of equal length, sorted by step; empty if missing."""
        return read_metrics(self.path / "metrics.jsonl")

    def evaluation(self) -> Mapping[str, NDArray]:
        """Read the evaluation episodes; empty if missing.

        Returns:
            ``successes`` and ``lengths`` (goals, episodes); for mazes also ``xy`` (goals,
            episodes, time, 2), padded with NaN, and ``goal_xy`` (goals, 2).
        """
        return read_arrays(self.path / "evaluation.npz", {"successes": 2, "xy": 4, "goal_xy": 2})

    def policy_samples(self) -> Mapping[str, NDArray]:
        """Read the actions sampled at some states of the data; empty if missing.

        Returns:
            ``actions`` (states, samples, action) and ``data_actions`` (states, action).
        """
        return read_arrays(self.path / "policy_samples.npz", {"actions": 3, "data_actions": 2})


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Find every finished run under ``paths``, as ``load_records`` does."""
    return [Run(path, read_result(path)) for path in find_sources(paths).runs]


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read metrics, one JSON object a line, as columns; what a line lacks is NaN.

    A last line cut short by a kill is ignored. Where a resumed run repeats a step, the later
    line counts.

    Raises:
        UserError: A line before the last is malformed.
    """
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    rows: dict[float, dict[str, float]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows[float(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise UserError(f"{path}:{number}: not a JSON object with a 'step'") from None
    steps = sorted(rows)
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {name: np.array([_float(rows[step].get(name)) for step in steps]) for name in names}


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def read_arrays(path: Path, dimensions: Mapping[str, int]) -> dict[str, NDArray]:
    """Read the arrays of these names and dimensions that an ``.npz`` file has; {} if it is missing.

    Raises:
        UserError: The file is damaged, or an array has other dimensions.
    """
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for name, dimension in dimensions.items():
        if name in arrays and arrays[name].ndim != dimension:
            shape = arrays[name].shape
            raise UserError(f"{path}: {name!r} should have {dimension} dimensions, has {shape}")
    return arrays
