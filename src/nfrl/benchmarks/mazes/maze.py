"""What a maze is: a robot in a layout."""

import dataclasses
from typing import Any, Protocol

from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.benchmarks.mazes.layouts import MAZES, Layout
from nfrl.benchmarks.mazes.point import PointRobot
from nfrl.errors import unknown_name

SUCCESS_RADIUS = 0.5
EASY_RADIUS = 2.0
"""How near to a goal counts as reaching it, and as nearly reaching it, in units of length."""
GOAL_DIM = 2


class Robot(Protocol):
    """A simulator as pure functions of one robot's state; batching is ``vmap``."""

    @property
    def observation_dim(self) -> int:
        """Width of an observation, whose first two coordinates are the position (x, y)."""

    @property
    def action_dim(self) -> int:
        """Width of an action in [-1, 1]."""

    @property
    def episode_length(self) -> int:
        """Steps of an episode, which nothing ends before."""

    def reset(self, key: PRNGKeyArray) -> Any:
        """Return a state to begin an episode from."""

    def step(self, state: Any, action: Float[Array, " action"]) -> Any:
        """Return the state one step later."""

    def observation(self, state: Any) -> Float[Array, " observation"]:
        """Return what the agent sees of a state."""
        ...


@dataclasses.dataclass(frozen=True)
class Maze:
    """A robot in a layout."""

    name: str
    layout: Layout
    robot: Robot


def find_maze(name: str) -> Maze:
    """Return the maze of a name.

    Raises:
        UserError: There is none of this name, and the message gives the nearest; or the ant's
            simulator, the extra ``online``, is not installed.
    """
    if name not in MAZES:
        raise unknown_name("maze", name, MAZES)
    robot, layout = MAZES[name]
    if robot == "ant":
        # Imported here: the point robot needs no simulator.
        from nfrl.benchmarks.mazes.ant import AntRobot

        return Maze(name, layout, AntRobot(layout))
    return Maze(name, layout, PointRobot(layout))


def goal_of(observation: Float[Array, "*batch observation"]) -> Float[Array, "*batch 2"]:
    """Return the goal that a state reaches: its position."""
    return observation[..., :GOAL_DIM]
