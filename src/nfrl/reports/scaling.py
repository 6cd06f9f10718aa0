"""The table and the figure of ``nfrl bench scale``: updates a second, and their limit."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from nfrl.reports.style import SERIES, count_axis, house_style, legend_below, new_figure
from nfrl.reports.table import Cell, Table


def scaling(record: Mapping[str, Any]) -> Table:
    """Return a row for each batch size and number of seeds.

    Args:
        record: What ``nfrl bench scale --out`` wrote.
    """
    rows = []
    for point in record["points"]:
        updates, products = point["updates_per_second"], point["products_per_second"]
        texts = [
            str(point["seeds"]),
            f"{point['batch_size']:,}",
            f"{updates:.1f}",
            f"{products:.1f}",
            f"{updates / products:.0%}",
            f"{updates * point['batch_size']:,.0f}",
            f"{updates * point['gflop']:.0f}",
        ]
        rows.append(tuple(map(Cell, texts)))
    columns = (
        *("seeds", "batch", "updates/s", "products alone", "share", "transitions/s"),
        "GFLOP/s",
    )
    return Table("scaling", "Batches and seeds", columns, tuple(rows), left=0)


def scaling_figure(record: Mapping[str, Any]) -> Figure:
    """Draw updates a second against the batch, a line for each number of seeds; dashed: the limit.

    Args:
        record: What ``nfrl bench scale --out`` wrote.
    """
    points = record["points"]
    with house_style():
        title = f"{record['agent']}, preset {record['preset']}: {record['device']}"
        figure = new_figure(3.2, title)
        axes = figure.subplots()
        counts = sorted({point["seeds"] for point in points})
        for i, seeds in enumerate(counts):
            of_seeds = sorted(
                (point for point in points if point["seeds"] == seeds),
                key=lambda point: point["batch_size"],
            )
            batches = [point["batch_size"] for point in of_seeds]
            colour = SERIES[i % len(SERIES)]
            label = "1 seed" if seeds == 1 else f"{seeds} seeds together"
            updates = [point["updates_per_second"] for point in of_seeds]
            products = [point["products_per_second"] for point in of_seeds]
            axes.plot(batches, updates, color=colour, marker="o", markersize=4, label=label)
            limit = "matrix products alone" if i == 0 else None
            axes.plot(batches, products, color=colour, linestyle="--", linewidth=1, label=limit)
        count_axis(axes, log=True)
        count_axis(axes, log=True, which="y")
        axes.set_xlabel("transitions in a batch")
        axes.set_ylabel("updates a second, of all seeds")
        legend_below(figure, axes)
    return figure
