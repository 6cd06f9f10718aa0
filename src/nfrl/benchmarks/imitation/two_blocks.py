"""Two blocks to two places, in either order, with OGBench's UR5e (in place of UR3 BlockPush).

The problem of the paper's UR3 BlockPush, whose environment is not distributed: OGBench's
``cube-double`` with one pair of targets, and blocks that start somewhere before them. Which block
is moved first is for the arm to choose.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from ogbench.manipspace.envs.cube_env import CubeEnv

STARTS = np.array([[0.35, -0.1, 0.02], [0.35, 0.1, 0.02]])
"""Where the blocks start, in metres, give or take ``SPREAD`` along x and y."""

TARGETS = np.array([[0.5, -0.1, 0.02], [0.5, 0.1, 0.02]])
"""Where each block is to be."""

SPREAD = 0.04


class TwoBlocks(CubeEnv):
    """``cube-double`` with one task; mirror-symmetric but for the blocks' colours.

    The score is the number of blocks on their places (within 4 cm, as OGBench counts), halved; the
    mode is the number of the block that was placed first, -1 before that.
    """

    _reward_task_id: int | None

    def __init__(self, **settings: Any):
        self._order: list[int] = []
        super().__init__(env_type="double", permute_blocks=False, **settings)

    def set_tasks(self) -> None:
        self.task_infos = [{"task_name": "both", "init_xyzs": STARTS, "goal_xyzs": TARGETS}]
        if self._reward_task_id == 0:
            self._reward_task_id = 1

    def initialize_episode(self) -> None:
        offsets = np.zeros_like(STARTS)
        offsets[:, :2] = self.np_random.uniform(-SPREAD, SPREAD, size=(2, 2))
        self.cur_task_info = {**self.task_infos[0], "init_xyzs": STARTS + offsets}
        super().initialize_episode()

    def reset(self, *args: Any, **kwargs: Any) -> tuple[NDArray, dict[str, Any]]:
        observation, info = super().reset(*args, **kwargs)
        self._order = []
        return observation, info | self._progress() | {"goal": np.empty(0, np.float32)}

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, info | self._progress()

    def _progress(self) -> dict[str, Any]:
        placed = np.flatnonzero(self._compute_successes())
        self._order += [int(block) for block in placed if block not in self._order]
        return {
            "success": len(placed) == 2,
            "score": len(placed) / 2,
            "order": tuple(self._order),
            "mode": self._order[0] if self._order else -1,
        }
