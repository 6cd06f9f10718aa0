"""``nfrl tasks``: what there is to solve."""

import dataclasses
import sys
from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.table import Column, Table

from nfrl.benchmarks import TASKS, Task
from nfrl.collect.catalog import RECIPES
from nfrl.collect.expert_policy import is_there
from nfrl.data.formats.ogbench import dataset_path
from nfrl.errors import unknown_name


@dataclasses.dataclass(frozen=True)
class TasksOptions:
    """List the tasks, their data, and the paper's scores."""

    suite: str | None = None
    """Only this family of tasks: gcbc, offline-rl or imitation."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl tasks`` and do it."""
    options = tyro.cli(TasksOptions, args=list(arguments), prog="nfrl tasks")
    suites = {task.suite for task in TASKS.values()}
    if options.suite is not None and options.suite not in suites:
        raise unknown_name("suite", options.suite, suites)
    task_column, published = Column("task", no_wrap=True), Column("published", no_wrap=True)
    table = Table(task_column, "suite", "goals", "horizon", "discount", published, "data")
    for task in TASKS.values():
        if options.suite in (None, task.suite):
            table.add_row(
                task.name,
                task.suite,
                str(task.goals),
                str(task.horizon),
                f"{task.discount}",
                ", ".join(_published(task, agent) for agent in task.published),
                _data(task.dataset),
            )
    # What reads a pipe has no width: there, every task keeps to its line.
    Console(width=None if sys.stdout.isatty() else 170).print(table)


def _published(task: Task, agent: str) -> str:
    deviation = task.published_std.get(agent)
    spread = "" if deviation is None else f" ± {deviation:.3f}"
    return f"{agent} {task.published[agent]:.3f}{spread}"


def _data(name: str) -> str:
    if dataset_path(name).is_file():
        return "on disk"
    if name not in RECIPES:
        return "from a file, or --download" if name.endswith("-v0") else "from a file"
    missing = [expert for expert in RECIPES[name].experts if not is_there(expert)]
    return f"needs the {missing[0]} expert" if missing else "made here"
