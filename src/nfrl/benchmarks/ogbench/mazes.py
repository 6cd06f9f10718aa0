"""Maze data: the maze's own shortest paths, walked by a noisy point, ant or humanoid.

Source: OGBench (Park et al., 2025). ``navigate`` goes to one random goal after another, ``stitch``
to a single one four cells away, so that no trajectory crosses the maze, and ``explore`` nowhere: it
takes a new random direction every ten steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.collect.expert_policy import load_expert
from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import Episode, EpisodeRecorder, open_environment, seed_everything

Cell = tuple[int, int]
Walk = Callable[[NDArray, NDArray], NDArray]
"""From an observation and the unit vector to go along to an action, before noise."""

POINT_NOISE, EXPERT_NOISE, EXPLORE_NOISE = 0.5, 0.2, 1.0
STITCH_DISTANCE = 4
EXPLORE_INTERVAL = 10


class MazeCollector:
    """Collects navigate, stitch or explore data of whatever moves in a maze.

    As in OGBench, the way leads to the centre of the goal's cell, and the goal lies anywhere within
    a metre of it along each axis: a body that must come within half a metre may have to linger.
    """

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._environment = open_environment(recipe.environment)
        self._maze = Maze(self._environment)
        self._walk = expert_walk(recipe.experts[0]) if recipe.experts else _point_walk
        usual = EXPERT_NOISE if recipe.experts else POINT_NOISE
        self._noise = EXPLORE_NOISE if recipe.kind == "explore" else usual

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode; see `nfrl.collect.collectors.Collector`.

        In the teleport maze an observation is what the environment returned, as in evaluation:
        in the step of a teleport it still shows the entrance, and ``qpos`` already the exit.
        """
        rng, reset_seed = seed_everything(seeds)
        environment, maze = self._environment, self._maze
        environment.action_space.seed(reset_seed)  # A reset takes a few random steps.
        start = maze.cells[rng.integers(len(maze.cells))]
        goals = maze.goals(self._recipe.kind, start)
        task = {"init_ij": start, "goal_ij": goals[rng.integers(len(goals))]}

        recorder = EpisodeRecorder()
        observation, _ = environment.reset(seed=reset_seed, options={"task_info": task})
        direction = np.zeros(2)
        for step in range(steps):
            if self._recipe.kind != "explore":
                direction = maze.direction(environment.get_xy(), environment.cur_goal_xy)
            elif step % EXPLORE_INTERVAL == 0:
                direction = unit(rng.standard_normal(2))
            # Who walks sees the state, also where the data show an image.
            state = environment.get_ob(ob_type="states") if observation.ndim > 1 else observation
            action = noisy(self._walk(state, direction), self._noise, rng)
            data = environment.data
            recorder.add(observations=observation, actions=action, qpos=data.qpos, qvel=data.qvel)
            if step == steps - 1:
                break
            observation, _, _, _, info = environment.step(action)
            if info["success"] and self._recipe.kind == "navigate":
                maze.set_goal(goals[rng.integers(len(goals))])
        return recorder.episode()


class Maze:
    """The cells of a maze, and the ways between them.

    Args:
        environment: One of OGBench's maze environments.

    Attributes:
        cells: The free cells.
    """

    def __init__(self, environment: Any):
        self._environment = environment
        free = np.argwhere(environment.maze_map == 0)
        self.cells: list[Cell] = [(int(row), int(column)) for row, column in free]
        self._subgoals: dict[tuple[Cell, Cell], NDArray] = {}

    def goals(self, kind: str, start: Cell) -> list[Cell]:
        """List the cells that an episode of a kind, from a start, may go to."""
        distances = self._distances(start)
        if kind == "stitch":
            goals = [cell for cell in self.cells if distances[cell] == STITCH_DISTANCE]
        else:
            goals = [
                cell
                for cell in self.cells
                if distances[cell] >= 0 and not is_corridor(self._environment.maze_map, cell)
            ]
        # One cell of the teleport maze is closed on all sides: who starts there stays.
        return goals or [start]

    def set_goal(self, cell: Cell) -> None:
        """Move the environment's goal to a place in a cell."""
        environment = self._environment
        environment.set_goal(goal_xy=environment.add_noise(environment.ij_to_xy(cell)))

    def subgoal(self, position: NDArray, goal: NDArray) -> NDArray:
        """Give the centre of the next cell on the way (2,)."""
        environment = self._environment
        # The search depends on the two cells alone, and there are few pairs of cells.
        pair = (environment.xy_to_ij(position), environment.xy_to_ij(goal))
        if pair not in self._subgoals:
            self._subgoals[pair] = environment.get_oracle_subgoal(position, goal)[0]
        return self._subgoals[pair]

    def direction(self, position: NDArray, goal: NDArray) -> NDArray:
        """Give the unit vector from a position to the centre of the next cell (2,)."""
        return unit(self.subgoal(position, goal) - position)

    def _distances(self, cell: Cell) -> NDArray:
        """Count the steps from every cell to one, breadth first; -1 if there is no way."""
        xy = self._environment.ij_to_xy(cell)
        return self._environment.get_oracle_subgoal(xy, xy)[1]


def expert_walk(name: str) -> Walk:
    """Let an expert walk, which sees its own body, but not where it is, and the direction."""
    policy = load_expert(name)
    return lambda observation, direction: policy(np.concatenate((observation[2:], direction)))


def _point_walk(observation: NDArray, direction: NDArray) -> NDArray:
    return direction


def unit(vector: NDArray) -> NDArray:
    """Scale to length 1, and leave zero alone."""
    return vector / (np.linalg.norm(vector) + 1e-6)


def noisy(action: NDArray, noise: float, rng: np.random.Generator) -> NDArray:
    """Add Gaussian noise of a standard deviation, and clip to [-1, 1]."""
    return np.clip(action + noise * rng.standard_normal(len(action)), -1.0, 1.0)


def is_corridor(maze: NDArray, cell: Cell) -> bool:
    """Tell whether a cell has walls on two opposite sides and none on the others.

    Args:
        maze: (height, width), 1 for a wall and 0 for a free cell.
        cell: A free cell's row and column.
    """
    row, column = cell
    vertical = (maze[row - 1, column], maze[row + 1, column])
    horizontal = (maze[row, column - 1], maze[row, column + 1])
    return {vertical, horizontal} == {(0, 0), (1, 1)}
