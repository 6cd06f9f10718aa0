"""What a task is: an environment, a data set, a discount, and the paper's score on it."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Task:
    """One goal-conditioned task of OGBench (``environment.reset(options={"task_id": i})``).

    Attributes:
        name: The task's name, which is its data set's: ``cube-single-play-v0``.
        suite: The family it belongs to: ``gcbc``.
        environment: The Gymnasium id: ``cube-single-v0``.
        discount: gamma of the geometric goal sampling (paper, NF-GCBC's table).
        horizon: The environment's episode limit in steps.
        goals: How many evaluation goals there are; ``task_id`` runs from 1 to this.
        published: The paper's mean success rate by agent, in [0, 1]; empty where it has none.
        published_std: Its standard deviation over seeds, by agent.
    """

    name: str
    suite: str
    environment: str
    discount: float
    horizon: int
    goals: int = 5
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published_std: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The name of the task's data set."""
        return self.name

    @property
    def is_maze(self) -> bool:
        """Whether the first two coordinates of an observation are the agent's x and y."""
        return "maze" in self.name or "antsoccer" in self.name
