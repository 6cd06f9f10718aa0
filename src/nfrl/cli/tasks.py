"""``nfrl tasks``: what there is to solve."""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from nfrl import registry
from nfrl.collect.expert_policy import is_there
from nfrl.collect.recipe import can_be_made, recipe
from nfrl.data.formats.ogbench import dataset_path
from nfrl.data.load import is_uri
from nfrl.errors import UserError, unknown_name
from nfrl.task import FAMILIES, Task

ASKED_FOR = {"development", "visual"}
"""Tags of tasks that are listed only where they are asked for."""


@dataclasses.dataclass(frozen=True)
class TasksOptions:
    """List the tasks, their data, and the published scores."""

    family: Annotated[str | None, tyro.conf.arg(aliases=["--suite"])] = None
    """Only this family of tasks: gcbc, offline-rl, imitation or exploration."""
    tag: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--robot"])] = ()
    """Only tasks with all of these words: arm, maze, ant, cube, ..."""
    all: bool = False
    """A row for every task; by default the goals of one data set, each a task, share a row, and
    development goals and OGBench's images are shown by --tag development and --tag visual alone."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl tasks`` and do it."""
    options = tyro.cli(TasksOptions, args=list(arguments), prog="nfrl tasks")
    groups = [[task] for task in _chosen(options)]
    if not options.all:
        groups = fold(task for (task,) in groups)
    task_column, published, data = (
        Column(title, no_wrap=True) for title in ("task", "published", "data")
    )
    table = Table(task_column, "family", "goals", "horizon", "discount", published, data)
    for group in groups:
        task = group[0]
        table.add_row(
            # As text: rich would take square brackets for markup.
            Text(pattern([each.name for each in group])),
            task.family,
            str(task.goals),
            str(task.horizon),
            f"{task.discount}",
            _published(group),
            _data(task),
        )
    # What reads a pipe has no width: there, every task keeps to its line.
    Console(width=None if sys.stdout.isatty() else 190).print(table)


def _chosen(options: TasksOptions) -> list[Task]:
    """Return the tasks that were asked for.

    Raises:
        UserError: There is no such family or word, or no task with all of them.
    """
    families = list(FAMILIES)
    if options.family not in (None, *families):
        raise unknown_name("family", str(options.family), families)
    tasks: list[Task] = sorted(
        registry.mappings("tasks").values(), key=lambda task: families.index(task.family)
    )
    tags = {tag for task in tasks for tag in task.tags}
    for tag in options.tag:
        if tag not in tags:
            raise unknown_name("tag", tag, tags)
    found = [
        task
        for task in tasks
        if options.family in (None, task.family)
        and set(options.tag) <= set(task.tags)
        and (options.all or set(task.tags) & ASKED_FOR <= set(options.tag))
    ]
    if not found:
        raise UserError(f"no such task is tagged {' and '.join(options.tag)}")
    return found


def fold(tasks: Iterable[Task]) -> list[list[Task]]:
    """Put tasks together that differ in nothing but their goal: the same data, the same values."""
    groups: dict[tuple, list[Task]] = {}
    for task in tasks:
        tags = tuple(tag for tag in task.tags if tag != "paper")
        key = (task.family, task.dataset, task.goals, task.horizon, task.discount, tags)
        groups.setdefault(key, []).append(task)
    return list(groups.values())


def pattern(names: Sequence[str]) -> str:
    """Write names as one: what they share once, and what they do not in braces.

    >>> pattern(["a-task1-v0", "a-task2-v0", "a-task3-v0"])
    'a-task{1..3}-v0'
    >>> pattern(["a-task1-v0", "a-task2-v0", "a-v0"])
    'a-[task{1..2}-]v0'
    """
    if len(names) == 1:
        return names[0]
    start = _shared_start(names)
    rests = [name.removeprefix(start) for name in names]
    end = _shared_start([rest[::-1] for rest in rests])[::-1]
    middles = [rest.removesuffix(end) for rest in rests]
    if "" in middles:
        return f"{start}[{pattern([middle for middle in middles if middle])}]{end}"
    if all(middle.isdecimal() for middle in middles):
        numbers = sorted(map(int, middles))
        if numbers == [*range(numbers[0], numbers[-1] + 1)]:
            return f"{start}{{{numbers[0]}..{numbers[-1]}}}{end}"
    return f"{start}{{{','.join(middles)}}}{end}"


def _shared_start(words: Sequence[str]) -> str:
    for place, letters in enumerate(zip(*words, strict=False)):
        if len(set(letters)) > 1:
            return words[0][:place]
    return min(words, key=len)


def _published(group: Sequence[Task]) -> str:
    """Say each agent's score; of several tasks the lowest and the highest."""
    agents = dict.fromkeys(agent for task in group for agent in task.published)
    return ", ".join(f"{agent} {_score(group, agent)}" for agent in agents)


def _score(group: Sequence[Task], agent: str) -> str:
    scored = [task for task in group if agent in task.published]
    low, high = (select(task.published[agent] for task in scored) for select in (min, max))
    if low < high:
        return f"{low:.3f} to {high:.3f}"
    deviation = scored[0].published_std.get(agent)
    return f"{low:.3f}" if deviation is None else f"{low:.3f} ± {deviation:.3f}"


def _data(task: Task) -> str:
    """Say where a task's data come from."""
    if task.world is not None:
        return "none needed"
    if is_uri(task.dataset):
        return task.dataset
    if dataset_path(task.dataset).is_file():
        return "on disk"
    if not can_be_made(task.dataset):
        return "from a file"
    missing = [expert for expert in recipe(task.dataset).experts if not is_there(expert)]
    return f"needs the {missing[0]} expert" if missing else "made here"
