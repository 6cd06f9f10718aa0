"""Multimodal Ant: four corner targets, to be visited in any order.

The ant of OGBench on an open floor. An observation has 41 numbers: the ant's 15 positions and 14
velocities, the four targets' x and y, and whether each has been reached (0 or 1).
"""

import itertools
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from ogbench.locomaze.ant import AntEnv

TARGETS = np.array([[5.0, 5.0], [-5.0, 5.0], [-5.0, -5.0], [5.0, -5.0]])
"""Where the targets are, in metres; the ant starts between them."""

REACHED = 1.0
"""Metres from a target within which it counts as reached."""

ORDERS = tuple(itertools.permutations(range(len(TARGETS))))
"""The 24 orders, by their mode."""


class MultimodalAnt(AntEnv):
    """An ant and four targets; the score is the share of targets reached, the mode their order.

    Args:
        terminate_at_goal: Whether reaching the last target ends an episode.
        settings: Of OGBench's ant.
    """

    def __init__(self, terminate_at_goal: bool = True, **settings: Any):
        self._terminates = terminate_at_goal
        self._order: list[int] = []
        super().__init__(**settings)
        self.observation_space = Box(-np.inf, np.inf, shape=(41,), dtype=np.float64)

    def reset(self, *args: Any, **kwargs: Any) -> tuple[NDArray, dict[str, Any]]:
        self._order = []
        super().reset(*args, **kwargs)
        return self.get_ob(), self._progress() | {"goal": np.empty(0, np.float32)}

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        _, _, _, _, info = super().step(action)
        near = np.linalg.norm(TARGETS - self.get_xy(), axis=1) <= REACHED
        new = [int(target) for target in np.flatnonzero(near) if target not in self._order]
        self._order += new
        progress = self._progress()
        over = self._terminates and progress["success"]
        return self.get_ob(), float(len(new)), over, False, info | progress

    def get_ob(self) -> NDArray:
        reached = np.isin(np.arange(len(TARGETS)), self._order)
        return np.concatenate((super().get_ob(), TARGETS.ravel(), reached))

    def _progress(self) -> dict[str, Any]:
        success = len(self._order) == len(TARGETS)
        return {
            "success": success,
            "score": len(self._order) / len(TARGETS),
            "order": tuple(self._order),
            "mode": ORDERS.index(tuple(self._order)) if success else -1,
        }
