"""Point maze data: the maze's own shortest paths, walked by a noisy hand.

Source: OGBench (Park et al., 2025): ``navigate`` goes to one random goal after another,
``stitch`` to a single one four cells away, so that no trajectory crosses the maze.
"""

import numpy as np
from numpy.typing import NDArray

from nfrl.collect.catalog import Recipe
from nfrl.collect.episode import Episode, EpisodeRecorder, open_environment, seed_everything

Cell = tuple[int, int]

ACTION_NOISE = 0.5
STITCH_DISTANCE = 4


class PointMazeCollector:
    """Collects navigate or stitch data."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._environment = open_environment(recipe.environment)
        free = np.argwhere(self._environment.maze_map == 0)
        self._cells: list[Cell] = [(int(row), int(column)) for row, column in free]
        self._subgoals: dict[tuple[Cell, Cell], NDArray] = {}

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode; see `nfrl.collect.episode.Collector`.

        In the teleport maze an observation is what the environment returned, as in evaluation:
        in the step of a teleport it still shows the entrance, and ``qpos`` already the exit.
        """
        rng, reset_seed = seed_everything(seeds)
        environment = self._environment
        environment.action_space.seed(reset_seed)  # A reset takes a few random steps.
        start = self._cells[rng.integers(len(self._cells))]
        goals = self._goals(start)
        task = {"init_ij": start, "goal_ij": goals[rng.integers(len(goals))]}

        recorder = EpisodeRecorder()
        observation, _ = environment.reset(seed=reset_seed, options={"task_info": task})
        for step in range(steps):
            action = self._direction() + ACTION_NOISE * rng.standard_normal(2)
            action = np.clip(action, -1.0, 1.0)
            data = environment.data
            recorder.add(observations=observation, actions=action, qpos=data.qpos, qvel=data.qvel)
            if step == steps - 1:
                break
            observation, _, _, _, info = environment.step(action)
            if info["success"] and self._recipe.kind == "navigate":
                goal = goals[rng.integers(len(goals))]
                environment.set_goal(goal_xy=environment.add_noise(environment.ij_to_xy(goal)))
        return recorder.episode()

    def _goals(self, start: Cell) -> list[Cell]:
        """List the cells that an episode from a start may go to."""
        distances = self._distances(start)
        if self._recipe.kind == "stitch":
            goals = [cell for cell in self._cells if distances[cell] == STITCH_DISTANCE]
        else:
            goals = [
                cell
                for cell in self._cells
                if distances[cell] >= 0 and not is_corridor(self._environment.maze_map, cell)
            ]
        # One cell of the teleport maze is closed on all sides: who starts there stays.
        return goals or [start]

    def _distances(self, cell: Cell) -> NDArray:
        """Count the steps from every cell to one, breadth first; -1 if there is no way."""
        xy = self._environment.ij_to_xy(cell)
        return self._environment.get_oracle_subgoal(xy, xy)[1]

    def _direction(self) -> NDArray:
        """Give the unit vector from where the point is to the centre of the next cell."""
        environment = self._environment
        position, goal = environment.get_xy(), environment.cur_goal_xy
        # The search depends on the two cells alone, and there are few pairs of cells.
        pair = (environment.xy_to_ij(position), environment.xy_to_ij(goal))
        if pair not in self._subgoals:
            self._subgoals[pair] = environment.get_oracle_subgoal(position, goal)[0]
        difference = self._subgoals[pair] - position
        return difference / (np.linalg.norm(difference) + 1e-6)


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
