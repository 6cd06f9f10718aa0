"""Work through commands a few at a time, each on processor cores of its own.

Networks this small use one core well and two badly: two runs beside each other, a core each, are
done sooner than one after the other on both.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Becomes the command, on its own cores. POSIX only; elsewhere the command is started as it is. A
# program of its own, since this process may have threads (JAX's) with whose locks a fork that runs
# Python would hang.
_LAUNCH = """
import os, signal, sys
# Of what a shell started in the background, which ignores it, children inherit that.
signal.signal(signal.SIGINT, signal.SIG_DFL)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(core) for core in sys.argv[1].split(",")])
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    index: int
    """Its place among the commands."""
    status: int
    """Its exit status; negative for the signal that killed it."""
    seconds: float


def share_cores(lanes: int) -> list[set[int]]:
    """Share the cores that this process may use among lanes, as evenly as can be.

    More lanes than cores take turns on them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return [set(cores[i % len(cores) :: lanes]) or {cores[i % len(cores)]} for i in range(lanes)]


def work_through(
    commands: Sequence[Sequence[str]],
    logs: Sequence[Path],
    lanes: int,
    begun: Callable[[int], None] = lambda index: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Run commands in their order, ``lanes`` at a time; yield each one's outcome as it ends.

    What they print goes to their logs. When the caller stops, by an exception or by closing the
    iterator, the commands that run are interrupted as by Ctrl-C, and waited for.

    Args:
        commands: Each a program and its words.
        logs: A file for each command, written anew.
        lanes: How many run at a time.
        begun: Told the place of each command as it begins.
        meanwhile: Called every second or so.
    """
    cores = share_cores(lanes)
    waiting = list(range(len(commands)))[::-1]
    running: dict[int, tuple[int, subprocess.Popen, float]] = {}
    try:
        while waiting or running:
            for lane in range(lanes):
                if lane not in running and waiting:
                    index = waiting.pop()
                    begun(index)
                    process = _start(commands[index], logs[index], cores[lane])
                    running[lane] = (index, process, time.monotonic())
            for lane, (index, process, since) in list(running.items()):
                if process.poll() is not None:
                    del running[lane]
                    yield Outcome(index, process.returncode, time.monotonic() - since)
            if running:
                meanwhile()
                _wait([process for _, process, _ in running.values()], seconds=1.0)
    finally:
        for _, process, _ in running.values():
            _interrupt(process)
        for _, process, _ in running.values():
            process.wait()


def _wait(processes: Sequence[subprocess.Popen], seconds: float) -> None:
    """Wait until one of them has ended, or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and all(process.poll() is None for process in processes):
        time.sleep(0.05)


def _interrupt(process: subprocess.Popen) -> None:
    """Ask a command to stop, as by Ctrl-C."""
    if os.name == "posix":
        process.send_signal(signal.SIGINT)
    else:  # Windows sends no such signal to another process; a run goes on from its checkpoint
        process.terminate()


def _words(command: Sequence[str], cores: set[int]) -> list[str]:
    """Return what is started for a command."""
    if os.name != "posix":  # Windows: execvp starts another process there, and ends this one
        return list(command)
    return [sys.executable, "-I", "-c", _LAUNCH, ",".join(map(str, cores)), *command]


def _start(command: Sequence[str], log: Path, cores: set[int]) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            _words(command, cores),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )
