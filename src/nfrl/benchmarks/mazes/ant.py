"""A four-legged ant, simulated by Brax ("spring" pipeline), in a maze of boxes."""

import dataclasses
import importlib
from importlib.resources import files
from typing import Any, ClassVar
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.benchmarks.mazes.layouts import CELL, Layout
from nfrl.errors import UserError

WALL_HEIGHT = 0.5 * CELL
RESET_NOISE = 0.1
"""Half-width of the noise on the first pose, and deviation of that on the first velocities."""

FEET = ("left_foot_geom", "right_foot_geom", "third_foot_geom", "fourth_foot_geom")
SOLID = ("torso_geom", *(f"aux_{leg}_geom" for leg in range(1, 5)), *FEET)
"""Parts of the ant that no wall lets through."""


@dataclasses.dataclass(frozen=True)
class AntRobot:
    """Brax's ant, ten frames of 5 ms a step; nothing ends an episode early, not even a fall.

    A step is 0.05 s. An observation is q (the torso's x, y, z and quaternion, and 8 joint angles)
    and then its velocity.

    Raises:
        UserError: Brax, the extra ``online``, is not installed.
    """

    layout: Layout
    frames: int = 10
    """Simulated frames a step."""
    frame_seconds: float = 0.005
    """Length of a frame."""
    episode_length: int = 1000
    """Steps of an episode."""

    observation_dim: ClassVar[int] = 29
    action_dim: ClassVar[int] = 8

    _pipeline: Any = dataclasses.field(init=False, repr=False, compare=False)
    _system: Any = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self):
        pipeline, mjcf = _brax("brax.spring.pipeline"), _brax("brax.io.mjcf")
        system = mjcf.loads(maze_xml(self.layout))
        system = system.tree_replace({"opt.timestep": self.frame_seconds})
        object.__setattr__(self, "_pipeline", pipeline)
        object.__setattr__(self, "_system", system)

    def reset(self, key: PRNGKeyArray) -> Any:
        """Begin near the start cell's centre, almost standing and almost at rest."""
        pose_key, velocity_key = jr.split(key)
        start = jnp.asarray(self.layout.centres((self.layout.start,))[0])
        pose = jnp.asarray(self._system.init_q).at[:2].set(start)
        pose += jr.uniform(pose_key, pose.shape, minval=-RESET_NOISE, maxval=RESET_NOISE)
        velocity = RESET_NOISE * jr.normal(velocity_key, (self._system.qd_size(),))
        return self._pipeline.init(self._system, pose, velocity)

    def step(self, state: Any, action: Float[Array, "8"]) -> Any:
        """Simulate one step under torques, clipped to [-1, 1]."""
        action = jnp.clip(action, -1, 1)

        def frame(state: Any, _: None) -> tuple[Any, None]:
            return self._pipeline.step(self._system, state, action), None

        return jax.lax.scan(frame, state, None, length=self.frames)[0]

    def observation(self, state: Any) -> Float[Array, "29"]:
        """Return (q, qd)."""
        return jnp.concatenate((state.q, state.qd))


def maze_xml(layout: Layout) -> str:
    """Return Brax's ant (MJCF) with boxes for its walls.

    Of Brax's ant only the feet touch anything, and only the floor. In a maze the torso, the upper
    legs and the feet touch walls and each other, as in JaxGCRL's (Bortkiewicz et al., 2025).
    """
    _brax("brax")
    model = ElementTree.fromstring((files("brax") / "envs/assets/ant.xml").read_text())
    world = model.find("worldbody")
    assert world is not None
    for geom in world.iter("geom"):
        if geom.get("name") in SOLID:
            geom.set("conaffinity", "1")
    height = WALL_HEIGHT / 2
    # Few long boxes in place of one for each cell: every pair of a part and a box costs time.
    for (top, left), (bottom, right) in layout.blocks:
        box = {
            "name": f"wall_{top}_{left}",
            "type": "box",
            "pos": f"{(top + bottom) * CELL / 2} {(left + right) * CELL / 2} {height}",
            "size": f"{(bottom - top + 1) * CELL / 2} {(right - left + 1) * CELL / 2} {height}",
            "contype": "1",
            "conaffinity": "1",
        }
        ElementTree.SubElement(world, "geom", box)
    return ElementTree.tostring(model, encoding="unicode")


def _brax(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the ant needs Brax, which cannot be imported ({error}): pip install 'nfrl[online]'"
        ) from error
