"""The report: tables, figures and how every run was made, in one HTML page and in Markdown."""

import base64
import dataclasses
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np
from matplotlib.figure import Figure

from nfrl.files import write_atomically
from nfrl.reports import behaviour, figures, mazes
from nfrl.reports.aggregates import find_rivals
from nfrl.reports.groups import Group, by_task, compared, group_records, labels, score_text
from nfrl.reports.style import group_colours, png
from nfrl.reports.table import Cell, Table, escape_markdown
from nfrl.reports.tables import FindTask, all_tables, find_task, measure_of, paper_scores
from nfrl.runs.records import Record, find_sources, load_records
from nfrl.runs.results import Run, find_runs

MAZE_CAPTIONS = {
    "coverage": "cells seen and success as it explored.",
    "visits": "how often each cell was visited by then.",
    "commanded": "the goals that it commanded.",
    "density": "the coverage density log p(g), in nats per square unit of length.",
    "conditional": "Q from a few states: where it expects to be.",
    "goals": "success on each evaluation goal.",
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What a report came to.

    Attributes:
        tables: Its tables, those with rows; ``table.rich()`` prints one.
        page: The HTML page.
        files: Every file written, the page first.
        unfinished: Run folders that have no result yet and are not in the report.
    """

    tables: tuple[Table, ...]
    page: Path
    files: tuple[Path, ...]
    unfinished: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the report: its file's name without ending, its caption and its PNG."""

    name: str
    caption: str
    data: bytes


def write_report(paths: Sequence[Path], out: Path, *, published: FindTask = find_task) -> Report:
    """Write ``report.html``, ``report.md`` and ``figures/*.png`` about records and runs.

    Args:
        paths: Run folders, ``.jsonl`` files of records, or folders that hold either.
        out: The folder to write to; made if missing.
        published: Finds a task by name, for the paper's scores and the maze's walls; None for one
            that no installed package knows.

    Raises:
        UserError: A path holds no records, or a file is malformed or cannot be written.
    """
    records = load_records(paths)
    unfinished = find_sources(paths).unfinished
    tables = [table for table in all_tables(records, published) if table.rows]
    pictures = make_pictures(records, find_runs(paths), published)
    contents = {
        "report.html": html_page(records, tables, pictures, unfinished).encode(),
        "report.md": markdown_page(records, tables, pictures, unfinished).encode(),
        **{f"figures/{picture.name}.png": picture.data for picture in pictures},
    }
    files = []
    for name, data in contents.items():
        path = Path(out, *name.split("/"))
        write_atomically(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        files.append(path)
    return Report(tuple(tables), files[0], tuple(files), unfinished)


def make_pictures(
    records: Iterable[Record], runs: Sequence[Run], published: FindTask
) -> list[Picture]:
    """Draw every figure that the records and the runs have something to show in."""
    groups = group_records(records)
    by_record = {run.record.identity: run for run in runs}
    tasks = by_task(groups)
    papers = {
        task: {agent: mean for agent, (mean, _) in paper_scores(own[0].first, published).items()}
        for task, own in tasks.items()
    }
    pictures: list[Picture] = []

    def add(figure: Figure | None, name: str, caption: str) -> None:
        if figure is not None:
            taken = {picture.name for picture in pictures}
            slug = name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
            number = 2
            while slug in taken:
                slug, number = f"{name}-{number}", number + 1
            pictures.append(Picture(slug, caption, png(figure)))

    plain = compared(groups)
    add(
        figures.score_by_task(plain, papers),
        "scores",
        "Mean score of each task with its 95% interval; diamonds are the paper's.",
    )
    for rivals in find_rivals(groups):
        title = f"Performance profile, {_plural(len(rivals.tasks), 'task')}"
        add(
            figures.performance_profiles(title, rivals),
            "profile",
            f"{', '.join(rivals.groups)} on {_plural(len(rivals.tasks), 'task')}: the share of "
            "runs with a score above tau, mean over tasks. Higher is better. Bands are 95% "
            "intervals, seeds resampled within each task; there are none where a task has one "
            "seed.",
        )
    for task, own in tasks.items():
        measure = measure_of(own, published)
        metrics = {id(group): _metrics_of(group, by_record) for group in own}
        varied = sorted({group.first.agent for group in own if group not in plain})
        # Variants have figures of their own, one agent at a time.
        sets = [("", [group for group in own if group in plain])]
        for agent in varied:
            sets.append((agent, [group for group in own if group.first.agent == agent]))
        for agent, members in sets:
            name = f"{task} {agent} ablation" if agent else task
            title = f"{task}, variants of {agent}" if agent else task
            add(
                figures.score_by_goal(title, members, papers[task], measure),
                f"{name} scores",
                f"{title}: {measure} on each goal with 95% intervals (Wilson, all episodes "
                "together; none of shares and returns), each seed a dot; the dashed line is the "
                "paper's mean.",
            )
            add(
                figures.learning_curves(title, members, [metrics[id(group)] for group in members]),
                f"{name} learning",
                f"{title}: training against gradient steps and wall-clock time; seeds light, "
                "their mean dark; dotted on the training data, else held-out.",
            )
        if varied and len({group.first.agent for group in own}) > 1:
            # So many that colours run short: what has no curve takes none.
            curved = [group for group in own if metrics[id(group)]]
            add(
                figures.learning_curves(
                    f"{task}, with all variants",
                    curved,
                    [metrics[id(group)] for group in curved],
                ),
                f"{task} all learning",
                f"{task}: agents and their variants side by side.",
            )
        add(
            figures.cost(task, sets[0][1], measure),
            f"{task} cost",
            f"{task}: {measure} against what it costs, with 95% intervals.",
        )
        for label, colour, group in zip(labels(own), group_colours(own), own, strict=True):
            for run in _runs_of(group, by_record)[:1]:
                _add_behaviour(add, run, task, label, colour, published)
    return pictures


def _metrics_of(group: Group, by_record: Mapping[tuple[object, ...], Run]) -> list[figures.Metrics]:
    """Return the metrics of each run of a group; without its folder, the record's own curve."""
    found: list[figures.Metrics] = []
    for record in (*group.records, *group.unscored):
        if record.identity in by_record:
            found.append(_by_gradient_step(by_record[record.identity].folder.read_columns()))
        elif record.curve:
            found.append(
                {key: np.array([point[key] for point in record.curve]) for key in record.curve[0]}
            )
    return found


def _by_gradient_step(metrics: figures.Metrics) -> figures.Metrics:
    """Count gradient steps also where a run's metrics count those of environments."""
    if "updates" not in metrics:
        return metrics
    return {**metrics, "step": metrics["updates"], "score": metrics["success"]}


def _runs_of(group: Group, by_record: Mapping[tuple[object, ...], Run]) -> list[Run]:
    records = (*group.records, *group.unscored)
    return [by_record[record.identity] for record in records if record.identity in by_record]


def _add_behaviour(
    add: Callable[[Figure | None, str, str], None],
    run: Run,
    task: str,
    label: str,
    colour: str,
    published: FindTask,
) -> None:
    """The figures of a group's first run: one is enough to see what the policy does."""
    whose = f"{task}, {label}, seed {run.record.seed}"
    evaluation = run.folder.read_evaluation()
    if {"xy", "successes"} <= evaluation.keys():
        known = published(run.record.task)
        environment = run.record.environment or (known.environment if known else None)
        maze = behaviour.find_maze(environment)
        add(
            behaviour.trajectories(
                whose, evaluation["xy"], evaluation["successes"], evaluation.get("goal_xy"), maze
            ),
            f"{task} {label} paths",
            f"{whose}: the path of every evaluation episode, by goal.",
        )
    for name, figure in mazes.maze_figures(run.folder.path).items():
        add(figure, f"{task} {label} {name}", f"{whose}: {MAZE_CAPTIONS[name]}")
    samples = run.folder.read_samples()
    if {"actions", "data_actions"} <= samples.keys():
        add(
            behaviour.sampled_actions(
                whose,
                samples["actions"],
                samples["data_actions"],
                colour,
            ),
            f"{task} {label} actions",
            f"{whose}: actions that the policy samples at states of the data, and the data's own; "
            "the square is the range of valid actions.",
        )


def markdown_page(
    records: Sequence[Record],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    unfinished: Sequence[Path] = (),
) -> str:
    """Write the report as Markdown that refers to the figures' files."""
    blocks = ["# Report", escape_markdown(_summary(records, unfinished))]
    for table in tables:
        blocks += [f"## {table.title}", table.markdown()]
    if pictures:
        blocks.append("## Figures")
    for picture in pictures:
        caption = escape_markdown(picture.caption)
        blocks.append(f"![{caption}](figures/{picture.name}.png)\n\n{caption}")
    blocks += ["## How the runs were made", _provenance(records).markdown()]
    return "\n\n".join(blocks) + "\n"


def html_page(
    records: Sequence[Record],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    unfinished: Sequence[Path] = (),
) -> str:
    """Write the report as one HTML page that needs nothing but itself."""
    sections = [
        f"<section><h2>{html.escape(table.title)}</h2>\n{_scrolling(table)}</section>"
        for table in tables
    ]
    if pictures:
        shown = "\n".join(map(_html_picture, pictures))
        sections.append(f"<section><h2>Figures</h2>\n{shown}</section>")
    made = [_scrolling(_provenance(records)), *map(_html_settings, group_records(records))]
    sections.append("<section><h2>How the runs were made</h2>\n" + "\n".join(made) + "</section>")
    return _PAGE.substitute(
        summary=html.escape(_summary(records, unfinished)), sections="\n".join(sections)
    )


def _summary(records: Sequence[Record], unfinished: Sequence[Path]) -> str:
    tasks = len({record.task for record in records})
    text = f"{_plural(len(records), 'run')} on {_plural(tasks, 'task')}."
    for outcome in ("diverged", "not evaluated"):
        lost = sum(record.outcome == outcome for record in records)
        if lost:
            text += f" {_plural(lost, 'run')} {outcome}."
    failures = sum(record.failures for record in records)
    if failures:
        text += f" {_plural(failures, 'episode')} ended by a number that is not finite."
    if unfinished:
        text += f" Not in it, having no result yet: {', '.join(map(str, unfinished))}."
    return text


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _provenance(records: Sequence[Record]) -> Table:
    """A row for each run: on what data, with what code, on which machine, when."""
    rows = []
    for group in group_records(records):
        for record in (*group.records, *group.unscored):
            data = record.dataset
            origin = " ".join(str(data[key]) for key in ("name", "origin") if data.get(key))
            texts = (
                *(record.task, f"{record.agent} {record.variant}".strip(), record.preset),
                *(origin, str(data.get("sha256") or "")[:12]),
                *(
                    (record.commit or "")[:10],
                    record.device or "",
                    record.date[:16].replace("T", " "),
                    str(record.seed),
                ),
                record.outcome
                if record.score is None
                else score_text(record.score, record.scored_by_return),
            )
            rows.append(tuple(Cell(text or "–") for text in texts))
    return Table(
        name="provenance",
        title="How the runs were made",
        columns=(
            *("task", "agent", "preset", "data", "sha256", "commit", "device", "date"),
            *("seed", "score"),
        ),
        rows=tuple(rows),
        left=8,
    )


def _html_settings(group: Group) -> str:
    """Everything a group's first run was given, folded away."""
    first = group.first
    name = " · ".join(filter(None, (first.task, first.agent, first.variant, first.preset)))
    blocks = {"config": first.config, "data": first.dataset, "versions": first.versions}
    texts = "\n".join(
        f"<h4>{title}</h4><pre>{html.escape(json.dumps(value, indent=2))}</pre>"
        for title, value in blocks.items()
        if value
    )
    summary = f"<summary>{html.escape(name)} · {first.steps:,} steps</summary>"
    return f"<details>{summary}<p>Seed {first.seed}:</p>{texts}</details>"


def _html_picture(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    source = f"data:image/png;base64,{base64.b64encode(picture.data).decode()}"
    return (
        f'<figure id="{picture.name}"><img src="{source}" alt="{caption}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _scrolling(table: Table) -> str:
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return f'<div class="wide">{table.html()}</div>{note}'


_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>nfrl report</title>
<style>
:root { --ink: #24292f; --soft: #59636e; --paper: #fff; --rule: #d8dee4; --shade: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --rule: #30363d; --shade: #161b22; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
h4 { margin: .75rem 0 .25rem; }
p { margin: 0 0 .5rem; }
.note, figcaption { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; margin-bottom: .5rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
.n { text-align: right; }
figure { margin: 0 0 1.75rem; }
img { display: block; width: 100%; max-width: 60rem; height: auto; background: #fff;
  border: 1px solid var(--rule); border-radius: 6px; }
figcaption { max-width: 60rem; margin-top: .4rem; }
details { border-bottom: 1px solid var(--rule); padding: .5rem 0; }
summary { cursor: pointer; }
pre { margin: 0; padding: .75rem; overflow-x: auto; background: var(--shade); font-size: .8rem;
  border-radius: 6px; }
</style>
</head>
<body>
<h1>nfrl report</h1>
<p>$summary</p>
$sections
</body>
</html>
""")
