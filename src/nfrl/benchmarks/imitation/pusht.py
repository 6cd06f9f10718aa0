"""PushT: a disc pushes a T-shaped block onto its mark (Chi et al., 2023; Florence et al., 2022).

The physics, the starts and the score are those of the package ``gym-pusht``. Its block has no
momentum: it moves only while it is pushed, and only along the contact's normal (no friction).
"""

import dataclasses
import warnings
from typing import Any, TypeVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from nfrl.errors import UserError
from nfrl.spec import ActionSpec

Trajectories = TypeVar("Trajectories", bound=Any)
"""As :class:`nfrl.data.trajectories.Trajectories`; a simulator needs no readers of data."""

SIZE = 512.0
"""Side of the arena, in pixels, the unit of length here."""

KEYPOINTS = np.array(
    [(-60, 0), (60, 0), (60, 30), (-60, 30), (-15, 30), (15, 30), (15, 120), (-15, 120), (0, 45)],
    np.float64,
)
"""The block's keypoints in its own frame: the corners of its two rectangles, and its centre."""

GOAL_POSE = np.array([256.0, 256.0, np.pi / 4])
"""Where the block is to be: x, y, angle."""


class PushT(gymnasium.Env):
    """PushT with keypoints and the disc's place as its observation, and one goal.

    An observation has 20 numbers in pixels: nine keypoints of the block, x and y each, and the
    disc's x and y. An action in [-1, 1] is the place that the disc is drawn to, a tenth of a second
    long, in units of half the arena from its centre. The score is the share of the mark that the
    block covers; the episode is a success once that exceeds 0.95.

    Raises:
        UserError: The package gym-pusht is not installed.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2 * len(KEYPOINTS) + 2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self) -> None:
        self.physics = open_physics()
        # A new space for each instance, as its seed is set by whoever plays.
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, dict[str, Any]]:
        self.physics.reset(seed=seed)
        goal = np.empty(0, np.float32)
        return self._observation(), {"goal": goal, **self._info(self.physics._get_coverage())}

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        _, reward, done, _, info = self.physics.step(to_pixels(np.asarray(action, np.float64)))
        return self._observation(), float(reward), bool(done), False, self._info(info["coverage"])

    def render(self) -> NDArray:
        """Draw the present state: (200, 200, 3) uint8."""
        self.physics.visualization_width = self.physics.visualization_height = 200
        return self.physics.render()

    def _observation(self) -> NDArray:
        return observation(self.state())

    def _info(self, coverage: float) -> dict[str, Any]:
        return {
            "success": bool(coverage > self.physics.success_threshold),
            "score": float(min(coverage, 1.0)),
            "state": self.state(),
        }

    def state(self) -> NDArray:
        """The disc's x and y and the block's x, y and angle, in pixels and radians: (5,)."""
        agent, block = self.physics.agent, self.physics.block
        return np.array([*agent.position, *block.position, block.angle])


def open_physics() -> Any:
    """Make gym-pusht's environment, which holds the physics.

    Raises:
        UserError: The package is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pygame, about setuptools
            from gym_pusht.envs.pusht import PushTEnv
    except ImportError as error:
        raise UserError(f"PushT needs gym-pusht ({error}): pip install 'nfrl[imitation]'") from None
    return PushTEnv(render_mode="rgb_array")


def keypoints(pose: NDArray) -> NDArray:
    """Return where the block's keypoints are.

    Args:
        pose: (..., 3) x and y in pixels, angle in radians.

    Returns:
        (..., 9, 2) in pixels.
    """
    x, y = KEYPOINTS.T
    cos, sin = (function(pose[..., 2:3]) for function in (np.cos, np.sin))
    rotated = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    return rotated + pose[..., None, :2]


def observation(state: NDArray) -> NDArray:
    """Return what the environment shows of a state.

    Args:
        state: (..., 5) as in Diffusion Policy's ``data/state``: the disc's x and y, the block's x,
            y and angle.

    Returns:
        (..., 20) float32.
    """
    points = keypoints(state[..., 2:])
    flat = points.reshape(*points.shape[:-2], -1)
    return np.concatenate([flat, state[..., :2]], axis=-1).astype(np.float32)


def to_pixels(action: NDArray) -> NDArray:
    """Return the place in pixels that an action in [-1, 1] stands for."""
    return (action + 1) * (SIZE / 2)


def from_pixels(place: NDArray) -> NDArray:
    """Return the action that stands for a place in pixels, as recorded by gym-pusht."""
    return place / (SIZE / 2) - 1


def actions_of(recorded: NDArray) -> NDArray:
    """Return actions in [-1, 1] of ones that were recorded as such, or as places in pixels."""
    return from_pixels(recorded) if np.abs(recorded).max() > 2 else recorded


def adapt(trajectories: Trajectories) -> Trajectories:
    """Return demonstrations with actions in [-1, 1]; published ones give places in pixels.

    Args:
        trajectories: With ``actions``, and the ``spec`` that has their bounds.
    """
    actions = actions_of(trajectories.actions)
    spec = dataclasses.replace(trajectories.spec, action=ActionSpec.unit(actions.shape[1]))
    return dataclasses.replace(trajectories, actions=actions, spec=spec)
