"""From the command to the first update: the first time, and when it was compiled before."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class StartingSpeed:
    """Seconds from ``nfrl train`` to the metrics of its first update."""

    first_seconds: float
    """With nothing compiled before."""
    again_seconds: float
    """With the programs kept that the first command compiled; the median of the further ones."""


def starting_speed(folder: Path, words: Sequence[str], place: Path, *, again: int) -> StartingSpeed:
    """Give the same command several times, with a folder of compiled programs of its own.

    Args:
        folder: Data to train on.
        words: The words after ``nfrl train``: the agent and its sizes.
        place: An empty folder, for the programs and the runs.
        again: How many further times.

    Raises:
        UserError: A command failed; the message is its own.
    """
    place.mkdir(parents=True)
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    seconds = []
    for number in range(1 + again):
        runs = place / f"runs-{number}"
        command = [
            *(sys.executable, "-m", "nfrl.cli.main", "train", *words, "--data", str(folder)),
            *("--runs", str(runs), "--steps", "1", "--training.log-every", "1"),
        ]
        with (place / f"{number}.log").open("w") as log:
            began = time.monotonic()
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            found = None
            while process.poll() is None:
                if found is None and any(runs.rglob("metrics.jsonl")):
                    found = time.monotonic() - began
                time.sleep(0.01)
        if process.returncode or found is None:
            raise UserError((place / f"{number}.log").read_text().strip().splitlines()[-1])
        seconds.append(found)
    first, *others = seconds
    return StartingSpeed(first, sorted(others)[len(others) // 2])
