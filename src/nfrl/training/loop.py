"""The one loop: it resumes, keeps the time, writes metrics and checkpoints, and stops on Ctrl-C.

What is learned, and how, is its caller's: offline, online, exploring and experts each give it what
happens between two lines of metrics.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from nfrl.errors import UserError
from nfrl.files import make_folder
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.runs.interruption import interruption

Line = dict[str, Any]
"""What is measured of one run after a stretch of steps: numbers, or lists of them."""
Report = Callable[[int, dict[str, float]], None]
"""Told the step and the numbers measured, averaged over the runs."""

FINITE_UPDATES = "finite_updates"
"""The metric that counts a call's updates before the first with a non-finite loss."""


class NonFiniteLossError(UserError):
    """A seed's loss became infinite or not a number; the last good checkpoint stands."""

    def __init__(self, message: str, seed: int):
        super().__init__(message)
        self.seed = seed


def loop(
    runs: Sequence[RunFolder],
    state: Any,
    start: int,
    spans: Iterable[tuple[int, int]],
    advance: Callable[[Any, int, int], tuple[Any, list[Line]]],
    save: Callable[[Any, int], None],
    *,
    due: Callable[[int], bool],
    anywhere: bool = True,
    report: Report = lambda step, metrics: None,
    pause: Callable[[Any, int], list[Line]] | None = None,
) -> Any:
    """Advance a state span by span, going on from where the runs stand.

    Args:
        runs: A folder for each run; they advance together.
        state: What stood at ``start``: anything.
        start: The step to go on from; 0 for the beginning.
        spans: The steps that each stretch begins and ends with, all of them; those before
            ``start`` are passed over.
        advance: Of (state, begin, end) to the state at the end, and a line for each run. It raises
            :class:`NonFiniteLossError` before anything is written of that stretch.
        save: Writes the checkpoint of a step.
        due: Whether a step's checkpoint is to be written.
        anywhere: Whether a run can go on from the end of any stretch, so that Ctrl-C saves it.
        report: Told of each stretch.
        pause: Further lines for each run, of (state, step), whose time is not training's: what an
            evaluation finds.

    Returns:
        The state at the end.

    Raises:
        KeyboardInterrupt: After the stretch in hand was finished, and saved where that can be.
    """
    for run in runs:
        make_folder(run.checkpoints)
        run.truncate_metrics(start)
    earlier = runs[0].seconds_until(start)
    began = time.perf_counter()
    with interruption() as interrupted:
        for begin, end in spans:
            if begin < start:
                continue
            state, lines = advance(state, begin, end)
            seconds = earlier + time.perf_counter() - began
            further: list[Line] = [{} for _ in runs]
            if pause is not None:
                paused = time.perf_counter()
                further = pause(state, end)
                began += time.perf_counter() - paused
            for run, line, more in zip(runs, lines, further, strict=True):
                run.append_metrics({"step": end, "seconds": round(seconds, 3), **line, **more})
            stop = interrupted()  # asked once: what comes later is for the next stretch
            if due(end) or (stop and anywhere):
                save(state, end)
            report(end, _means(lines))
            if stop:
                raise KeyboardInterrupt
    return state


def spans_of(length: int, total: int) -> list[tuple[int, int]]:
    """Cut a number of steps into stretches of a length; the last may be shorter."""
    return [(begin, min(begin + length, total)) for begin in range(0, total, length)]


def statistics(batch: dict[str, Any]) -> str:
    """Say in words what stands in the arrays of a batch, for the message of a loss gone wrong."""
    return ", ".join(
        f"{name} in [{float(value.min()):.3g}, {float(value.max()):.3g}] with mean "
        f"{float(value.mean()):.3g}"
        for name, value in batch.items()
    )


def last_checkpoint(run: RunFolder) -> str:
    """Name a run's last good checkpoint, for the same message."""
    found = checkpoints.steps_in(run.checkpoints)
    return str(found[max(found)]) if found else "none yet"


def _means(lines: Sequence[Line]) -> dict[str, float]:
    numbers = [name for name, value in lines[0].items() if isinstance(value, Real)]
    return {name: float(np.mean([line[name] for line in lines])) for name in numbers}
