"""Tables of agents over several tasks: interquartile means, and who beats whom how often."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nfrl.reports.groups import Group, compared, group_records, longest, name_columns
from nfrl.reports.statistics import interquartile_mean, probability_of_improvement
from nfrl.reports.table import Cell, Table
from nfrl.runs.records import Record

_MOST_TASKS = 8
_FEW = (
    "No interval: a task has one seed, or all resamples agree. With fewer than about five seeds a "
    "task it is too narrow."
)


@dataclasses.dataclass(frozen=True)
class Rivals:
    """Agents and the tasks that each of them has a score on, none a return.

    Attributes:
        tasks: The tasks.
        groups: By agent, its runs on each task, in the order of the tasks.
    """

    tasks: tuple[str, ...]
    groups: Mapping[str, tuple[Group, ...]]

    def scores(self, agent: str) -> list[NDArray[np.float64]]:
        """For each task, the scores of an agent's runs (runs,)."""
        return _scores(self.groups[agent])


def find_rivals(groups: Iterable[Group]) -> list[Rivals]:
    """Put agents together that can be compared over tasks.

    Agents that share a task stand together, as do those that share one with the same third agent.
    They are compared on the tasks that all of them have. If there is none, the agents with the
    fewest tasks are left out until there is. Agents with a single run each have nothing to put
    together and are left out, too.

    Args:
        groups: Groups of all agents; variants and returns among them are passed over.
    """
    shares = {
        agent: {task: group for task, group in own.items() if not group.scored_by_return}
        for agent, own in _by_agent(groups).items()
    }
    by_agent = {agent: own for agent, own in shares.items() if own}
    found = []
    for together in _connected({agent: set(own) for agent, own in by_agent.items()}):
        agents = sorted(together, key=lambda agent: (-len(by_agent[agent]), agent))
        while not (common := set.intersection(*(set(by_agent[agent]) for agent in agents))):
            agents.pop()
        tasks = tuple(sorted(common))
        chosen = {agent: tuple(by_agent[agent][task] for task in tasks) for agent in sorted(agents)}
        if any(_runs(own) > 1 for own in chosen.values()):
            found.append(Rivals(tasks, chosen))
    return found


def aggregate_table(records: Iterable[Record]) -> Table:
    """Put each agent's runs on all tasks together: mean and interquartile mean."""
    rows, notes = [], []
    for rivals in find_rivals(group_records(records)):
        names = ", ".join(rivals.tasks)
        if len(rivals.tasks) > _MOST_TASKS:
            names = f"{len(rivals.tasks)} tasks that all of them have"
        notes.append(f"{', '.join(rivals.groups)}: on {names}.")
        means = {agent: interquartile_mean(rivals.scores(agent)) for agent in rivals.groups}
        best = max(found.value for found in means.values())
        for agent, groups in rivals.groups.items():
            found = means[agent]
            rows.append(
                (
                    *(Cell(agent), Cell(str(len(rivals.tasks))), Cell(_seeds(groups))),
                    Cell(f"{fmean(group.mean for group in groups):.3f}"),
                    Cell(f"{found.value:.3f}", len(means) > 1 and found.value == best),
                    Cell(_interval(found.interval)),
                )
            )
    return Table(
        name="aggregate",
        title="Over all tasks",
        columns=("agent", "tasks", "seeds", "mean", "IQM", "95% interval"),
        rows=tuple(rows),
        note=(
            "IQM: interquartile mean, the mean of the middle half of all runs on all tasks; of "
            "fewer than four runs, the mean. Interval: of the IQM, seeds resampled within each "
            f"task. {_FEW} Returns are left out. {' '.join(notes)}"
        ),
    )


def improvement_table(records: Iterable[Record]) -> Table:
    """Say of each pair of agents how likely a run of the better one beats one of the other."""
    by_agent = _by_agent(group_records(records))
    rows = []
    for pair in itertools.combinations(sorted(by_agent), 2):
        tasks = sorted(set(by_agent[pair[0]]) & set(by_agent[pair[1]]))
        runs = {agent: [by_agent[agent][task] for task in tasks] for agent in pair}
        if not tasks or all(_runs(groups) < 2 for groups in runs.values()):
            continue
        found = probability_of_improvement(*(_scores(groups) for groups in runs.values()))
        if found.value < 0.5:
            runs = dict(reversed(runs.items()))
            found = probability_of_improvement(*(_scores(groups) for groups in runs.values()))
        sure = found.interval is not None and found.interval[0] > 0.5
        rows.append(
            (
                *map(Cell, runs),
                Cell(str(len(tasks))),
                Cell(" / ".join(map(_seeds, runs.values()))),
                Cell(f"{found.value:.2f}", sure),
                Cell(_interval(found.interval)),
            )
        )
    return Table(
        name="improvement",
        title="Who beats whom",
        columns=("agent", "over", "tasks", "seeds", "P(better)", "95% interval"),
        rows=tuple(rows),
        left=2,
        note=(
            "P(better): the probability of improvement. A run of the first agent scores higher "
            "than one of the second, ties counted half, mean over the tasks that both have. "
            "Seeds: of the first / of the second, on each task. Interval: seeds resampled within "
            f"each task; bold where it lies above 0.5. {_FEW}"
        ),
    )


def _by_agent(groups: Iterable[Group]) -> dict[str, dict[str, Group]]:
    """By agent and task, the groups that have a score, as the table of scores compares them."""
    chosen = compared(groups)
    found: dict[str, dict[str, Group]] = {}
    for (task, agent), group in longest(chosen, name_columns(chosen)).items():
        if group.scored:
            found.setdefault(agent, {})[task] = group
    return found


def _connected(tasks: Mapping[str, set[str]]) -> list[set[str]]:
    """Part agents so that no task has agents of two parts."""
    parts: list[set[str]] = []
    for agent, own in tasks.items():
        met = [part for part in parts if any(own & tasks[other] for other in part)]
        parts = [part for part in parts if part not in met]
        parts.append({agent}.union(*met))
    return parts


def _scores(groups: Sequence[Group]) -> list[NDArray[np.float64]]:
    return [np.array([record.score for record in group.records], float) for group in groups]


def _runs(groups: Sequence[Group]) -> int:
    return sum(len(group.records) for group in groups)


def _seeds(groups: Sequence[Group]) -> str:
    """How many seeds there are on a task: ``3``, or ``1 to 3`` where tasks differ."""
    numbers = {len(group.records) for group in groups}
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"
