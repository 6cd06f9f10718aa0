"""A figure of what agents make of densities with several modes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nfrl.reports.style import WIDTH, agent_colour, house_style, new_figure


def mode_samples(title: str, samples: Mapping[str, Mapping[str, NDArray]]) -> Figure:
    """Draw samples: a row for each density, a column for the truth and for each agent.

    Single actions are dots in the plane of their first two numbers, chunks of them are paths.

    Args:
        title: The figure's title.
        samples: Of each density and each column of the row, named: (samples, chunk, action). An
            agent's samples have its colour.
    """
    columns = list(dict.fromkeys(column for row in samples.values() for column in row))
    panel = (WIDTH - 0.3) / len(columns)
    with house_style():
        figure = new_figure(len(samples) * panel + 0.6, title)
        grid = figure.subplots(
            len(samples), len(columns), squeeze=False, sharex="row", sharey="row"
        )
        for axes_row, (density, row) in zip(grid, samples.items(), strict=True):
            shown = np.concatenate([chunks[:, :, :2].reshape(-1, 2) for chunks in row.values()])
            low, high = np.quantile(shown, [0.002, 0.998], axis=0)
            for axes, column in zip(axes_row, columns, strict=True):
                axes.grid(visible=False)
                axes.set(xticks=[], yticks=[])
                if column in row:
                    _draw(axes, row[column], agent_colour(column))
                axes.set(xlim=_range(low, high, 0), ylim=_range(low, high, 1))
            axes_row[0].set_ylabel(density)
        for axes, column in zip(grid[0], columns, strict=True):
            axes.set_title(column)
    return figure


def _range(low: NDArray, high: NDArray, axis: int) -> tuple[float, float]:
    margin = 0.08 * (high[axis] - low[axis])
    return float(low[axis] - margin), float(high[axis] + margin)


def _draw(axes: Axes, chunks: NDArray, colour: str) -> None:
    if chunks.shape[1] == 1:
        x, y = chunks[:, 0, :2].T
        axes.scatter(x, y, s=3, color=colour, alpha=0.5, linewidth=0)
    else:
        x, y = chunks[:80, :, :2].T
        axes.plot(x, y, color=colour, alpha=0.35, linewidth=0.6)
