"""Commands on this machine, a few at a time, each on processor cores of its own.

Networks this small use one core well and two badly: two runs beside each other, a core each, are
done sooner than one after the other on both.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import ClassVar

from nfrl.launch.launcher import Command, Start

# Becomes the command. POSIX only; elsewhere the command is started as it is. A program of its own,
# since this process may have threads (JAX's) with whose locks a fork that runs Python would hang.
_LAUNCH = """
import os, signal, sys
cores, parent = sys.argv[1:3]
# A shell ignores it in what it starts in the background, and Ray blocks it in its workers: children
# inherit both.
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
if cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
if parent and sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):
        sys.exit(1)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclasses.dataclass(frozen=True)
class LocalLauncher:
    """Runs commands on this machine. It has no options of its own."""

    at_once: ClassVar[int] = 1

    def lanes(self) -> int:
        return os.cpu_count() or 1

    def cores(self, lanes: int) -> int:
        return max((os.cpu_count() or 1) // lanes, 1)

    @contextlib.contextmanager
    def open(self, lanes: int) -> Iterator[Start]:
        shares = share_cores(lanes)
        running: dict[int, Process] = {}

        def begin(commands: Sequence[Command]) -> list[Process]:
            (command,) = commands
            free = (i for i in range(lanes) if i not in running or running[i].poll() is not None)
            lane = next(free)
            running[lane] = Process(command, cores=shares[lane], with_us=True)
            return [running[lane]]

        yield begin


def share_cores(lanes: int) -> list[set[int]]:
    """Share the cores that this process may use among lanes, as evenly as can be.

    More lanes than cores take turns on them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return [set(cores[i % len(cores) :: lanes]) or {cores[i % len(cores)]} for i in range(lanes)]


class Process:
    """A command that runs on this machine.

    Args:
        command: The command. Its log is written anew.
        cores: The cores it may use; any, if there are none among them.
        folder: Where it runs; by default here.
        environment: Its variables; by default this process's.
        append: Keep what the log holds.
        with_us: Kill it when this process ends, however that may be (Linux).
    """

    def __init__(
        self,
        command: Command,
        *,
        cores: Collection[int] = (),
        folder: str | None = None,
        environment: Mapping[str, str] | None = None,
        append: bool = False,
        with_us: bool = False,
    ):
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab" if append else "wb") as file:
            self._process = subprocess.Popen(
                _words(command.words, cores, os.getpid() if with_us else None),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to pass on, once
                cwd=folder,
                env=environment,
            )

    def poll(self) -> int | None:
        """Return its exit status; None until it ends."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        return self._process.wait()

    def interrupt(self) -> None:
        """Ask it to stop, as by Ctrl-C."""
        if os.name == "posix":
            self._process.send_signal(signal.SIGINT)
        else:  # Windows sends no such signal to another process; a run goes on from its checkpoint
            self._process.terminate()


def _words(command: Sequence[str], cores: Collection[int], parent: int | None = None) -> list[str]:
    """Return what is started for a command."""
    if os.name != "posix":  # Windows: execvp starts another process there, and ends this one
        return list(command)
    given = (",".join(map(str, cores)), "" if parent is None else str(parent))
    return [sys.executable, "-I", "-c", _LAUNCH, *given, *command]
