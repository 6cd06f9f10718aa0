"""Processes of a case: forked from one that has imported everything, so that each begins at once.

A fork is a process of its own as any other: it can be killed, it has its own JAX, whose back end
the process it was forked from must not have begun.
"""

import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

_DEATH_SIGNAL, _SUBREAPER = 1, 36  # of prctl


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent dies."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)


def fork(work: Callable[[], int], log: Path | None = None) -> int:
    """Do some work in a process of its own, which ends with what it returns as its status.

    Args:
        work: The work. What it raises is printed, and its status is 1.
        log: Where it prints to; by default where this process does.

    Returns:
        The process's number.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if log is not None:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


@dataclasses.dataclass
class Answer:
    """How a command ended.

    Attributes:
        status: Its exit status; minus the signal's number where one ended it.
        text: What it printed.
        seconds: How long it took.
        megabytes: The most memory that it held at a time.
    """

    status: int
    text: str
    seconds: float
    megabytes: float

    @property
    def error(self) -> str:
        """The line with which nfrl refuses; asserts that there is just one, and no traceback."""
        assert "Traceback" not in self.text, self.text
        lines = [line for line in self.text.splitlines() if line.startswith("nfrl: ")]
        assert self.status == 2, (self.status, self.text)
        assert len(lines) == 1, self.text
        return lines[0].removeprefix("nfrl: ")

    def succeeded(self) -> "Answer":
        """Assert that the command did what it was to do."""
        assert self.status == 0, (self.status, self.text)
        return self


class Command:
    """A process that does some work, by default the command ``nfrl`` with these words.

    Args:
        words: The words after ``nfrl``.
        log: Where it prints to.
        before: Called in the process before it begins.
        work: What it does in place of the command; returns an exit status.
    """

    def __init__(
        self,
        words: Sequence[str] = (),
        *,
        log: Path,
        before: Callable[[], object] | None = None,
        work: Callable[[], int] | None = None,
    ):
        def run() -> int:
            from nfrl.cli.main import main

            if before is not None:
                before()
            return work() if work is not None else main(list(words))

        self.log = log
        self._begun = time.monotonic()
        self._offset = log.stat().st_size if log.exists() else 0
        self.process = fork(run, log)
        self._answer: Answer | None = None

    def poll(self) -> Answer | None:
        """Return how it ended; None until it has."""
        if self._answer is None:
            process, status, usage = os.wait4(self.process, os.WNOHANG)
            if process:
                text = self.log.read_bytes()[self._offset :].decode(errors="replace")
                self._answer = Answer(
                    os.waitstatus_to_exitcode(status),
                    text,
                    time.monotonic() - self._begun,
                    usage.ru_maxrss / 1024,
                )
        return self._answer

    def wait(self, seconds: float = 100.0) -> Answer:
        """Wait until it has ended."""
        end = time.monotonic() + seconds
        while (answer := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"it hangs: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.002)
        return answer

    def kill(self) -> Answer:
        """Kill it, if it still runs (SIGKILL)."""
        if self._answer is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
        return self.wait()


def nfrl(*words: str, log: Path | None = None) -> Answer:
    """Give a command and wait until it has ended; its output goes to a file beside the case."""
    return Command(words, log=log or Path("output.log")).wait()


def said(work: Callable[[], object]) -> Callable[[], int]:
    """Return work of Python that ends as a command does, which says a UserError in a line."""

    def run() -> int:
        from nfrl.errors import UserError

        try:
            work()
        except UserError as error:
            print(f"nfrl: {error}", file=sys.stderr)
            return 2
        return 0

    return run


def call(work: Callable[[], object]) -> Answer:
    """Do some work of Python in a process of its own; a UserError is said as a command says it."""
    return Command(log=Path("output.log"), work=said(work)).wait()


def children() -> list[int]:
    """Return the processes that this one is, or has become, the parent of, and that still run."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [child for child in map(int, text.split()) if _runs(child)]


def _runs(process: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] != "Z"
    return False


def assert_alone(seconds: float = 5.0) -> None:
    """Assert that no process is left behind, giving those that notice a death time to end."""
    end = time.monotonic() + seconds
    while left := children():
        if time.monotonic() > end:
            told = {each: Path(f"/proc/{each}/cmdline").read_text() for each in left}
            raise AssertionError(f"processes were left behind: {told}")
        time.sleep(0.01)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
