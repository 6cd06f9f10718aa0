"""Figures of a run in a maze: what was seen, what the agent believes, what it reaches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nfrl.errors import UserError
from nfrl.files import write_atomically
from nfrl.reports.groups import count
from nfrl.reports.style import (
    BAD,
    GOOD,
    INK,
    SOFT,
    count_axis,
    house_style,
    legend_below,
    new_figure,
    png,
)
from nfrl.runs.folder import RunFolder

CELL = 4.0  # units of length, as in nfrl.benchmarks.mazes.layouts, which needs JAX
_LOWEST = 12.0  # nats below its top at which a density's colours end

Arrays = Mapping[str, NDArray[Any]]


def draw_maze_figures(run_folder: Path, out_folder: Path) -> list[Path]:
    """Draw everything that a run's maze.npz and metrics hold, as PNG files.

    Args:
        run_folder: The run.
        out_folder: Where to; it is made if missing.

    Returns:
        The files, named as in :func:`maze_figures`.

    Raises:
        UserError: The run has no maze.npz, or a damaged one.
    """
    figures = maze_figures(run_folder)
    if not figures:
        raise UserError(f"{run_folder} has no maze.npz: nothing to draw")
    for name, figure in figures.items():
        _save(out_folder / f"{name}.png", png(figure))
    return [out_folder / f"{name}.png" for name in figures]


def maze_figures(run_folder: Path) -> dict[str, Figure]:
    """Make the figures of a run that explored a maze; none if it did not.

    Returns:
        ``coverage``, ``visits``, ``commanded``, ``density`` (only if the agent has a density p(g)),
        ``conditional`` and ``goals``.

    Raises:
        UserError: The run's maze.npz is damaged.
    """
    run = RunFolder(run_folder)
    maze = run.read_maze()
    if not maze:
        return {}
    metrics = run.read_columns()
    figures = {
        "coverage": _progress(metrics),
        "visits": _over_time("Visits to each cell, log scale", maze, _visits),
        "commanded": _over_time("Commanded goals", maze, _commanded),
        "density": _over_time("Coverage density: log p(g)", maze, _coverage)
        if "coverage" in maze
        else None,
        "conditional": _conditional(maze),
        "goals": _goals(maze),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _save(path: Path, image: bytes) -> None:
    write_atomically(path, lambda file: file.write(image))


def _progress(metrics: Arrays) -> Figure | None:
    """Draw the share of cells seen and the success rates against environment steps."""
    if "coverage" not in metrics:
        return None
    with house_style():
        figure = new_figure(2.8, "Coverage and success")
        axes = figure.subplots()
        lines = (
            ("coverage", "cells seen", INK, "-"),
            ("success", "success", GOOD, "-"),
            ("success_easy", "success, within 2 units", GOOD, ":"),
            ("success_hard", "success, far goals", BAD, "-"),
        )
        for name, label, colour, style in lines:
            if name in metrics:
                axes.plot(metrics["step"], metrics[name], style, color=colour, label=label)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)
        axes.set_xlabel("environment steps")
        count_axis(axes)
        legend_below(figure, axes)
    return figure


def _over_time(title: str, maze: Arrays, draw: Any) -> Figure:
    """Draw up to four moments of a run, the last among them, side by side."""
    total = len(maze["steps"])
    moments = np.unique(np.linspace(0, total - 1, 4).round().astype(int))
    rows, columns = maze["walls"].shape
    with house_style():
        figure = new_figure(0.75 + 1.8 * rows / columns, title)
        for axes, moment in zip(
            np.atleast_1d(figure.subplots(1, 4)), [*moments, *[None] * 4], strict=False
        ):
            if moment is None:
                axes.set_axis_off()
                continue
            draw(axes, maze, moment)
            _walls(axes, maze)
            axes.set_title(f"{count(float(maze['steps'][moment]))} steps", fontsize=8)
    return figure


def _visits(axes: Axes, maze: Arrays, moment: int) -> None:
    visits = maze["visits"][moment].astype(float)
    axes.imshow(np.log10(1 + visits), cmap="Blues", extent=_extent(maze))


def _commanded(axes: Axes, maze: Arrays, moment: int) -> None:
    x, y = maze["commanded"][moment].T
    axes.scatter(y, x, s=3, color=BAD, alpha=0.5, linewidth=0)


def _coverage(axes: Axes, maze: Arrays, moment: int) -> None:
    _density(axes, maze, maze["coverage"][moment])


def _conditional(maze: Arrays) -> Figure:
    """Draw the last Q(s, 0, g), or log p(g | s, 0), from each of a few states."""
    grids, states = maze["q"][-1], maze["states"]
    rows, columns = maze["walls"].shape
    name = "log p(g | s, a = 0)" if "coverage" in maze else "Q(s, a = 0, g)"
    with house_style():
        figure = new_figure(
            0.75 + 1.8 * rows / columns, f"{name} from a robot at rest (cross), at the end"
        )
        panels = np.atleast_1d(figure.subplots(1, 4))
        for axes, grid, (x, y) in zip(panels, grids, states, strict=False):
            _density(axes, maze, grid)
            _walls(axes, maze)
            axes.plot(y, x, "x", color=BAD, markersize=5)
        for axes in panels[len(states) :]:
            axes.set_axis_off()
    return figure


def _goals(maze: Arrays) -> Figure:
    """Draw the last success rate of every evaluation goal at its place."""
    rows, columns = maze["walls"].shape
    with house_style():
        figure = new_figure(0.7 + 3.4 * rows / columns, "Success at each evaluation goal", 4.4)
        axes = figure.subplots()
        _walls(axes, maze)
        successes = maze["successes"][-1]
        y, x = maze["goals"].T
        shown = axes.scatter(x, y, c=successes, vmin=0, vmax=1, s=150, cmap="Blues", edgecolor=SOFT)
        far = maze["far"].astype(bool)
        axes.scatter(x[far], y[far], s=230, facecolor="none", edgecolor=BAD, label="far goals")
        axes.plot(*maze["start"][::-1], "x", color=INK, label="start")
        figure.colorbar(shown, ax=axes, label="success rate", shrink=0.8)
        legend_below(figure, axes)
    return figure


def _density(axes: Axes, maze: Arrays, grid: NDArray[Any]) -> None:
    finite = grid[np.isfinite(grid)]
    top = finite.max() if finite.size else 0.0
    low = max(top - _LOWEST, finite.min()) if finite.size else -1.0
    axes.imshow(grid, cmap="viridis", vmin=low, vmax=top, extent=_extent(maze))


def _walls(axes: Axes, maze: Arrays) -> None:
    """Cover the wall cells; rows run down the picture, as in the printed map."""
    walls = maze["walls"].astype(float)
    axes.imshow(
        np.where(walls > 0, 1.0, np.nan),
        cmap=ListedColormap(["#c9cfd6"]),
        extent=_extent(maze),
        zorder=2,
    )
    left, right, bottom, top = _extent(maze)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])


def _extent(maze: Arrays) -> tuple[float, float, float, float]:
    rows, columns = maze["walls"].shape
    return -CELL / 2, CELL * (columns - 0.5), CELL * (rows - 0.5), -CELL / 2
