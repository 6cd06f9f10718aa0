"""The tables of a report: who did best, in detail, at what cost, and what each part is worth."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean

from nfrl.errors import UserError, unknown_name
from nfrl.files import write_atomically
from nfrl.registry import mappings
from nfrl.reports.aggregates import aggregate_table, improvement_table
from nfrl.reports.groups import (
    MOST_GOALS,
    Group,
    Interval,
    agent_and_variant,
    by_task,
    compared,
    count,
    group_records,
    labels,
    longest,
    mean_of_goals,
    name_columns,
    score_text,
)
from nfrl.reports.table import Cell, Table
from nfrl.runs.records import Record
from nfrl.task import Task

FindTask = Callable[[str], Task | None]

_NONE = Cell("–")
_SPREAD = (
    "Several seeds: mean ± standard deviation over seeds (their number). "
    "One seed: mean [95% interval over episodes]."
)


def find_task(name: str) -> Task | None:
    """Return the task of a name, of whatever package announces it; None if none does."""
    return mappings("tasks").get(name)


def all_tables(records: Iterable[Record], published: FindTask) -> list[Table]:
    """Make every table of a report; those with nothing to say have no rows."""
    records = list(records)
    return [
        comparison_table(records, published),
        aggregate_table(records),
        improvement_table(records),
        variants_table(records, published),
        run_table(records, published),
        returns_table(records),
        ways_table(records),
        exploring_table(records),
        cost_table(records),
        ablation_table(records, published),
    ]


def comparison_table(records: Iterable[Record], published: FindTask) -> Table:
    """Compare agents: a row for each task, a column for each agent, the paper's scores beside.

    Variants are left out, unless there is nothing else. Where an agent was run in several ways on
    a task, the cell holds its longest run (then the one with the most data). The last row is the
    mean over those tasks that every column has.

    Args:
        records: The records.
        published: Finds a task, for the paper's score; None means that it is not known.
    """
    groups = compared(group_records(records))
    return _task_by_task("comparison", "Scores", groups, name_columns(groups), published)


def variants_table(records: Iterable[Record], published: FindTask) -> Table:
    """Compare an agent's variants of several tasks: a row for each, a column for each variant.

    A variant that was run on fewer than three tasks is left out; the agent as it is stands beside.
    """
    groups = group_records(records)
    plain = compared(groups)
    tasks: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        if group not in plain:
            kind = (group.first.agent, group.first.variant)
            tasks.setdefault(kind, set()).add(group.first.task)
    wide = {kind: found for kind, found in tasks.items() if len(found) >= 3}
    shown = set().union(*wide.values())
    kinds = {*wide, *((agent, "") for agent, _ in wide)}
    kept = [
        group
        for group in groups
        if group.first.task in shown and (group.first.agent, group.first.variant) in kinds
    ]

    return _task_by_task("variants", "Variants", kept, agent_and_variant, published)


def run_table(records: Iterable[Record], published: FindTask) -> Table:
    """Detail the scores: a row for each group of runs, with the score on every goal."""
    rows = []
    groups = group_records(records)
    for name, group in _named(groups):
        first, by_return = group.first, group.scored_by_return
        paper = paper_scores(first, published).get(first.agent) if not first.variant else None
        rows.append(
            (
                *(Cell(first.task), Cell(name), score_cell(group, interval=False)),
                Cell(interval_text(group.interval, by_return)),
                Cell(score_text(paper[0], by_return)) if paper else _NONE,
                _by_goal(group.goals, by_return),
            )
        )
    return Table(
        name="runs",
        title="Scores by goal",
        columns=(*("task", "agent", "score", "95% interval", "paper", "goal by goal"),),
        rows=tuple(rows),
        left=2,
        note=(
            f"{_measures(groups, published)} Mean ± standard deviation over seeds (their number). "
            "Interval: episodes resampled, and seeds where there are several (too narrow for fewer "
            "than about five)."
        ),
    )


def returns_table(records: Iterable[Record]) -> Table:
    """Say what rewards episodes gathered, where that is not the score; means over seeds."""
    rows = []
    for name, group in _named(group_records(records)):
        mean = _mean(group, "mean_return")
        if mean is None or group.scored_by_return:
            continue
        first, alone = group.first, len(group.records) == 1
        goals = mean_of_goals([record.returns for record in group.records])
        rows.append(
            (
                *(Cell(first.task), Cell(name), score_cell(group, interval=False)),
                Cell(score_text(mean, by_return=True)),
                Cell(interval_text(first.return_interval if alone else None, by_return=True)),
                _by_goal(goals, by_return=True),
            )
        )
    return Table(
        name="returns",
        title="Returns",
        columns=("task", "agent", "score", "return", "95% interval", "goal by goal"),
        rows=tuple(rows),
        left=2,
        note=(
            "Return: the sum of an episode's rewards, mean over episodes, goals and seeds. "
            "Interval: of one seed, over episodes."
        ),
    )


def ways_table(records: Iterable[Record]) -> Table:
    """Say how many ways the episodes went, of tasks that can be done in several; means over seeds.

    An entropy in bits, of those episodes that went one of the ways.
    """
    rows = []
    for name, group in _named(group_records(records)):
        if any(record.mode_entropy is not None for record in group.records):
            rows.append(
                (
                    *(Cell(group.first.task), Cell(name), score_cell(group, interval=False)),
                    *(_two_decimals(group, field) for field in ("success", "mode_entropy")),
                )
            )
    return Table(
        name="ways",
        title="How many ways",
        columns=("task", "agent", "score", "success", "entropy of ways, bits"),
        rows=tuple(rows),
        left=2,
        note=(
            "Success: the share of episodes that did all of the task. Entropy: of which way they "
            "went (the block first lifted, the order of targets); of few episodes it is too low."
        ),
    )


def exploring_table(records: Iterable[Record]) -> Table:
    """Say what agents that explore saw and learned to reach; means over seeds."""
    rows = []
    for name, group in _named(group_records(records)):
        if any(record.coverage is not None for record in group.records):
            rows.append(
                (
                    *(Cell(group.first.task), Cell(name)),
                    Cell(count(_mean(group, "environment_steps"))),
                    _two_decimals(group, "coverage"),
                    score_cell(group, interval=False),
                    _later_score(group.records),
                    *(_two_decimals(group, field) for field in ("success_easy", "success_hard")),
                )
            )
    return Table(
        name="exploring",
        title="Exploring",
        columns=(
            *("task", "agent", "steps", "cells seen", "success at the end"),
            *("over the second half", "within 2 units", "far goals"),
        ),
        rows=tuple(rows),
        left=2,
        note=(
            "Steps: of the environments. Cells seen: the share visited in training. Success: the "
            "share of evaluation goals reached (within 0.5 units); at the end, by the last "
            "policy; over the second half, the mean of all evaluations since half of the gradient "
            "steps. Within 2 units, and of the goals called far: at the end. Means ± standard "
            "deviation over seeds (their number)."
        ),
    )


def cost_table(records: Iterable[Record]) -> Table:
    """Say what each group of runs took: steps, data, parameters and time, means over seeds."""
    rows = []
    for name, group in _named(group_records(records)):
        seconds = group.average("train_seconds")
        sample = group.average("sample_ms")
        rate = group.average("steps_per_second")
        rows.append(
            (
                *(Cell(group.first.task), Cell(name), Cell(group.first.preset or "–")),
                *(Cell(count(group.first.steps)), Cell(count(group.first.transitions))),
                Cell(count(group.average("parameters"))),
                Cell("–" if seconds is None else f"{seconds / 60:.1f}"),
                Cell("–" if rate is None else f"{rate:.0f}"),
                Cell("–" if sample is None else f"{sample:.2f}"),
            )
        )
    return Table(
        name="cost",
        title="What it cost",
        columns=(
            *("task", "agent", "preset", "steps", "data", "params"),
            *("minutes", "steps/s", "ms"),
        ),
        rows=tuple(rows),
        left=3,
        note=(
            "Data: transitions. Minutes: wall-clock time of training, of all seeds where they "
            "train together. ms: milliseconds to sample one action."
        ),
    )


def ablation_table(records: Iterable[Record], published: FindTask) -> Table:
    """Show what each part is worth: a row for each variant of an agent, beside the paper's."""
    groups = group_records(records)
    shown = [(task, group) for task, own in by_task(groups).items() for group in own]
    whole = {(task, group.first.agent) for task, group in shown if not group.first.variant}
    with_variants = whole & {
        (task, group.first.agent) for task, group in shown if group.first.variant
    }
    rows = []
    for task, group in shown:
        agent, variant = group.first.agent, group.first.variant
        if (task, agent) not in with_variants:
            continue
        known = _comparable(group.first, published)
        paper = known.published_variants.get(agent, {}).get(variant) if known else None
        rows.append(
            (
                *(Cell(task), Cell(agent), Cell(variant or "full", bold=not variant)),
                *(Cell(f"{count(group.first.steps)}"), score_cell(group)),
                _NONE if paper is None else Cell("diverged" if isnan(paper) else f"{paper:.3f}"),
            )
        )
    return Table(
        name="ablation",
        title="Ablations",
        columns=("task", "agent", "variant", "steps", "score", "paper"),
        rows=tuple(rows),
        left=3,
        note=_SPREAD,
    )


