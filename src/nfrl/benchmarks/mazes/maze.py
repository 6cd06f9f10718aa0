"""What a maze is: a robot in a layout."""

import dataclasses

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nfrl.benchmarks.mazes import pictures
from nfrl.benchmarks.mazes.layouts import MAZES, Layout
from nfrl.benchmarks.mazes.point import PointRobot
from nfrl.errors import unknown_name
from nfrl.interfaces.explorer import Explorer, Robot

SUCCESS_RADIUS = 0.5
EASY_RADIUS = 2.0
"""How near to a goal counts as reaching it, and as nearly reaching it, in units of length."""
GOAL_DIM = 2


@dataclasses.dataclass(frozen=True)
class Maze:
    """A robot in a layout: a :class:`nfrl.interfaces.explorer.World`."""

    name: str
    layout: Layout
    robot: Robot

    radii = (SUCCESS_RADIUS, EASY_RADIUS)

    @property
    def goals(self) -> Float[np.ndarray, "goals 2"]:
        """The evaluation goals."""
        return self.layout.goals

    @property
    def is_far(self) -> Bool[np.ndarray, " goals"]:
        """Which of them count as hard."""
        return self.layout.is_far

    @property
    def free(self) -> Bool[np.ndarray, "rows columns"]:
        """Which cells are no walls."""
        return ~self.layout.walls

    def goal_of(self, observation: Float[Array, "*batch observation"]) -> Float[Array, "*batch 2"]:
        """Return the goal that a state reaches: its position."""
        return goal_of(observation)

    def cell_of(self, place: Float[Array, "*batch 2"]) -> Int[Array, "*batch 2"]:
        """Return the (row, column) that a place lies in."""
        return self.layout.cell_of(place)

    def snapshot(
        self,
        agent: Explorer,
        goals: Float[Array, "environments 2"],
        visits: Int[Array, "rows columns"],
    ) -> dict[str, Array]:
        """See :func:`nfrl.benchmarks.mazes.pictures.snapshot`."""
        return pictures.snapshot(agent, goals, visits, self.layout, self.robot)

    def frame(self) -> dict[str, np.ndarray]:
        """See :func:`nfrl.benchmarks.mazes.pictures.frame`."""
        return pictures.frame(self.layout)


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
