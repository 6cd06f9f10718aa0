"""A task's episodes in a pool of workers: what evaluation plays. No simulator is imported here."""

from types import TracebackType

import numpy as np

from nfrl.environments.pool import Pool, WorkerError
from nfrl.errors import UserError
from nfrl.task import Task

FRAME = (200, 200, 3)
"""The shape of a picture."""


class EpisodePool:
    """Environments of a task, stepped together; use as a context manager.

    Args:
        task: Whose environment to make.
        slots: How many environments.
        workers: How many processes, at least 1: episodes seed NumPy's global generator.
        seed: The evaluation's seed, >= 0.
        every: Draw a frame every so many steps; 0 for never.

    Attributes:
        commands: (slots,) what each slot does in the next round: IDLE, STEP or RESET.
        task_ids: (slots,) the goal to reset to, from 1.
        episodes: (slots,) the episode to reset to, among those of its goal.
        actions: (slots, act) float32, in the environment's units and bounds.
        observations: (slots, obs) float32.
        goals: (slots, goal) float32; of width 0 where the task has only one.
        goal_xy: (slots, 2) float32, NaN where there is no map.
        rewards: (slots,) of the step.
        done: (slots,) whether the environment ended the episode.
        success: (slots,) whether the task is done now.
        scores: (slots,) how far the episode has come, NaN where the environment does not say.
        modes: (slots,) which of several ways it goes, -1 where the environment does not say.
        frames: (slots, 200, 200, 3) uint8, each slot's last drawn frame; only with ``every``.
        low: (act,) float32, the least value of each column of an action.
        high: (act,) float32, the largest.

    Raises:
        UserError: The task has no environment.
        WorkerError: It cannot be made, or a worker failed or died, here or in ``round``.
    """

    def __init__(self, task: Task, slots: int, workers: int, *, seed: int = 0, every: int = 0):
        if task.environment is None:
            raise UserError(f"{task.name} has no environment to act in")
        arguments = {
            "environment": task.environment,
            "observation_keys": task.observation_keys,
            "goals": task.goals,
            "seed": seed,
            "every": every,
        }
        maker = "nfrl.environments.slots:make_slots"
        try:
            self._pool = Pool(maker, arguments, slots, workers, pictures=every > 0)
        except WorkerError as error:
            # Only now is it known that the environment draws what it observes.
            if every or not ("mujoco" in error.details and "render" in error.details):
                raise
            self._pool = Pool(maker, arguments, slots, workers, pictures=True)
        arrays = self._pool.arrays
        self.commands = arrays["commands"]
        self.task_ids = arrays["task_ids"]
        self.episodes = arrays["episodes"]
        self.actions = arrays["actions"]
        self.observations = arrays["observations"]
        self.goals = arrays["goals"]
        self.goal_xy = arrays["goal_xy"]
        self.rewards = arrays["rewards"]
        self.done = arrays["done"]
        self.success = arrays["success"]
        self.scores = arrays["scores"]
        self.modes = arrays["modes"]
        self.frames = arrays.get("frames", np.empty(0, np.uint8))
        self.low, self.high = (
            np.array(self._pool.facts[bound], np.float32) for bound in ("low", "high")
        )

    def __enter__(self) -> "EpisodePool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.close()

    def round(self) -> None:
        """Let every slot do what its command says, and wait for all."""
        self._pool.round()
