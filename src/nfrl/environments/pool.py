"""The one pool of worker processes: start them, play rounds, end them."""

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from nfrl.environments import worker
from nfrl.environments.worker import FAILED, IDLE, READY, REFUSED, Arrays, Config
from nfrl.errors import UserError
from nfrl.files import temporary_folder

ANSWER_SECONDS = 900.0
"""How long a round may take: more than any simulator needs, also one that compiles first."""


class WorkerError(UserError):
    """A worker process failed; its traceback, where it left one, is in ``details``."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details
        if details:
            self.add_note(f"In the worker:\n{details}")


class Pool:
    """Slots that are played together, in worker processes or in this one.

    What a slot is, its maker says (:class:`nfrl.environments.worker.Slot`). A slot's outcome must
    not depend on who its neighbours are; then it does not depend on the number of workers either.

    A worker is a fresh interpreter that knows nothing of the caller's but ``sys.path`` and the
    working folder: no JAX, no re-run of the caller's main module (so scripts need no
    ``if __name__ == "__main__"``), one thread for linear algebra. Use as a context manager; leaving
    it ends the workers, whatever happened.

    Args:
        maker: ``package.module:function``, called with a worker's slots' numbers and with
            ``arguments``; it returns the slots.
        arguments: JSON can say them.
        slots: How many.
        workers: How many processes; no more than slots are started; 0 to play in this one.
        pictures: Whether slots draw; without, MuJoCo needs no graphics library.

    Attributes:
        arrays: What the slots' layout says, each with a first axis for slots.
        commands: (slots,) uint8, what each does in the next round.
        facts: What the slots say of themselves.

    Raises:
        WorkerError: A worker failed or died, here or in ``round``.
    """

    def __init__(
        self,
        maker: str,
        arguments: Mapping[str, Any],
        slots: int,
        workers: int,
        *,
        pictures: bool = False,
    ):
        self._workers: list[subprocess.Popen] = []
        self._shares: list[slice] = []
        self._here: list[tuple[worker.Slot, Arrays]] = []
        self._files = contextlib.ExitStack()
        self.facts: Mapping[str, Any]
        if workers == 0:
            made = worker.make(maker, range(slots), arguments)
            self.arrays = worker.make_arrays(made[0].layout, slots)
            self._here = [(slot, worker.rows(self.arrays, i)) for i, slot in enumerate(made)]
            self.facts = made[0].facts
        else:
            self._begin(maker, arguments, slots, min(workers, slots), pictures)
        self.commands = self.arrays["commands"]

    def _begin(
        self, maker: str, arguments: Mapping[str, Any], slots: int, workers: int, pictures: bool
    ) -> None:
        # Memory-backed where there is such a place: nothing here is meant for a disk.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        shared = str(self._files.enter_context(temporary_folder("nfrl-pool-", place)))
        try:
            for first in range(workers):
                config = Config(maker, arguments, slots, first, workers, shared)
                self._workers.append(_start(config, pictures))
                self._shares.append(slice(first, None, workers))
            told = [self._await_line(each) for each in self._workers]
            self.arrays = worker.make_arrays(told[0]["layout"], slots, shared, create=True)
            self.facts = told[0]["facts"]
            self._exchange(self._workers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def round(self) -> None:
        """Let every slot do what its command says, and wait for all."""
        worker.play(self._here)
        self._exchange(
            [
                each
                for each, share in zip(self._workers, self._shares, strict=True)
                if (self.commands[share] != IDLE).any()
            ]
        )

    def close(self) -> None:
        """End the workers and remove what they shared. May be called twice."""
        for each in self._workers:
            assert each.stdin is not None
            with contextlib.suppress(OSError):
                each.stdin.close()
        for each in self._workers:
            try:
                each.wait(timeout=2)
            except subprocess.TimeoutExpired:  # in a long compilation, perhaps
                each.kill()
                each.wait()
            assert each.stdout is not None
            each.stdout.close()
        self._workers.clear()
        self._shares.clear()
        self._here.clear()
        self._files.close()

    def _exchange(self, workers: list[subprocess.Popen]) -> None:
        for each in workers:
            assert each.stdin is not None
            # A worker that has died says so when its answer is read.
            with contextlib.suppress(OSError):
                os.write(each.stdin.fileno(), b"\n")
        for each in workers:
            self._await(each)

    def _await_line(self, each: subprocess.Popen) -> dict[str, Any]:
        self._await(each)
        assert each.stdout is not None
        return json.loads(each.stdout.readline())

    def _await(self, each: subprocess.Popen) -> None:
        assert each.stdout is not None
        # Windows waits for no pipe.
        if os.name == "posix" and not select.select([each.stdout], [], [], ANSWER_SECONDS)[0]:
            each.kill()
            raise WorkerError(
                f"an environment worker has not answered for {ANSWER_SECONDS:.0f} s, and was "
                "stopped: does the environment hang in reset or step?"
            )
        answer = os.read(each.stdout.fileno(), 1)
        if answer == READY:
            return
        if answer in (FAILED, REFUSED):
            details = each.stdout.read().decode(errors="replace").strip()
            if answer == REFUSED:
                raise WorkerError(details)
            said, _, details = details.partition("\n")
            raise WorkerError(f"an environment worker failed: {said}", details)
        status = each.wait()
        hint = "; out of memory? try fewer workers" if status == -9 else ""
        raise WorkerError(f"an environment worker died (exit status {status}{hint})")


def _start(config: Config, pictures: bool = False) -> subprocess.Popen:
    # The working folder last: what a user keeps there is found, and hides nothing.
    path = [str(Path(place).absolute()) for place in (*sys.path, "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # Without pictures MuJoCo needs no graphics library, and must not fail for want of one.
        "MUJOCO_GL": graphics() if pictures else "disable",
    }
    environment.pop("PYOPENGL_PLATFORM", None)  # follows MUJOCO_GL
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "nfrl.environments.worker"),
            json.dumps(dataclasses.asdict(config)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
        cwd=config.directory,  # MuJoCo writes its log to where it runs
        start_new_session=True,  # Ctrl-C is for the parent
    )


def graphics() -> str:
    """The rendering back end for a worker that draws."""
    chosen = os.environ.get("MUJOCO_GL", "")
    headless = sys.platform == "linux" and not os.environ.get("DISPLAY")
    return chosen or ("egl" if headless else "")
