"""What there is to solve: environments, their data, and the published scores."""

from nfrl.benchmarks.imitation.tasks import IMITATION
from nfrl.benchmarks.ogbench.tasks import GCBC, OFFLINE_RL
from nfrl.errors import unknown_name
from nfrl.task import Task

TASKS = {**GCBC, **OFFLINE_RL, **IMITATION}
"""Every task by name."""


def find_task(name: str) -> Task:
    """Return the task of a name.

    Raises:
        UserError: There is none; the message names the nearest.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


__all__ = ["TASKS", "Task", "find_task"]
