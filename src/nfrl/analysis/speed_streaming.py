"""Training on data of the host beside data of the device: its rate, and the memory that it takes.

Each side is the command that a user gives, in a process of its own, on the same folder of random
data.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nfrl.analysis.watched_run import watched_run
from nfrl.data.formats import npy
from nfrl.data.trajectories import Trajectories
from nfrl.errors import UserError

LENGTH = 1000
"""Transitions of a trajectory."""
_AT_ONCE = 100_000
_LOG_EVERY = 200


@dataclasses.dataclass(frozen=True)
class StreamingSpeed:
    """How a run trained.

    Attributes:
        rows: Transitions of the data.
        megabytes: What they take on the disk.
        streamed: Whether they stayed on the host.
        steps_per_second: Updates a second, without compilation.
        peak_megabytes: The most memory that the process had to itself: without the pages of files,
            which the system takes back where it needs them. None on other systems than Linux.
        start_seconds: From the command to the end of the first stretch of updates.
    """

    rows: int
    megabytes: float
    streamed: bool
    steps_per_second: float
    peak_megabytes: float | None
    start_seconds: float


def write_random(folder: Path, rows: int, observation_dim: int, action_dim: int) -> float:
    """Write a folder of random data, a part at a time, and return its size in MB.

    Raises:
        UserError: The disk is full, or rows are no multiple of a trajectory's.
    """
    if rows < 2 * LENGTH or rows % LENGTH:
        raise UserError(f"rows must be a multiple of {LENGTH}, and at least {2 * LENGTH}")
    generator = np.random.default_rng(0)
    with (
        npy.Writer(folder, ["random"]) as training,
        npy.Writer(folder / npy.VALIDATION, ["random"]) as validation,
    ):
        for begin in range(0, rows, _AT_ONCE):
            count = min(_AT_ONCE, rows - begin)
            observations = generator.normal(size=(count, observation_dim))
            actions = generator.uniform(-1, 1, (count, action_dim))
            ends = np.arange(LENGTH, count + 1, LENGTH)
            part = Trajectories.from_arrays(observations, actions, ends)
            training.add(part, "random")
            if not begin:
                validation.add(part.take(np.arange(1)), "random")
    return sum(path.stat().st_size for path in folder.rglob("*.npy")) / 1e6


def streaming_speed(
    folder: Path, words: Sequence[str], runs: Path, *, rows: int, megabytes: float, stream: bool
) -> StreamingSpeed:
    """Train on a folder of data, on one side or the other.

    Args:
        folder: The data.
        words: The words after ``nfrl train``: the agent and its sizes, the steps.
        runs: Where its folder goes.
        rows: Transitions of the data.
        megabytes: What they take on the disk.
        stream: Whether they stay on the host.

    Raises:
        UserError: The run failed; the message is its own.
    """
    options = (
        *("--training.stream", str(stream), "--training.log-every", str(_LOG_EVERY)),
        *("--training.validation-batches", "1"),
        *("--training.checkpoint-every", str(_LOG_EVERY * 1000)),
    )
    run = watched_run(folder, (*words, *options), runs)
    if len(run.metrics) < 3:
        raise UserError(f"steps must be at least {3 * _LOG_EVERY}, to be timed")
    begin, end = run.metrics[0], run.metrics[-1]
    rate = (end["step"] - begin["step"]) / (end["seconds"] - begin["seconds"])
    return StreamingSpeed(rows, megabytes, stream, rate, run.peak_megabytes, run.start_seconds)
