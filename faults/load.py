"""Load: several processes at once, simulators that misbehave, a robot whose sensors do."""

import contextlib
import dataclasses
import functools
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from faults import jobs
from faults.case import Case
from faults.jobs import Job
from faults.processes import Answer, Command, call, fork, nfrl
from faults.shared import (
    assert_same,
    point_data,
    simulator_words,
    trained_run,
    training_words,
    wait_until,
)

RUNS = 200
WRITERS, RECORDS = 10, 40


def cases(seed: int) -> list[Case]:
    """Return the cases."""
    at_once = {"a run": jobs.TRAINING, "a data set": jobs.DATA}
    found = [Case("two at once", "an export", _export_beside_another, short=True)]
    found += [
        Case("two at once", name, functools.partial(_two_at_once, job), seconds=300.0)
        for name, job in at_once.items()
    ]
    found.append(Case("ten writers", "one file of records", _ten_writers, short=True))
    suite = functools.partial(_a_suite_that_fails, seed)
    found.append(Case("a suite", f"{RUNS} runs that are killed at random", suite, seconds=1500.0))
    found += [
        Case("a simulator", name.lower(), functools.partial(_simulator, name, said), seconds=200.0)
        for name, said in _SIMULATORS.items()
    ]
    found += [
        Case("a robot", name, functools.partial(_robot, name), short=name == "of no numbers")
        for name in _OBSERVATIONS
    ]
    found.append(Case("a robot", "late", _late))
    return found


# Two at once


def _two_at_once(job: Job, folder: Path) -> str:
    """Of two that do the same in one place, one does it, and the other is told."""
    undisturbed, _ = job.done()
    first = job.begin(log=Path("first.log"))
    wait_until(lambda: list(folder.rglob(".lock")), first)
    second = job.begin(log=Path("second.log"))
    error = second.wait().error
    assert "another process" in error, error
    first.wait().succeeded()
    assert_same(folder, undisturbed)
    return error


def _export_beside_another(folder: Path) -> str:
    """An export is quick: another process has its place for as long as this looks."""
    from nfrl.files import held

    def hold() -> int:
        with held(Path(".out.tmp"), ""):
            time.sleep(100.0)
        return 0

    other = Command(log=folder / "other.log", work=hold)
    wait_until(lambda: list(folder.rglob(".lock")), other)
    words = ("export", str(trained_run()), "--to", "numpy", "--output", "out")
    error = nfrl(*words).error
    assert "another process" in error, error
    other.kill()
    nfrl(*words).succeeded()
    return error


# Ten writers


def _ten_writers(folder: Path) -> str:
    """Of many records that are written at once, each is there once, and whole."""
    from nfrl.runs.records import append_record, load_records, read_result

    record = read_result(trained_run())
    assert record is not None
    path = folder / "records.jsonl"

    def write(first: int) -> int:
        for seed in range(first, first + RECORDS):
            append_record(path, dataclasses.replace(record, seed=seed))
        return 0

    writers = [
        Command(log=folder / f"{i}.log", work=functools.partial(write, RECORDS * i))
        for i in range(WRITERS)
    ]
    for writer in writers:
        writer.wait().succeeded()
    seeds = sorted(each.seed for each in load_records([path]))
    assert seeds == list(range(WRITERS * RECORDS))
    return f"{len(seeds)} records"


# A suite


