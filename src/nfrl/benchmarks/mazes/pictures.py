"""What there is to see of an exploration: maze.npz in the run's folder.

Along time, one entry a checkpoint: steps, visits, commanded, q, coverage, successes (see
:func:`snapshot`). Once: walls, start, goals, far, states, grid_x, grid_y.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from nfrl.benchmarks.mazes import Maze
from nfrl.benchmarks.mazes.layouts import CELL
from nfrl.files import write_atomically
from nfrl.interfaces.explorer import Explorer
from nfrl.runs.folder import RunFolder

POINTS_PER_CELL = 4
"""Of the grids that densities are drawn on, along each axis."""
DRAWN_GOALS = 256
"""How many of the environments' commanded goals are kept."""
_ALONG_TIME = ("steps", "visits", "commanded", "q", "coverage", "successes")


def snapshot(
    agent: Explorer,
    goals: Float[Array, "environments 2"],
    visits: Int[Array, "rows columns"],
    maze: Maze,
) -> dict[str, Array]:
    """Return what there is to see of an agent and its doings.

    Args:
        agent: The agent.
        goals: The goals of the episodes in hand.
        visits: How often each cell was visited.
        maze: Where.

    Returns:
        ``visits``: how often each cell was visited, shape (rows, columns); ``commanded``: goals of
        the episodes in hand, (environments, 2); ``q``: Q(s, 0, g) of robots that rest at the start
        and at far goals, on the grid of places g, (states, x, y); and if the agent has a coverage
        density, ``coverage``: log p(g) on the same grid, (x, y).
    """
    grid = jnp.stack(jnp.meshgrid(*grid_axes(maze), indexing="ij"), -1)
    rest = maze.robot.observation(maze.robot.reset(jr.key(0)))
    still = jnp.zeros(maze.robot.action_dim)

    def q(place: Array) -> Array:
        return agent.q(rest.at[: len(place)].set(place), still, grid)

    picture = {
        "visits": visits,
        "commanded": goals[:DRAWN_GOALS],
        "q": jax.lax.map(q, jnp.asarray(drawn_states(maze))),
    }
    if hasattr(agent, "coverage"):
        picture["coverage"] = agent.coverage(grid)
    return picture


def grid_axes(maze: Maze) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid's coordinates along x and along y: the centres of squares that fill it."""
    rows, columns = maze.layout.shape
    places = [
        CELL * ((np.arange(n * POINTS_PER_CELL) + 0.5) / POINTS_PER_CELL - 0.5)
        for n in (rows, columns)
    ]
    return places[0].astype(np.float32), places[1].astype(np.float32)


def drawn_states(maze: Maze) -> np.ndarray:
    """Return the places that Q is drawn from: the start and up to three far goals."""
    layout = maze.layout
    return layout.centres((layout.start, *layout.far[:3]))


def add(run: RunFolder, maze: Maze, picture: Mapping[str, np.ndarray]) -> None:
    """Add a snapshot to a run's maze.npz.

    Args:
        run: The run.
        maze: Where.
        picture: What :func:`snapshot` returned, and ``steps`` and ``successes``.
    """
    before = _read(run)
    arrays = {
        name: np.concatenate([*([before[name]] if before else []), value[None]])
        for name, value in picture.items()
    }
    grid_x, grid_y = grid_axes(maze)
    arrays |= {
        "walls": maze.layout.walls,
        "start": maze.layout.centres((maze.layout.start,))[0],
        "goals": maze.layout.goals,
        "far": maze.layout.is_far,
        "states": drawn_states(maze),
        "grid_x": grid_x,
        "grid_y": grid_y,
    }
    _write(run, arrays)


def truncate(run: RunFolder, step: int) -> None:
    """Drop the snapshots after a step."""
    arrays = _read(run)
    if not arrays or (arrays["steps"] <= step).all():
        return
    if step == 0:
        run.maze_file.unlink()
        return
    kept = arrays["steps"] <= step
    _write(run, {k: v[kept] if k in _ALONG_TIME else v for k, v in arrays.items()})


def _read(run: RunFolder) -> dict[str, np.ndarray]:
    if not run.maze_file.is_file():
        return {}
    with np.load(run.maze_file, allow_pickle=False) as file:
        return dict(file)


def _write(run: RunFolder, arrays: Mapping[str, Any]) -> None:
    write_atomically(run.maze_file, lambda file: np.savez(file, **arrays))
