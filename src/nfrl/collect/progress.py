"""Telling how far a long piece of work has come: a bar on a terminal, elsewhere lines."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

SECONDS_BETWEEN_LINES = 15.0


# Called with the number of episodes that have been finished since the last call.
Advance = Callable[[int], None]


@contextlib.contextmanager
def episode_progress(
    title: str, total: int, done: int, steps: int, *, show: bool = True
) -> Iterator[Advance]:
    """Show progress in episodes, with steps a second and the time left, on standard error.

    Args:
        title: What is being made.
        total: Episodes in all.
        done: Episodes there already.
        steps: Steps per episode.
        show: Show nothing if false.
    """
    if not show:
        yield lambda episodes: None
    elif sys.stderr.isatty():
        with _bar(title, total, done, steps) as advance:
            yield advance
    else:
        yield _lines(title, total, done, steps)


@contextlib.contextmanager
def _bar(title: str, total: int, done: int, steps: int) -> Iterator[Advance]:
    # Imported here: a worker process has no use for it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} episodes"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    rate = _Rate(steps)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=done, rate="")

        def advance(episodes: int) -> None:
            progress.update(task, advance=episodes, rate=f"{rate.add(episodes):.0f} steps/s")

        yield advance


def _lines(title: str, total: int, done: int, steps: int) -> Advance:
    rate = _Rate(steps)
    finished, last = done, time.monotonic()

    def advance(episodes: int) -> None:
        nonlocal finished, last
        finished += episodes
        speed = rate.add(episodes)
        if finished >= total or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            left = (total - finished) * steps / speed
            print(
                f"{title}: {finished}/{total} episodes, {speed:.0f} steps/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    return advance


class _Rate:
    """Steps a second since it was made."""

    def __init__(self, steps: int):
        self._steps, self._episodes, self._start = steps, 0, time.monotonic()

    def add(self, episodes: int) -> float:
        self._episodes += episodes
        return self._episodes * self._steps / max(time.monotonic() - self._start, 1e-9)
