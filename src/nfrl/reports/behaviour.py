"""Figures of what a policy does: its paths through a maze, its actions beside the data's."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nfrl.reports.style import BAD, FAINT, GOOD, INK, WIDTH, house_style, new_figure

_STATES = 5
_PAIRS = 4


@dataclasses.dataclass(frozen=True)
class Maze:
    """The walls of a maze.

    Attributes:
        walls: bool (rows, columns); a column is a step in x, a row a step in y.
        unit: The length of a cell.
        offset: The x and y of the centre of the cell (0, 0), with the sign reversed.
    """

    walls: NDArray[np.bool_]
    unit: float
    offset: tuple[float, float]


def find_maze(environment: str | None) -> Maze | None:
    """Ask a maze that is made as OGBench's are for its walls; None if it cannot say.

    Args:
        environment: Its Gymnasium id, after the module that registers it:
            ``ogbench:pointmaze-medium-v0``.
    """
    if environment is None:
        return None
    try:
        import gymnasium

        made = gymnasium.make(environment)
        maze = made.unwrapped
        walls = np.asarray(maze.maze_map) == 1  # type: ignore[attr-defined]
        offset = (float(maze._offset_x), float(maze._offset_y))  # type: ignore[attr-defined]
        unit = float(maze._maze_unit)  # type: ignore[attr-defined]
        made.close()
    except Exception:  # A picture without walls is better than no report, whatever went wrong.
        return None
    return Maze(walls, unit, offset)


def trajectories(
    title: str,
    xy: NDArray[np.floating],
    successes: NDArray[np.bool_],
    goal_xy: NDArray[np.floating] | None = None,
    maze: Maze | None = None,
) -> Figure:
    """Draw the paths of the evaluation episodes, one panel for each goal, coloured by success.

    Args:
        title: The figure's title.
        xy: Positions (goals, episodes, time, 2), padded with NaN.
        successes: Whether each episode reached its goal (goals, episodes).
        goal_xy: The goals (goals, 2).
        maze: The walls.
    """
    goals = len(xy)
    columns = min(goals, 3)
    rows = -(-goals // columns)
    left, right, bottom, top = _extent(xy, goal_xy, maze)
    panel = (WIDTH - 0.3) / columns
    height = min(panel, 2.6) * (top - bottom) / (right - left) + 0.25
    with house_style():
        figure = new_figure(rows * height + 0.65, title)
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes in grid[goals:]:
            axes.set_axis_off()
        for goal in range(goals):
            axes = grid[goal]
            if maze is not None:
                _walls(axes, maze)
            # Failures first: they wander over everything.
            for success, colour in ((False, BAD), (True, GOOD)):
                chosen = xy[goal][successes[goal] == success]
                paths = [path[np.isfinite(path).all(axis=-1)] for path in chosen]
                alpha = float(np.clip(6 / max(len(paths), 1), 0.25, 0.8))
                axes.add_collection(
                    LineCollection(
                        paths, colors=colour, linewidths=0.7, alpha=alpha, capstyle="round"
                    )
                )
                if not success and paths:
                    ends = np.array([path[-1] for path in paths if len(path)])
                    axes.scatter(ends[:, 0], ends[:, 1], s=7, color=BAD, linewidth=0, zorder=3)
            starts = xy[goal][:, 0]
            axes.scatter(starts[:, 0], starts[:, 1], s=5, color=INK, linewidth=0, zorder=3)
            if goal_xy is not None:
                axes.scatter(
                    goal_xy[goal, 0],
                    goal_xy[goal, 1],
                    s=95,
                    marker="*",
                    color="#f2b632",
                    edgecolor=INK,
                    linewidth=0.7,
                    zorder=4,
                )
            axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(maze is None)
            axes.spines[:].set_color(FAINT)
            axes.set_title(f"goal {goal + 1}: {np.mean(successes[goal]):.2f}")
        figure.legend(handles=_trajectory_legend(), loc="outside lower left", ncols=4)
    return figure


def directions(title: str, paths: Sequence[tuple[NDArray, NDArray]]) -> Figure:
    """Draw where a body went that was told to run in directions.

    Args:
        title: The figure's title.
        paths: The unit vector (2,) that was commanded and the positions (time, 2), of each.
    """
    reach = 1.05 * max(float(np.abs(xy).max()) for _, xy in paths)
    with house_style():
        figure = new_figure(4.5, title)
        axes = figure.subplots()
        commands = [np.stack((np.zeros(2), reach * direction)) for direction, _ in paths]
        places = [xy for _, xy in paths]
        axes.add_collection(LineCollection(places, colors=GOOD, linewidths=1.0, label="path"))
        axes.add_collection(
            LineCollection(commands, colors=FAINT, linewidths=0.8, zorder=1, label="command")
        )
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="x", ylabel="y")
        axes.grid(visible=False)
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def _extent(
    xy: NDArray, goal_xy: NDArray | None, maze: Maze | None
) -> tuple[float, float, float, float]:
    if maze is not None:
        rows, columns = maze.walls.shape
        # From the middle of the outer walls to the middle of those opposite.
        low = -np.array(maze.offset)
        high = low + maze.unit * np.array([columns - 1, rows - 1])
    else:
        points = xy.reshape(-1, 2)
        if goal_xy is not None:
            points = np.concatenate([points, goal_xy])
        low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
        margin = 0.05 * max(*(high - low), 1.0)
        low, high = low - margin, high + margin
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def _walls(axes: Axes, maze: Maze) -> None:
    for row, column in zip(*np.nonzero(maze.walls), strict=True):
        corner = np.array([column, row]) * maze.unit - maze.offset - maze.unit / 2
        # A line of its own colour closes the hair between neighbours.
        axes.add_patch(
            Rectangle(
                tuple(corner),
                maze.unit,
                maze.unit,
                facecolor="#d5dae0",
                edgecolor="#d5dae0",
                linewidth=0.4,
            )
        )


def _trajectory_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=GOOD, label="reached the goal"),
        Line2D([], [], color=BAD, marker="o", markersize=3, label="did not (dot: its end)"),
        Line2D([], [], color=INK, marker="o", markersize=3, linewidth=0, label="start"),
        Line2D(
            [],
            [],
            color="#f2b632",
            marker="*",
            markersize=10,
            markeredgecolor=INK,
            markeredgewidth=0.7,
            linewidth=0,
            label="goal",
        ),
    ]


def sampled_actions(
    title: str,
    actions: NDArray[np.floating],
    data_actions: NDArray[np.floating],
    colour: str = GOOD,
) -> Figure:
    """Draw the policy's actions at some states beside the data's, two dimensions at a time.

    A column is a state (five at most, evenly chosen), a row a pair of dimensions (four at most);
    the frame is the range of valid actions, [-1, 1]. One-dimensional actions become histograms.

    Args:
        title: The figure's title.
        actions: Sampled by the policy (states, samples, action).
        data_actions: The data's own action at each state (states, action).
        colour: The agent's colour.
    """
    count, _, size = actions.shape
    states = np.unique(np.linspace(0, count - 1, min(count, _STATES)).astype(int))
    pairs = _pairs(size)
    panel = min(1.75, (WIDTH - 0.4) / len(states))
    with house_style():
        figure = new_figure(len(pairs) * panel + 0.85, title)
        grid = figure.subplots(len(pairs), len(states), squeeze=False, sharex=True, sharey="row")
        for axes_row, pair in zip(grid, pairs, strict=True):
            for axes, state in zip(axes_row, states, strict=True):
                draw = _histogram if size == 1 else _cloud
                draw(axes, actions[state], data_actions[state], pair, colour)
                axes.grid(visible=False)
            axes_row[0].set_ylabel("samples" if size == 1 else f"action {pair[1] + 1}")
            for axes in axes_row if size > 1 else grid[-1]:
                axes.set_xlabel(f"action {pair[0] + 1}", labelpad=1)
        for axes, state in zip(grid[0], states, strict=True):
            axes.set_title(f"state {state + 1}")
        handles = [
            Line2D([], [], color=colour, marker="o", markersize=3.5, linewidth=0, label="policy"),
            Line2D([], [], color=INK, marker="P", markersize=6, linewidth=0, label="the data"),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _pairs(size: int) -> list[tuple[int, int]]:
    """Pairs that between them show every dimension of a small action: (0, 1), (2, 3), (3, 4)."""
    if size == 1:
        return [(0, 0)]
    return [(min(first, size - 2), min(first, size - 2) + 1) for first in range(0, size, 2)][
        :_PAIRS
    ]


def _cloud(axes: Axes, samples: NDArray, data: NDArray, pair: tuple[int, int], colour: str) -> None:
    first, second = pair
    axes.add_patch(Rectangle((-1, -1), 2, 2, facecolor="none", edgecolor="#c9d0d8", linewidth=0.8))
    alpha = float(np.clip(60 / len(samples), 0.08, 0.6))
    axes.scatter(samples[:, first], samples[:, second], s=6, color=colour, alpha=alpha, linewidth=0)
    axes.scatter(
        data[first],
        data[second],
        s=48,
        marker="P",
        color=INK,
        edgecolor="white",
        linewidth=0.8,
        zorder=4,
    )
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _histogram(
    axes: Axes, samples: NDArray, data: NDArray, pair: tuple[int, int], colour: str
) -> None:
    axes.hist(samples[:, 0], bins=40, range=(-1.25, 1.25), color=colour)
    axes.axvline(data[0], color=INK, linewidth=0.9)
    axes.scatter(
        data[0],
        0,
        s=48,
        marker="P",
        color=INK,
        edgecolor="white",
        linewidth=0.8,
        clip_on=False,
        zorder=4,
    )
    axes.set(xlim=(-1.25, 1.25), xticks=[-1, 0, 1])
