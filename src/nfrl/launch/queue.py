"""The queue: it hands commands to a launcher in their order, and tells how each ended."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from nfrl.launch.launcher import Command, Launcher, Running


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    index: int
    """Its place among the commands."""
    status: int
    """Its exit status; negative for the signal that killed it."""
    seconds: float
    """The time since it was handed out."""


def work_through(
    launcher: Launcher,
    commands: Sequence[Command],
    lanes: int,
    begun: Callable[[int], None] = lambda index: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Run commands in their order, ``lanes`` at a time; yield each one's outcome as it ends.

    When the caller stops, by an exception or by closing the iterator, the commands that run are
    interrupted as by Ctrl-C, and waited for.

    Args:
        launcher: Where they run.
        commands: The commands.
        lanes: How many are handed out at a time.
        begun: Told the place of each command just before it is handed out.
        meanwhile: Called every second or so.
    """
    if not commands:
        return
    waiting = list(range(len(commands)))[::-1]
    running: dict[int, tuple[Running, float]] = {}
    with launcher.open(lanes) as start:
        try:
            while waiting or running:
                while waiting and len(running) < lanes:
                    count = min(launcher.at_once, lanes - len(running), len(waiting))
                    together = [waiting.pop() for _ in range(count)]
                    for index in together:
                        begun(index)
                    handed_out = start([commands[index] for index in together])
                    since = time.monotonic()
                    running |= {
                        index: (each, since)
                        for index, each in zip(together, handed_out, strict=True)
                    }
                for index, (each, since) in list(running.items()):
                    status = each.poll()
                    if status is not None:
                        del running[index]
                        yield Outcome(index, status, time.monotonic() - since)
                if running:
                    meanwhile()
                    wait_for_one([each for each, _ in running.values()], seconds=1.0)
        finally:
            interrupt_all([each for each, _ in running.values()])


def interrupt_all(running: Sequence[Running]) -> None:
    """Interrupt commands, and wait until all of them have ended."""
    for each in running:
        each.interrupt()
    for each in running:
        while each.poll() is None:
            time.sleep(0.05)


def wait_for_one(running: Iterable[Running], seconds: float) -> None:
    """Wait until one of them has ended, or the time is over."""
    running = list(running)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        if any(each.poll() is not None for each in running):
            return
        # To ask thousands takes a while: a tenth of the time is spent on it, at most.
        time.sleep(max(0.05, 10 * (time.monotonic() - began)))
