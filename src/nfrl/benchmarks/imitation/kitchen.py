"""Franka Kitchen: an arm and seven things to do, of which an episode counts four.

The environment is gymnasium-robotics' ``FrankaKitchen-v1`` (Gupta et al., 2019; Fu et al., 2020);
demonstrations are Minari's ``D4RL/kitchen``, from the user's disk.
"""

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from nfrl.errors import UserError

TASKS = ("microwave", "kettle", "light switch", "slide cabinet")
"""What is counted: the four of the data sets "complete" and "mixed" (the former's, in order)."""


class Kitchen(gymnasium.Env):
    """The kitchen with 59 numbers of arm and things as its observation, and one goal.

    The score is the number of tasks completed, each at any time, over four; the mode is the number
    of the task that was completed first, -1 before that. The episode is a success at four.

    Raises:
        UserError: The package gymnasium-robotics is not installed.
    """

    def __init__(self) -> None:
        self.kitchen = open_kitchen(
            tasks_to_complete=list(TASKS), render_mode="rgb_array", width=200, height=200
        )
        self.model = self.kitchen.model
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (9,), np.float32)
        size = self.kitchen.observation_space["observation"].shape
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, size, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, dict[str, Any]]:
        # The noise on what is seen is drawn from the robot's generator; its own is not used.
        observation, info = self.kitchen.reset(seed=seed)
        goal = np.empty(0, np.float32)
        return observation["observation"].astype(np.float32), {"goal": goal, **self._progress(info)}

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        observation, reward, done, truncated, info = self.kitchen.step(action)
        seen = observation["observation"].astype(np.float32)
        return seen, float(reward), bool(done), bool(truncated), self._progress(info)

    def render(self) -> NDArray:
        """Draw the present state: (200, 200, 3) uint8."""
        return self.kitchen.render()

    def _progress(self, info: dict[str, Any]) -> dict[str, Any]:
        completed = [TASKS.index(task) for task in info["episode_task_completions"]]
        return {
            "success": len(completed) == len(TASKS),
            "score": len(completed) / len(TASKS),
            "order": tuple(completed),
            "mode": completed[0] if completed else -1,
        }


def open_kitchen(**settings: Any) -> Any:
    """Make gymnasium-robotics' environment.

    Raises:
        UserError: The package is not installed.
    """
    try:
        from gymnasium_robotics.envs.franka_kitchen import KitchenEnv
        from gymnasium_robotics.utils import mujoco_utils
    except ImportError as error:
        raise UserError(
            f"the kitchen needs gymnasium-robotics ({error}): pip install 'nfrl[imitation]'"
        ) from None
    if not isinstance(mujoco_utils.mujoco, _Numbered):
        mujoco_utils.mujoco = _Numbered(mujoco_utils.mujoco)
    return KitchenEnv(**settings)


class _Numbered:
    """The module mujoco, with the kinds of joints as the numbers that they are.

    gymnasium-robotics 1.4.2 compares MuJoCo's kinds with numbers of NumPy's, from the side on which
    MuJoCo (3.17 and 4.0 were seen to) takes them for different, and fails an assertion.
    """

    def __init__(self, mujoco: Any):
        self._mujoco = mujoco
        kinds = mujoco.mjtJoint.__members__
        self.mjtJoint = SimpleNamespace(**{name: int(kind) for name, kind in kinds.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mujoco, name)
