"""From the command to the first update: the first time, and when it was compiled before."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nfrl.analysis.watched_run import watched_run


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
    options = ("--steps", "1", "--training.log-every", "1")
    first, *others = (
        watched_run(folder, (*words, *options), place / f"runs-{i}", environment).start_seconds
        for i in range(1 + again)
    )
    return StartingSpeed(first, float(np.median(others)))
