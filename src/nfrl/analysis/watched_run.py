"""A run of ``nfrl train`` in a process of its own: when it began to train, and its memory."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nfrl.errors import UserError

_LOOK_EVERY = 0.01  # seconds


@dataclasses.dataclass(frozen=True)
class WatchedRun:
    """What :func:`watched_run` saw.

    Attributes:
        start_seconds: From the command to its first line of metrics.
        peak_megabytes: The most memory that the process had to itself: without the pages of files,
            which the system takes back where it needs them. None on other systems than Linux.
        metrics: Its lines of metrics.
    """

    start_seconds: float
    peak_megabytes: float | None
    metrics: tuple[Mapping[str, Any], ...]


def watched_run(
    folder: Path, words: Sequence[str], runs: Path, environment: Mapping[str, str] | None = None
) -> WatchedRun:
    """Train on a folder of data by the command that a user gives.

    Args:
        folder: The data.
        words: The words after ``nfrl train``: the agent and its sizes, the steps.
        runs: Where its folder goes; what it printed stands beside it, in a file ``.log``.
        environment: Its environment variables; by default this process's own.

    Raises:
        UserError: The run failed; the message is its own.
    """
    command = [
        *(sys.executable, "-m", "nfrl.cli.main", "train", *words),
        *("--data", str(folder), "--runs", str(runs)),
    ]
    log, began, peak, first = runs.with_suffix(".log"), time.monotonic(), 0.0, None
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while process.poll() is None:
            peak = max(peak, _own_megabytes(process.pid))
            if first is None and any(runs.rglob("metrics.jsonl")):
                first = time.monotonic() - began
            time.sleep(_LOOK_EVERY)
    if process.returncode or first is None:
        raise UserError(log.read_text(errors="replace").strip().splitlines()[-1])
    (metrics,) = runs.rglob("metrics.jsonl")
    lines = tuple(json.loads(line) for line in metrics.read_text().splitlines())
    return WatchedRun(first, peak or None, lines)


def _own_megabytes(process: int) -> float:
    """Return the anonymous memory of a process; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return float(line.split()[1]) / 1000
    return 0.0