def measure_of(groups: Sequence[Group], published: FindTask) -> str:
    """Say what the scores of one task's groups are: as a record says, or the task.

    A success rate where neither does: of a task that is not known, in a record from before.
    """
    for group in groups:
        if group.first.measure:
            return group.first.measure
    task = published(groups[0].first.task)
    return task.measure if task else "success rate"


def _measures(groups: Iterable[Group], published: FindTask) -> str:
    """Say what the scores of these groups' tasks are."""
    measures: dict[str, list[str]] = {}
    for task, own in by_task(groups).items():
        measures.setdefault(measure_of(own, published), []).append(task)
    if len(measures) < 2:
        return f"Score: {next(iter(measures), 'success rate')}."
    each = (f"{measure} ({', '.join(tasks)})" for measure, tasks in measures.items())
    return f"Score: {'; '.join(each)}."


def paper_scores(record: Record, published: FindTask) -> dict[str, tuple[float, float | None]]:
    """The paper's mean and standard deviation by agent, of a record's task.

    Empty where the paper does not have the task, or what it has is scored otherwise.
    """
    task = _comparable(record, published)
    if task is None:
        return {}
    return {agent: (mean, task.published_std.get(agent)) for agent, mean in task.published.items()}


def _comparable(record: Record, published: FindTask) -> Task | None:
    """The task of a record, if it is known and scored alike."""
    task = published(record.task)
    alike = task is not None and (task.scored_by == "return") == record.scored_by_return
    return task if alike else None


