"""Telling how far a long piece of work has come: a bar on a terminal, elsewhere lines."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

SECONDS_BETWEEN_LINES = 15.0


class Update(Protocol):
    """Called with how much is done by now, and what else there is to say."""

    def __call__(self, done: float, figures: str = "") -> None: ...


@contextlib.contextmanager
def progress(
    title: str, total: int, unit: str, *, done: int = 0, show: bool = True
) -> Iterator[Update]:
    """Show progress on standard error, with the time left.

    Args:
        title: What is being done.
        total: How much there is to do.
        unit: Of what: "steps", "episodes".
        done: How much was done before.
        show: Show nothing if false.
    """
    if not show:
        yield lambda done, figures="": None
    elif sys.stderr.isatty():
        with _bar(title, total, unit, done) as update:
            yield update
    else:
        yield _lines(title, total, unit, done)


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str, done: int) -> Iterator[Update]:
    # Imported here: a worker process has no use for it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}}/{{task.total:.0f}} {unit}"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task(title, total=total, completed=done, figures="")

        def update(done: float, figures: str = "") -> None:
            bar.update(row, completed=done, figures=figures)

        yield update


def _lines(title: str, total: int, unit: str, done: int) -> Update:
    before, start, spoken, last = done, time.monotonic(), time.monotonic(), ""

    def update(done: float, figures: str = "") -> None:
        nonlocal spoken, last
        now = time.monotonic()
        if done < total and now - spoken < SECONDS_BETWEEN_LINES:
            return
        rate = (done - before) / (now - start)
        left = f"{(total - done) / rate:.0f} s left" if rate > 0 else ""
        parts = [f"{title}: {done:.0f}/{total} {unit}", figures, left]
        line = ", ".join(filter(None, parts))
        # What was done may be looked at again and again, while something else comes after it.
        if line != last:
            spoken, last = now, line
            print(line, file=sys.stderr, flush=True)

    return update
