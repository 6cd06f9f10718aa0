"""What a task is: an environment, a data set, a discount, and the paper's score on it."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Task:
    """One task: goals to reach, a reward to gather, or demonstrations to follow.

    Attributes:
        name: The task's name: ``cube-single-play-v0``, ``cube-single-play-singletask-task2-v0``.
        suite: The family it belongs to: ``gcbc``, ``offline-rl`` or ``imitation``.
        environment: The Gymnasium id: ``cube-single-v0``.
        discount: gamma of the geometric goal sampling, or of future rewards (the paper's).
        horizon: The environment's episode limit in steps.
        goals: How many evaluation goals there are; ``task_id`` runs from 1 to this.
        data: The name of its data set; None if that is the task's own.
        goal_columns: The columns of an observation that decide success, as OGBench's oracle
            representations of goals have them; empty where a goal is no observation.
        rewards: Whether its environment rewards, and its data are to be labelled with rewards.
        measure: What its score in [0, 1] is: ``success rate``, ``share covered``.
        published: Published mean scores by agent, in [0, 1]; empty where there are none.
        published_std: Their standard deviations over seeds, by agent.
    """

    name: str
    suite: str
    environment: str
    discount: float
    horizon: int
    goals: int = 5
    data: str | None = None
    goal_columns: tuple[int, ...] = ()
    rewards: bool = False
    measure: str = "success rate"
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published_std: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The name of the task's data set."""
        return self.data or self.name

    @property
    def is_maze(self) -> bool:
        """Whether the first two coordinates of an observation are the agent's x and y."""
        return "maze" in self.name or "antsoccer" in self.name