def spread(mean: float, std: float | None, by_return: bool = False) -> str:
    """Write a mean and its standard deviation."""
    text = score_text(mean, by_return)
    return text if std is None else f"{text} ± {score_text(std, by_return)}"


def interval_text(interval: Interval | None, by_return: bool = False) -> str:
    """Write an interval."""
    if interval is None:
        return "–"
    low, high = (score_text(end, True) if by_return else f"{end:.2f}" for end in interval)
    return f"[{low}, {high}]"


def score_cell(group: Group, *, bold: bool = False, interval: bool = True) -> Cell:
    """A group's score with its spread, and the runs that have none."""
    lost, by_return = group.unscored_text, group.scored_by_return
    if not group.scored:
        return Cell(lost)
    text = spread(group.mean, group.std, by_return)
    if group.std is not None:
        text += f" ({len(group.records)})"
    elif interval and group.interval is not None:
        text += f" {interval_text(group.interval, by_return)}"
    return Cell(f"{text}, {lost}" if lost else text, bold)


def update_readme(path: Path, tables: Sequence[Table], only: Sequence[str] = ()) -> None:
    """Rewrite the generated tables of a Markdown file, and nothing else of it.

    A table stands between ``<!-- results:NAME -->`` and ``<!-- /results:NAME -->``. The file
    decides which tables it shows.

    Args:
        path: The file.
        tables: All there are.
        only: The names of those to rewrite; the others are of other records. None: all.

    Raises:
        UserError: The file has no markers, one is not closed, or names a table that does not exist.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    by_name = {table.name: table for table in tables}
    opened = re.findall(r"<!-- results:(\S+) -->", text)
    if not opened:
        example = f"<!-- results:{next(iter(by_name), 'NAME')} -->"
        raise UserError(f"{path}: no marker such as {example} says where the tables go")
    for name in (*opened, *only):
        if name not in by_name:
            raise unknown_name("table", name, by_name)
    for name in only:
        if name not in opened:
            raise UserError(f"{path}: no <!-- results:{name} --> says where that table goes")
    block = re.compile(r"<!-- results:(\S+) -->(?:(?!<!-- results:).)*?<!-- /results:\1 -->", re.S)
    closed = block.findall(text)
    for name in opened:
        if closed.count(name) < opened.count(name):
            raise UserError(f"{path}: <!-- results:{name} --> lacks its <!-- /results:{name} -->")
    newline = "\r\n" if "\r\n" in text else "\n"

    def generated(match: re.Match[str]) -> str:
        name = match[1]
        if only and name not in only:
            return match[0]
        lines = f"<!-- results:{name} -->\n{by_name[name].markdown()}\n<!-- /results:{name} -->"
        return lines.replace("\n", newline)

    data = block.sub(generated, text).encode()
    write_atomically(path, lambda file: file.write(data))


def _by_goal(scores: Sequence[float], by_return: bool = False) -> Cell:
    """Write each goal's score, if a line can hold them."""
    if len(scores) > MOST_GOALS:
        return Cell(f"{len(scores)} goals")
    texts = [score_text(score, True) if by_return else f"{score:.2f}" for score in scores]
    return Cell(" ".join(texts)) if texts else _NONE


