"""A run is a folder, readable without this program.

config.json      what was asked for: task, agent, every value, seed, data, versions
metrics.jsonl    one line a chunk of updates
checkpoints/     safetensors, the last few
result.json      what came out
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfrl.errors import UserError
from nfrl.files import write_atomically, write_json


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
    def maze_file(self) -> Path:
        """What was seen of a maze, and the agent's densities over it (.npz)."""
        return self.path / "maze.npz"

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "config.json").is_file()

    def read_config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            UserError: The folder is no run.
        """
        return self._read("config.json")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json, making the folder."""
        write_json(self.path / "config.json", config)

    def read_result(self) -> dict[str, Any] | None:
        """Read result.json; None while the run has none."""
        return self._read("result.json") if (self.path / "result.json").is_file() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json."""
        write_json(self.path / "result.json", result)

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl.

        Raises:
            UserError: The disk is full; what is left of the line goes with the next truncation.
        """
        try:
            with self.metrics_file.open("a") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise UserError(f"could not write {self.metrics_file}: {error.strerror}") from error

    def truncate_metrics(self, step: int) -> None:
        """Drop what was measured after a step, and a line that a kill cut short."""
        if not self.metrics_file.is_file():
            return
        kept = b""
        for line in self.metrics_file.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
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
        """Return the lines of metrics.jsonl."""
        if not self.metrics_file.is_file():
            return []
        # A line that is being written, or that a kill cut short, has no end yet.
        lines = self.metrics_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            raise UserError(f"{self.path} is not a run folder: it has no {name}")
        try:
            value = json.loads(file.read_text())
        except ValueError as error:
            raise UserError(f"{file} is not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise UserError(f"{file} does not hold a JSON object")
        return value
