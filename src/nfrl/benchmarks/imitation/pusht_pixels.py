"""PushT from pixels: what gym-pusht draws, 96 x 96, and the disc's place.

The demonstrations are PushT's own. Their states are drawn when they are read, which takes a
millisecond or two each and no graphics card.
"""

import dataclasses
from typing import Any, TypeVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from nfrl.benchmarks.imitation.pusht import PushT, adapt, open_physics
from nfrl.data.packed import pack
from nfrl.errors import UserError
from nfrl.progress import progress
from nfrl.spec import ArraySpec, Spec

Trajectories = TypeVar("Trajectories", bound=Any)
"""As :class:`nfrl.data.trajectories.Trajectories`; a simulator needs no readers of data."""

SIDE = 96
"""Height and width of a picture, in pixels."""
PLACE, PIXELS = "agent_pos", "pixels"
STATES = "qpos"
"""What demonstrations call the disc's x and y and the block's x, y and angle."""


class PushTPixels(PushT):
    """PushT with a picture and the disc's place as its observation; see :class:`PushT`.

    An observation is a dictionary: ``pixels``, (96, 96, 3) uint8, and ``agent_pos``, the disc's x
    and y in pixels of the arena.
    """

    observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
        {
            PLACE: gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            PIXELS: gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self._canvas = Canvas()

    def _observation(self) -> dict[str, NDArray]:  # type: ignore[override]
        state = self.state()
        return {PLACE: state[:2].astype(np.float32), PIXELS: self._canvas.draw(state)}


class Canvas:
    """Draws states as gym-pusht shows them to a policy, but for the red dots of contacts.

    Those are the physics' last contacts, which a state does not tell.
    """

    def __init__(self) -> None:
        self._physics = open_physics()
        self._physics._setup()
        self._physics.observation_width = self._physics.observation_height = SIDE

    def draw(self, state: NDArray) -> NDArray[np.uint8]:
        """Draw a state: the disc's x and y and the block's x, y and angle; (96, 96, 3)."""
        physics, (x, y, *pose) = self._physics, map(float, state)
        physics.agent.position = (x, y)
        physics.block.angle = pose[2]
        physics.block.position = (pose[0], pose[1])
        for body in (physics.agent, physics.block):
            physics.space.reindex_shapes_for_body(body)
        picture: NDArray[np.uint8] = physics._render(visualize=False)
        return picture


def adapt_to_pixels(trajectories: Trajectories) -> Trajectories:
    """Return demonstrations as :class:`PushTPixels` shows them.

    Args:
        trajectories: Demonstrations of PushT with their states (``qpos``), as nfrl makes them.

    Raises:
        UserError: There are no states to draw.
    """
    trajectories = adapt(trajectories)
    if trajectories.spec.has_images:
        return trajectories
    states = trajectories.extras.get(STATES)
    if states is None or states.shape[1:] != (5,):
        raise UserError(
            f"PushT from pixels draws the states of demonstrations, and these have no {STATES}: "
            "make some with `nfrl data make pusht`, or name images of yours with --observation-keys"
        )
    pictures = np.empty((len(states), SIDE, SIDE, 3), np.uint8)
    with progress("drawing PushT", len(states), "pictures") as update:
        canvas = Canvas()
        for row, state in enumerate(states):
            pictures[row] = canvas.draw(state)
            if row % 100 == 0:
                update(row, "")
    packed = pack([states[:, :2], pictures])
    finals = trajectories.ends + np.arange(len(trajectories.ends))
    observation = {PLACE: ArraySpec((2,)), PIXELS: ArraySpec((SIDE, SIDE, 3), "uint8")}
    spec = Spec(observation, trajectories.spec.action)
    if len(states) == trajectories.transitions:
        return dataclasses.replace(
            trajectories, observations=packed, spec=spec, final_observations=None
        )
    return dataclasses.replace(
        trajectories,
        observations=np.delete(packed, finals, axis=0),
        final_observations=packed[finals],
        spec=spec,
    )
