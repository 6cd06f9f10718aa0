"""The parent's side of the worker processes: start them, run rounds, end them."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from nfrl.environments.worker import FAILED, IDLE, READY, Config, shared_arrays
from nfrl.errors import UserError
from nfrl.task import Task


class WorkerError(UserError):
    """A worker process failed; its traceback, where it left one, is in ``details``."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details
        if details:
            self.add_note(f"In the worker:\n{details}")


class Pool:
    """Environment slots in worker processes, stepped together.

    A worker is a fresh interpreter that knows nothing of the caller's: no JAX, no re-run of the
    caller's main module (so scripts need no ``if __name__ == "__main__"``), one thread for linear
    algebra. Use as a context manager; leaving it ends the workers, whatever happened.

    Args:
        task: Whose environment to make.
        slots: How many environments.
        workers: How many processes; no more than slots are started.
        seed: The evaluation's seed, >= 0.
        every: Draw a frame every so many steps; 0 for never.

    Attributes:
        commands: (slots,) what each slot does in the next round: IDLE, STEP or RESET.
        task_ids: (slots,) the goal to reset to, from 1.
        episodes: (slots,) the episode to reset to, among those of its goal.
        actions: (slots, act) float32, in [-1, 1].
        observations: (slots, obs) float32.
        goals: (slots, goal) float32; of width 0 where the task has only one.
        goal_xy: (slots, 2) float32, NaN outside mazes.
        done: (slots,) whether the environment ended the episode.
        success: (slots,) whether the goal is reached.
        scores: (slots,) how far the episode has come, NaN where the environment does not say.
        modes: (slots,) which of several ways it goes, -1 where the environment does not say.
        frames: (slots, 200, 200, 3) uint8, each slot's last drawn frame; only with ``every``.

    Raises:
        WorkerError: A worker failed or died, here or in ``round``.
    """

    def __init__(self, task: Task, slots: int, workers: int, *, seed: int = 0, every: int = 0):
        workers = min(workers, slots)
        # Memory-backed where there is such a place: nothing here is meant for a disk.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._directory = tempfile.TemporaryDirectory(
            prefix="nfrl-", dir=place, ignore_cleanup_errors=True
        )
        configs = [
            Config(task.environment, slots, first, workers, seed, self._directory.name, every)
            for first in range(workers)
        ]
        self._workers: list[subprocess.Popen] = []
        self._shares = [slice(first, None, workers) for first in range(workers)]
        try:
            for config in configs:
                self._workers.append(_start(config))
            sizes = [self._await_sizes(worker) for worker in self._workers]
            arrays = shared_arrays(configs[0], *sizes[0], create=True)
            self._exchange(self._workers)
        except BaseException:
            self.close()
            raise
        self.commands = arrays["commands"]
        self.task_ids = arrays["task_ids"]
        self.episodes = arrays["episodes"]
        self.actions = arrays["actions"]
        self.observations = arrays["observations"]
        self.goals = arrays["goals"]
        self.goal_xy = arrays["goal_xy"]
        self.done = arrays["done"]
        self.success = arrays["success"]
        self.scores = arrays["scores"]
        self.modes = arrays["modes"]
        self.frames = arrays.get("frames", np.empty(0, np.uint8))

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
        self._exchange(
            [
                worker
                for worker, share in zip(self._workers, self._shares, strict=True)
                if (self.commands[share] != IDLE).any()
            ]
        )

    def close(self) -> None:
        """End the workers and remove what they shared. May be called twice."""
        for worker in self._workers:
            assert worker.stdin is not None
            with contextlib.suppress(OSError):
                worker.stdin.close()
        for worker in self._workers:
            try:
                worker.wait(timeout=2)
            except subprocess.TimeoutExpired:  # in a long compilation, perhaps
                worker.kill()
                worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
        self._workers.clear()
        self._directory.cleanup()

    def _exchange(self, workers: list[subprocess.Popen]) -> None:
        for worker in workers:
            assert worker.stdin is not None
            # A worker that has died says so when its answer is read.
            with contextlib.suppress(BrokenPipeError):
                os.write(worker.stdin.fileno(), b"\n")
        for worker in workers:
            self._await(worker)

    def _await_sizes(self, worker: subprocess.Popen) -> list[int]:
        self._await(worker)
        assert worker.stdout is not None
        return json.loads(worker.stdout.readline())

    def _await(self, worker: subprocess.Popen) -> None:
        assert worker.stdout is not None
        answer = os.read(worker.stdout.fileno(), 1)
        if answer == READY:
            return
        if answer == FAILED:
            details = worker.stdout.read().decode(errors="replace").strip()
            last = details.rsplit("\n", 1)[-1]
            raise WorkerError(f"an environment worker failed: {last}", details)
        raise WorkerError(f"an environment worker died (exit status {worker.wait()})")


def _start(config: Config) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(place).absolute()) for place in sys.path),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # Without pictures MuJoCo needs no graphics library, and must not fail for want of one.
        "MUJOCO_GL": _graphics() if config.every else "disable",
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


def _graphics() -> str:
    """The rendering back end for a worker that draws."""
    chosen = os.environ.get("MUJOCO_GL", "")
    headless = sys.platform == "linux" and not os.environ.get("DISPLAY")
    return chosen or ("egl" if headless else "")
