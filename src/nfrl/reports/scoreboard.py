"""The scoreboard: each task of the paper with the paper's score, ours, a rival's and the best."""

from collections.abc import Iterable
from typing import Literal

from nfrl.registry import mappings
from nfrl.reports.groups import Group, agent_and_variant, by_task, group_records, longest
from nfrl.reports.table import Cell, Table
from nfrl.reports.tables import score_cell
from nfrl.runs.records import Record
from nfrl.task import Task

OURS = {"imitation": "nf-bc", "gcbc": "nf-gcbc", "offline-rl": "nf-rlbc", "exploration": "nf-ugs"}
"""The paper's algorithm of each family of tasks."""
NAMES = {
    "imitation": "imitation",
    "gcbc": "goal-conditioned imitation",
    "offline-rl": "offline RL",
    "exploration": "exploration",
}
Side = Literal["paper", "beyond", "rival"]

_NONE = Cell("–")


def paper_tasks() -> tuple[Task, ...]:
    """Return the tasks of the paper: each of a family, in the order of their names."""
    found = [task for task in mappings("tasks").values() if "paper" in task.tags]
    return tuple(sorted(found, key=lambda task: (list(NAMES).index(task.family), task.name)))


def count_tasks(tasks: Iterable[Task]) -> int:
    """Count as the paper does: every goal of goal-conditioned imitation is a task."""
    return sum(task.goals if task.family == "gcbc" else 1 for task in tasks)


def scoreboard_table(records: Iterable[Record]) -> Table:
    """Make a row for each of the paper's tasks; what nobody has run or published is a dash."""
    groups = _offline(records)
    rows = []
    for task in paper_tasks():
        own = [group for group in groups.get(task.name, []) if group.scored]
        published = task.published.get(OURS[task.family])
        rows.append(
            (
                Cell(f"{task.name} ({task.goals} goals)" if task.family == "gcbc" else task.name),
                _NONE if published is None else Cell(f"{published:.3f}"),
                *(_best(own, task, side) for side in ("paper", "beyond", "rival")),
                _NONE if task.best is None else Cell(f"{task.best[0]:.3f} ({task.best[1]})"),
            )
        )
    return Table(
        name="scoreboard",
        title="The paper's tasks",
        columns=(
            *("task", "paper", "its algorithm here", "beyond the paper", "best rival here"),
            "best published",
        ),
        rows=tuple(rows),
        note=(
            "Several seeds: mean ± standard deviation over seeds (their number). One seed: mean "
            "[95% interval over episodes]. Its algorithm here: the longest run of it. Beyond the "
            "paper, and rivals: the highest mean of those recorded, so chance favours them. Dash: "
            "not run, or no number published."
        ),
    )


def summary_table(records: Iterable[Record]) -> Table:
    """Count, family by family, the tasks that were run, and those where the paper is reached."""
    groups = _offline(records)
    rows, total = [], [0] * 5
    for family, title in NAMES.items():
        tasks = [task for task in paper_tasks() if task.family == family]
        scored = {t.name: [g for g in groups.get(t.name, []) if g.scored] for t in tasks}
        known = [task for task in tasks if OURS[family] in task.published]
        counts = [
            count_tasks(tasks),
            count_tasks(task for task in tasks if scored[task.name]),
            count_tasks(known),
            count_tasks(t for t in known if _reached(scored[t.name], t, "paper")),
            count_tasks(t for t in known if _reached(scored[t.name], t, "paper", "beyond")),
        ]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        rows.append((Cell(title), *(Cell(str(number)) for number in counts)))
    rows.append((Cell("all"), *(Cell(str(number)) for number in total)))
    return Table(
        name="summary",
        title="The paper's tasks, counted",
        columns=(
            *("use", "tasks", "run here", "paper gives a number"),
            *("reached by its algorithm", "reached by any of ours"),
        ),
        rows=tuple(rows),
        note="Reached: the mean is at least the paper's. Goals count as the paper counts them: "
        "five to a data set, by the mean over all five.",
    )


def count_table(records: Iterable[Record]) -> Table:
    """The last row of :func:`summary_table` alone: one line for a README."""
    summary = summary_table(records)
    return Table(
        name="count",
        title=summary.title,
        columns=("the paper's tasks", *summary.columns[2:]),
        rows=(summary.rows[-1][1:],),
        left=0,
    )


def _offline(records: Iterable[Record]) -> dict[str, list[Group]]:
    """Group what was run as the paper ran it: without further steps in the environment."""
    return by_task(group_records(record for record in records if not record.online_steps))


def _side(group: Group, task: Task) -> Side:
    """Say whose a group's runs are: the paper's algorithm, ours beyond it, or a rival's.

    Our agent with a Gaussian in the place of its flow is a rival: what the flow must better.
    """
    first = group.first
    if first.config.get("agent", {}).get("flow", {}).get("name") == "gaussian":
        return "rival"
    if first.agent == OURS[task.family] and not first.variant:
        return "paper"
    return "beyond" if first.agent.startswith("nf-") else "rival"


def _longest(groups: list[Group], task: Task, side: Side) -> Iterable[Group]:
    """Return the longest run of each agent and variant of a side."""
    own = [group for group in groups if _side(group, task) == side]
    return longest(own, agent_and_variant).values()


def _reached(groups: list[Group], task: Task, *sides: Side) -> bool:
    score = task.published[OURS[task.family]]
    return any(group.mean >= score for side in sides for group in _longest(groups, task, side))


def _best(groups: list[Group], task: Task, side: Side) -> Cell:
    best = max(_longest(groups, task, side), key=lambda group: group.mean, default=None)
    if best is None:
        return _NONE
    cell = score_cell(best)
    return cell if side == "paper" else Cell(f"{cell.text} {agent_and_variant(best)}")
