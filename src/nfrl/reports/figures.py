"""Figures of records and training metrics: learning curves, scores, and what it cost."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nfrl.reports.aggregates import Rivals
from nfrl.reports.groups import MOST_GOALS, Group, by_task, labels, score_text
from nfrl.reports.statistics import performance_profile
from nfrl.reports.style import (
    FAINT,
    INK,
    SOFT,
    count_axis,
    group_colours,
    house_style,
    legend_below,
    new_figure,
)

Metrics = Mapping[str, NDArray[np.float64]]
# A panel's columns: on held-out data, drawn solid, and in training, dotted.
_PANELS = (
    ("score", "score", None),
    ("share of cells seen", "coverage", None),
    ("log-likelihood", "val_log_prob", "log_prob"),
    ("loss", "val_loss", "loss"),
    ("critic's loss", "val_critic_loss", "critic_loss"),
    ("actor's loss", "val_actor_loss", "actor_loss"),
)


def learning_curves(
    title: str, groups: Sequence[Group], metrics: Sequence[Sequence[Metrics]]
) -> Figure | None:
    """Draw scores, log-likelihoods and losses against gradient steps and minutes.

    And the share of a maze's cells seen, of agents that explore.

    Each seed is a light line, the mean over seeds a dark one, as far as every seed has come. What
    is dotted is of the training data. The loss of an agent that logs its likelihood is left out,
    as it would be the same curve upside down, and so is that of one that logs its parts.

    Args:
        title: The figure's title.
        groups: The groups of one task.
        metrics: For each group, the metrics of each of its runs.

    Returns:
        The figure; None if nothing of the kind was logged.
    """
    metrics = [[_without_repeated_loss(run) for run in runs] for runs in metrics]
    logged = {name for runs in metrics for run in runs for name in run}
    rows = [panel for panel in _PANELS if logged & {*panel[1:]}]
    if not rows:
        return None
    with house_style():
        figure = new_figure(0.75 + 2.0 * len(rows), title)
        grid = figure.subplots(len(rows), 2, squeeze=False, sharex="col", sharey="row")
        for axes_row, (label, *names) in zip(grid, rows, strict=True):
            by_return = label == "score" and any(group.scored_by_return for group in groups)
            axes_row[0].set_ylabel("return" if by_return else label)
            for axes, against in zip(axes_row, ("step", "seconds"), strict=True):
                for name, style in zip(names, ("-", ":"), strict=True):
                    if name:
                        _curves(axes, groups, metrics, name, against, style)
        for axes, label in zip(grid[-1], ("gradient steps", "minutes of training"), strict=True):
            axes.set_xlabel(label)
            axes.set_xlim(left=0)
        count_axis(grid[-1][0])
        legend_below(figure, *grid[:, 0])
    return figure


def _without_repeated_loss(run: Metrics) -> Metrics:
    """Leave out the loss where it is another panel's with its sign changed, or several panels'."""
    told = {"log_prob", "actor_loss", "critic_loss"} & run.keys()
    return {name: run[name] for name in run if name not in ("loss", "val_loss") or not told}


def _curves(
    axes: Axes,
    groups: Sequence[Group],
    metrics: Sequence[Sequence[Metrics]],
    name: str,
    against: str,
    style: str,
) -> None:
    settled = []
    for group_label, colour, runs in zip(
        labels(groups), group_colours(groups), metrics, strict=True
    ):
        curves = []
        for run in runs:
            if name not in run or against not in run:
                continue
            x, y = run[against] / (60 if against == "seconds" else 1), run[name]
            finite = np.isfinite(x) & np.isfinite(y)
            if finite.any():
                curves.append((x[finite], y[finite]))
        for x, y in curves:
            if len(curves) > 1:
                axes.plot(x, y, style, color=colour, alpha=0.28, linewidth=0.9)
            settled.append(y[len(y) // 20 :])
        if curves:
            x = np.unique(np.concatenate([x for x, _ in curves]))
            # The mean holds where every seed has values.
            x = x[(x >= max(c[0][0] for c in curves)) & (x <= min(c[0][-1] for c in curves))]
            mean = np.mean([np.interp(x, *curve) for curve in curves], axis=0)
            axes.plot(x, mean, style, color=colour, label=group_label)
    if settled:
        # The first steps can lie orders of magnitude away and would flatten all the rest.
        low, high = np.min(np.concatenate(settled)), np.max(np.concatenate(settled))
        _include(axes, low, high)


def _include(axes: Axes, low: float, high: float) -> None:
    """Set the y limits to hold this range and whatever other panels of the row have set."""
    margin = 0.06 * (high - low) or 0.5
    low, high = low - margin, high + margin
    if not axes.get_autoscaley_on():
        before = axes.get_ylim()
        low, high = min(low, before[0]), max(high, before[1])
    axes.set_ylim(low, high)


def score_by_goal(
    title: str,
    groups: Sequence[Group],
    papers: Mapping[str, float] | None = None,
    measure: str = "success rate",
) -> Figure | None:
    """Draw the score on each goal and their mean: bars with 95% intervals, seeds as dots.

    The mean stands alone where there is one goal, or more than bars can show.

    Args:
        title: The figure's title.
        groups: The groups of one task.
        papers: The paper's mean score by agent, each a dashed line.
        measure: What the score is.

    Returns:
        The figure; None if no group has a score.
    """
    scored = [group for group in groups if group.scored]
    if not scored:
        return None
    all_goals = max(len(group.goals) for group in scored)
    goals = all_goals if 1 < all_goals <= MOST_GOALS else 0
    with house_style():
        figure = new_figure(3.1, title)
        axes = figure.subplots()
        width = 0.8 / max(len(scored), 2)
        # The mean stands a little apart.
        places = np.array([*range(goals), goals + 0.35])
        tops = [*(papers or {}).values()]
        for index, (name, colour, group) in enumerate(
            zip(labels(scored), group_colours(scored), scored, strict=True)
        ):
            unknown = (np.nan, np.nan)
            values = [*_filled(group.goals, goals, np.nan), group.mean]
            bounds = [*_filled(group.goal_intervals, goals, unknown), group.interval or unknown]
            x = places + (index - (len(scored) - 1) / 2) * width
            axes.bar(x, values, 0.92 * width, color=colour, label=name)
            _whiskers(axes, x, values, bounds)
            if len(group.records) > 1:
                _seeds(axes, x, group, goals, width)
            tops += [value for value in (*values, *np.ravel(bounds)) if np.isfinite(value)]
        for name, group in zip(labels(groups), groups, strict=True):
            if not group.scored:
                text = f"{name}: {group.unscored_text}"
                # As bars are, a container: the legend lists those in order, after all else.
                axes.errorbar([np.nan], [np.nan], fmt="x", color=SOFT, label=text)
        for agent, score in (papers or {}).items():
            axes.axhline(score, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(
                f"paper\n{agent}\n{score_text(score, scored[0].scored_by_return)}",
                xy=(1, score),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        if goals:
            axes.axvline(goals - 0.325, color=FAINT, linewidth=0.9)
        mean = "mean" if goals == all_goals or all_goals == 1 else f"mean of {all_goals} goals"
        ticks = [*(f"goal {goal}" for goal in range(1, goals + 1)), mean]
        axes.set_xticks(places, ticks)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
        axes.set_ylim(*_limits(tops, scored[0].scored_by_return))
        axes.set_ylabel(measure)
        legend_below(figure, axes, columns=3)
    return figure


def _filled(values: Sequence[Any], length: int, filler: Any) -> list[Any]:
    """Cut or fill up to a length."""
    return [*values, *[filler] * length][:length]


def _whiskers(
    axes: Axes, x: NDArray[np.float64], values: Sequence[float], bounds: Sequence[tuple]
) -> None:
    low, high = np.array(bounds).T
    # Rounded records may put an end of the interval on the wrong side of the mean by a hair.
    lengths = np.maximum([np.array(values) - low, high - np.array(values)], 0)
    axes.errorbar(x, values, lengths, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.8)


def _seeds(axes: Axes, x: NDArray[np.float64], group: Group, goals: int, width: float) -> None:
    offsets = np.linspace(-0.25, 0.25, len(group.records)) * width
    for offset, record in zip(offsets, group.records, strict=True):
        scores = [*_filled(record.scores, goals, np.nan), record.score or 0.0]
        axes.scatter(
            x + offset,
            scores,
            s=7,
            color="white",
            edgecolor=INK,
            linewidth=0.5,
            zorder=3,
            clip_on=False,
        )


def _limits(values: Sequence[float], by_return: bool) -> tuple[float, float]:
    """The limits of a score's axis: from 0 to 1, or to less where everything is small.

    Of returns, from 0, where bars begin, to a little beyond the furthest on either side.
    """
    low, high = min(0.0, *values), max(0.0, *values)
    if not by_return:
        return 0.0, 1.0 if high > 0.5 else max(0.1, float(np.ceil(high * 10 + 0.5)) / 10)
    margin = 0.06 * (high - low) or 1.0
    return low - margin if low else 0.0, high + margin if high or not low else 0.0


_PAPER: dict[str, Any] = {"s": 34, "marker": "D", "facecolor": "none", "edgecolor": INK}


def score_by_task(
    groups: Sequence[Group], papers: Mapping[str, Mapping[str, float]]
) -> Figure | None:
    """Draw every task's mean score: a dot with its 95% interval for each group of runs.

    Tasks that are scored by returns are left out: theirs are on scales of their own.

    Args:
        groups: The groups of all tasks.
        papers: By task, the paper's mean score by agent, drawn as an open diamond.

    Returns:
        The figure; None for fewer than two tasks.
    """
    scored = [group for group in groups if group.scored and not group.scored_by_return]
    tasks = by_task(scored)
    if len(tasks) < 2:
        return None
    # One colour and one entry of the legend for what is called the same on every task.
    names: dict[int, str] = {}
    for own in tasks.values():
        names.update({id(group): label for group, label in zip(own, labels(own), strict=True)})
    unique = {names[id(group)]: group for group in scored}
    colours = dict(zip(unique, group_colours(list(unique.values())), strict=True))
    with house_style():
        figure = new_figure(0.9 + 0.16 * len(scored) + 0.2 * len(tasks), "Scores by task")
        axes = figure.subplots()
        axes.grid(axis="x")
        for name in sorted(unique):
            axes.scatter([], [], s=26, color=colours[name], label=name)
        for agent in sorted({agent for task in tasks for agent in papers.get(task, {})}):
            axes.scatter([], [], label=f"paper: {agent}", **_PAPER)
        y, ticks = 0.0, []
        for task, own in tasks.items():
            start = y
            for group in own:
                name = names[id(group)]
                if group.interval:
                    axes.plot(group.interval, (y, y), color=colours[name], linewidth=1.8)
                axes.scatter(group.mean, y, s=26, color=colours[name], zorder=3, clip_on=False)
                y += 1
            for score in papers.get(task, {}).values():
                axes.scatter(score, (start + y - 1) / 2, clip_on=False, zorder=4, **_PAPER)
            ticks.append((start + y - 1) / 2)
            axes.axhline(y, color=FAINT, linewidth=0.7)
            y += 1
        axes.grid(visible=False, axis="y")
        axes.set_yticks(ticks, tasks)
        axes.set_ylim(y - 1, -1)
        axes.set_xlim(0, 1)
        axes.set_xlabel("score")
        legend_below(figure, axes)
    return figure


def performance_profiles(title: str, rivals: Rivals) -> Figure:
    """Draw which share of each agent's runs scored above tau, for every tau in [0, 1].

    A band is the 95% interval; there is none where a task has a single seed.

    Args:
        title: The figure's title.
        rivals: The agents and the tasks that all of them have.
    """
    tau = np.linspace(0, 1, 201)
    first = [groups[0] for groups in rivals.groups.values()]
    with house_style():
        figure = new_figure(3.1, title)
        axes = figure.subplots()
        for agent, colour in zip(rivals.groups, group_colours(first), strict=True):
            shares, interval = performance_profile(rivals.scores(agent), tau)
            axes.step(tau, shares, where="post", color=colour, label=agent)
            if interval:
                axes.fill_between(
                    tau, *interval, step="post", color=colour, alpha=0.16, linewidth=0
                )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score tau")
        axes.set_ylabel("share of runs with score > tau")
        legend_below(figure, axes)
    return figure


_COSTS: tuple[tuple[str, Callable[[Group], float | None]], ...] = (
    ("parameters", lambda group: group.average("parameters")),
    ("minutes of training", lambda group: (group.average("train_seconds") or 0) / 60),
    ("ms to sample an action", lambda group: group.average("sample_ms")),
)


def cost(title: str, groups: Sequence[Group], measure: str = "success rate") -> Figure | None:
    """Draw the score against parameters, training time and sampling time, a dot for each group.

    Returns:
        The figure; None for fewer than two groups with a score.
    """
    scored = [group for group in groups if group.scored]
    panels = [(label, value) for label, value in _COSTS if sum(bool(value(g)) for g in scored) > 1]
    if not panels:
        return None
    with house_style():
        figure = new_figure(2.7, title)
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        ends = [end for group in scored for end in group.interval or (group.mean,)]
        for axes, (label, value) in zip(grid, panels, strict=True):
            values = []
            for name, colour, group in zip(
                labels(scored), group_colours(scored), scored, strict=True
            ):
                x = value(group)
                if not x:
                    continue
                values.append(x)
                if group.interval:
                    axes.plot((x, x), group.interval, color=colour, linewidth=1.4)
                axes.scatter(x, group.mean, s=34, color=colour, label=name, zorder=3, clip_on=False)
            axes.set_xlim(min(values) / 1.8, max(values) * 1.8)
            axes.grid(axis="x")
            count_axis(axes, log=True)
            axes.set_xlabel(label)
            axes.tick_params(axis="x", length=0)
        grid[0].set_ylabel(measure)
        grid[0].set_ylim(*_limits(ends, scored[0].scored_by_return))
        legend_below(figure, grid[0], columns=3)
    return figure