class _Forked:
    """A run of a suite in a forked process, which may be killed at a random moment."""

    def __init__(self, words: Sequence[str], log: Path, killed_after: float):
        def run() -> int:
            from nfrl.cli.main import main

            if killed_after:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, killed_after)
            return main(list(words))

        log.parent.mkdir(parents=True, exist_ok=True)
        self._process, self._status = fork(run, log), None

    def poll(self) -> int | None:
        if self._status is None:
            found, status = os.waitpid(self._process, os.WNOHANG)
            if found:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def interrupt(self) -> None:
        os.kill(self._process, signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class ForkingLauncher:
    """Runs commands in forked processes; a quarter of them is killed."""

    at_once: ClassVar[int] = 1
    seed: int = 0
    """Of the kills."""

    def lanes(self) -> int:
        return 2

    def cores(self, lanes: int) -> int:
        return 1

    @contextlib.contextmanager
    def open(self, lanes: int) -> Iterator[Callable[[Sequence[Any]], list[_Forked]]]:
        draw = random.Random(self.seed)

        def begin(commands: Sequence[Any]) -> list[_Forked]:
            (command,) = commands
            words = command.words[command.words.index("train") :]
            after = draw.uniform(0.01, 1.5) if draw.random() < 0.25 else 0.0
            return [_Forked(words, command.log, after)]

        yield begin


def _a_suite_that_fails(seed: int, folder: Path) -> str:
    """A suite whose runs die is given again until all are done: each is recorded once."""
    from nfrl.runs.records import load_records

    line = " ".join(training_words(point_data())[1:])
    Path("suite.txt").write_text("".join(f"{line} --seeds {i}\n" for i in range(RUNS)))
    words = ("suite", "run", "suite.txt", "--runs", "runs", "--record", "records.jsonl")
    failed = []
    for attempt in range(20):
        launcher = (
            "--launcher",
            "faults.load:ForkingLauncher",
            "--seed",
            str(100 * seed + attempt),
        )
        command = Command([*words, *launcher], log=Path("output.log"))
        answer = command.wait(1400.0)
        if answer.status == 0:
            break
        assert "did not finish" in answer.error
        failed.append(answer.error)
    answer.succeeded()
    assert failed, "none was killed"
    seeds = sorted(each.seed for each in load_records([Path("records.jsonl")]))
    assert seeds == list(range(RUNS)), seeds
    assert len(list(Path("runs").rglob("result.json"))) == RUNS
    assert not list(Path("runs").rglob("*.tmp"))
    assert not list(Path("runs").rglob(".lock"))
    return f"given {len(failed) + 1} times"


# Simulators

_SIMULATORS = {
    "Hangs": "has not answered for 3 s",
    "Raises": "RuntimeError: the arm is stuck",
    "Dies": "died",
    "Lies": "",
}


def _simulator(name: str, said: str, folder: Path) -> str:
    """What a simulator does is said in a line; what was trained is there, and can be evaluated."""
    from nfrl.environments import pool

    def impatient() -> None:
        pool.ANSWER_SECONDS = 3.0

    words = simulator_words(f"faults.simulators:{name}")
    answer = Command(words, log=Path("output.log"), before=impatient).wait()
    (run,) = [each.parent for each in Path("runs").rglob("config.json")]
    assert list(run.glob("checkpoints/*.safetensors"))
    if said:
        assert said in answer.error, answer.text
        assert not (run / "result.json").exists()
        return answer.error
    answer.succeeded()
    assert "2 of 2 episodes failed" in answer.text, answer.text
    record = json.loads((run / "result.json").read_text())
    assert (record["score"], record["failures"]) == (None, 2), record
    return "2 of 2 episodes failed"


# Robots

_OBSERVATIONS: dict[str, Callable[[], Any]] = {
    "too long": lambda: np.zeros(7, np.float32),
    "too short": lambda: np.zeros(1, np.float32),
    "of another shape": lambda: np.zeros((2, 2), np.float32),
    "with a NaN": lambda: np.array([0.0, np.nan], np.float32),
    "infinite": lambda: np.array([0.0, np.inf], np.float32),
    "of no numbers": lambda: "stop",
    "nothing": lambda: None,
    "a dictionary": lambda: {"state": np.zeros(2)},
    "of objects": lambda: np.array([object(), object()]),
    "ragged": lambda: [[1.0], [2.0, 3.0]],
    "complex": lambda: np.array([1j, 2j]),
    "too large for float32": lambda: np.array([1e300, 0.0]),
}


def _robot(name: str, folder: Path) -> str:
    """A malformed observation is refused in a line; the policy then acts as if it had not come."""
    run = trained_run()

    def act() -> None:
        import nfrl
        from nfrl.errors import UserError

        policies = [nfrl.load_policy(run) for _ in range(2)]
        disturbed, other = policies
        goal, places = np.array([8.0, 8.0], np.float32), np.linspace(0, 1, 8).reshape(4, 2)
        said = ""
        for place in places:
            try:
                disturbed(_OBSERVATIONS[name](), goal)
            except (UserError, ValueError, TypeError) as error:
                said = str(error)
            else:
                raise AssertionError(f"it was taken for an observation: {name}")
            assert said, "it was refused without a word"
            assert "\n" not in said, said
            expected = other(place, goal)
            assert np.isfinite(expected).all()
            np.testing.assert_array_equal(disturbed(place, goal), expected)
        print("said:", said)

    answer: Answer = call(act).succeeded()
    return answer.text.partition("said: ")[2].strip()


def _late(folder: Path) -> str:
    """A loop whose sensor is late goes on with what it saw last, at its rate."""
    run = trained_run()

    def act() -> None:
        import nfrl

        policy = nfrl.load_policy(run)
        goal, seen = np.array([8.0, 8.0], np.float32), np.zeros(2, np.float32)
        policy(seen, goal)  # compiles
        policy.reset()
        period, late = 0.02, {5, 6, 7, 20}
        begun = time.monotonic()
        for step in range(40):
            if step not in late:
                seen = np.array([step, step], np.float32) / 40
            assert np.isfinite(policy(seen, goal)).all()
            time.sleep(max(begun + (step + 1) * period - time.monotonic(), 0.0))
        assert time.monotonic() - begun < 40 * period + 0.5

    call(act).succeeded()
    return "40 steps of 20 ms"
