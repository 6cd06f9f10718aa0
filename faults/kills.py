"""Kills: SIGKILL at a random moment, once or twice in a row; then the command that goes on.

Afterwards not one bit differs from what was never killed, and nothing is left behind: no process,
no shared memory, no temporary file.
"""

import functools
import glob
import random
import time
from collections.abc import Callable
from pathlib import Path

from faults import jobs
from faults.case import Case
from faults.processes import Command, assert_alone
from faults.shared import assert_same, wait_until

SHARED_MEMORY = "/dev/shm/nfrl-pool-*"
# A hundred, of which half come two in a row.
KILLS = {
    **{"training": 20, "saving": 16, "evaluating": 16, "making data": 16, "a suite": 8},
    **{"going on online": 12, "exploring": 12},
}
JOBS = {
    **{"training": jobs.TRAINING, "saving": jobs.TRAINING, "evaluating": jobs.EVALUATING},
    **{"making data": jobs.DATA, "a suite": jobs.SUITE},
    **{"going on online": jobs.GOING_ONLINE, "exploring": jobs.EXPLORING},
}
# Where the moment is not drawn from the whole command: it begins when a file of this pattern
# appears, and takes so many seconds. A checkpoint has a temporary file while it is written.
SIGNS = {
    "saving": ("runs/*/*/seed-*/checkpoints/.*.tmp", 0.001),
    "evaluating": (f"{jobs.SEED}/checkpoints/step-00000020.safetensors", 4.0),
}


def cases(seed: int) -> list[Case]:
    """Return the cases: of each kind, twice as many with one kill as with two in a row."""
    draw = random.Random(seed)
    found = []
    for kind, kills in KILLS.items():
        for number, count in enumerate([2] * (kills // 4) + [1] * (kills // 2)):
            moments = tuple(draw.random() for _ in range(count))
            told = " and ".join(f"{moment:.3f}" for moment in moments)
            run = functools.partial(_killed, kind, moments)
            short = kind == "making data" and number == 0
            found.append(Case(kind, f"at {told} of its time", run, short=short, seconds=300.0))
    draw.shuffle(found)
    return found


def _killed(kind: str, moments: tuple[float, ...], folder: Path) -> str:
    job = JOBS[kind]
    undisturbed, seconds = job.done()
    before = set(glob.glob(SHARED_MEMORY))
    begin = job.begin
    said = []
    for moment in moments:
        ended = _kill(kind, begin, moment, seconds)
        said.append("had ended" if ended else "killed")
        assert_alone()
        begin = job.go_on
    begin().wait().succeeded()
    assert_same(folder, undisturbed)
    _assert_no_shared_memory(before)
    return ", ".join(said)


def _kill(kind: str, begin: Callable[[], Command], moment: float, seconds: float) -> bool:
    """Begin some work and kill it at a moment; return whether it had ended before."""
    pattern, seconds = SIGNS.get(kind, ("", seconds))
    there = set(glob.glob(pattern))
    command = begin()
    if pattern and not (there and kind == "evaluating"):  # the second time it begins with that
        wait_until(lambda: set(glob.glob(pattern)) - there, command)
    time.sleep(moment * seconds)
    ended = command.poll() is not None
    command.kill()
    return ended


def _assert_no_shared_memory(before: set[str], seconds: float = 5.0) -> None:
    """Assert that what was made in memory since is gone, but for what others' processes use."""
    end = time.monotonic() + seconds
    while left := {each for each in set(glob.glob(SHARED_MEMORY)) - before if not _used(each)}:
        assert time.monotonic() < end, f"shared memory was left behind: {left}"
        time.sleep(0.05)


def _used(folder: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder.encode() in process.read_bytes():
                return True
        except OSError:  # it has ended
            continue
    return False