def _mean(group: Group, field: str) -> float | None:
    """Mean of a field that only some kinds of records have, over the runs with a score."""
    values = [getattr(record, field) for record in group.records]
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def _two_decimals(group: Group, field: str) -> Cell:
    mean = _mean(group, field)
    return _NONE if mean is None else Cell(f"{mean:.2f}")


def _later_score(records: Sequence[Record]) -> Cell:
    """Mean of the evaluations in the second half of training, if all records have their curve."""
    means = []
    for record in records:
        half = [point["score"] for point in record.curve if point["step"] >= record.steps / 2]
        if not half:
            return _NONE
        means.append(fmean(half))
    return Cell(f"{fmean(means):.3f}")


def _task_by_task(
    name: str,
    title: str,
    groups: Sequence[Group],
    column: Callable[[Group], str],
    published: FindTask,
) -> Table:
    """A row for each task, a column for each kind of group, the paper's scores beside."""
    found = dict(sorted(by_task(groups).items()))
    cells = longest(groups, column)
    columns = sorted({kind for _, kind in cells})
    scores = {task: paper_scores(own[0].first, published) for task, own in found.items()}
    papers = sorted({agent for known in scores.values() for agent in known})
    rows = []
    for task, own in found.items():
        by_return, known = own[0].scored_by_return, scores[task]
        paper = (
            Cell(spread(*known[agent], by_return)) if agent in known else _NONE for agent in papers
        )
        rows.append((Cell(task), *_best([cells.get((task, kind)) for kind in columns]), *paper))
    # The mean of returns of several tasks would be of those with the largest rewards.
    shares = [task for task, own in found.items() if not own[0].scored_by_return]
    if len(shares) > 1:
        rows.append(_mean_row(cells, shares, columns, papers, scores))
    return Table(
        name=name,
        title=title,
        columns=("task", *columns, *(f"paper: {agent}" for agent in papers)),
        rows=tuple(row for row in rows if row),
        note=f"{_measures(groups, published)} {_SPREAD} Bold: the best of the agents run here.",
    )


def _named(groups: Sequence[Group]) -> list[tuple[str, Group]]:
    """Each group with a name that tells it from the others of its task."""
    named: list[tuple[str, Group]] = []
    for own in by_task(groups).values():
        named += zip(labels(own), own, strict=True)
    return named


def _best(row: Sequence[Group | None]) -> list[Cell]:
    """Cells of a row, the best in bold if there is any other."""
    means = [group.mean for group in row if group and group.scored]
    best = max(means) if len(means) > 1 else None
    return [
        score_cell(group, bold=best is not None and group.mean == best) if group else _NONE
        for group in row
    ]


def _mean_row(
    cells: dict[tuple[str, str], Group],
    tasks: Sequence[str],
    columns: Sequence[str],
    papers: Sequence[str],
    scores: Mapping[str, Mapping[str, tuple[float, float | None]]],
) -> tuple[Cell, ...]:
    """The mean over the tasks that every column has; empty if there is none."""
    means = [
        [
            *(cells[task, name].mean if (task, name) in cells else nan for name in columns),
            *(scores[task].get(agent, (nan,))[0] for agent in papers),
        ]
        for task in tasks
    ]
    complete = [row for row in means if not any(map(isnan, row))]
    if len(complete) < 2:
        return ()
    average = [fmean(column) for column in zip(*complete, strict=True)]
    own = average[: len(columns)]
    return (
        Cell(f"mean of {len(complete)}"),
        *(Cell(f"{mean:.3f}", len(own) > 1 and mean == max(own)) for mean in own),
        *(Cell(f"{mean:.3f}") for mean in average[len(columns) :]),
    )
