"""What there is to see of an exploration of a maze: densities and values on a grid of places."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from nfrl.benchmarks.mazes.layouts import CELL, Layout
from nfrl.interfaces.explorer import Explorer, Robot

POINTS_PER_CELL = 4
"""Of the grids that densities are drawn on, along each axis."""
DRAWN_GOALS = 256
"""How many of the environments' commanded goals are kept."""


def snapshot(
    agent: Explorer,
    goals: Float[Array, "environments 2"],
    visits: Int[Array, "rows columns"],
    layout: Layout,
    robot: Robot,
) -> dict[str, Array]:
    """Return what there is to see of an agent and its doings.

    Args:
        agent: The agent.
        goals: The goals of the episodes in hand.
        visits: How often each cell was visited.
        layout: Where.
        robot: What moves there.

    Returns:
        ``visits``: how often each cell was visited, shape (rows, columns); ``commanded``: goals of
        the episodes in hand, (environments, 2); ``q``: Q(s, 0, g) of robots that rest at the start
        and at far goals, on the grid of places g, (states, x, y); and if the agent has a coverage
        density, ``coverage``: log p(g) on the same grid, (x, y).
    """
    grid = jnp.stack(jnp.meshgrid(*grid_axes(layout), indexing="ij"), -1)
    rest = robot.observation(robot.reset(jr.key(0)))
    still = jnp.zeros(robot.action_dim)

    def q(place: Array) -> Array:
        return agent.q(rest.at[: len(place)].set(place), still, grid)

    picture = {
        "visits": visits,
        "commanded": goals[:DRAWN_GOALS],
        "q": jax.lax.map(q, jnp.asarray(drawn_states(layout))),
    }
    density = agent.coverage(grid)
    return picture if density is None else picture | {"coverage": density}


def grid_axes(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid's coordinates along x and along y: the centres of squares that fill it."""
    rows, columns = layout.shape
    places = [
        CELL * ((np.arange(n * POINTS_PER_CELL) + 0.5) / POINTS_PER_CELL - 0.5)
        for n in (rows, columns)
    ]
    return places[0].astype(np.float32), places[1].astype(np.float32)


def drawn_states(layout: Layout) -> np.ndarray:
    """Return the places that Q is drawn from: the start and up to three far goals."""
    return layout.centres((layout.start, *layout.far[:3]))


def frame(layout: Layout) -> dict[str, np.ndarray]:
    """Return what every picture of a maze has."""
    grid_x, grid_y = grid_axes(layout)
    return {
        "walls": layout.walls,
        "start": layout.centres((layout.start,))[0],
        "goals": layout.goals,
        "far": layout.is_far,
        "states": drawn_states(layout),
        "grid_x": grid_x,
        "grid_y": grid_y,
    }
