"""What a task is: a value that says everything about it, so that nothing else asks its name."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from nfrl import registry
from nfrl.errors import UserError

Family = Literal["gcbc", "offline-rl", "imitation", "exploration"]
FAMILIES: dict[Family, str] = {
    "gcbc": "has goals and no rewards",
    "offline-rl": "has rewards",
    "imitation": "has demonstrations",
    "exploration": "is a maze to explore",
}
"""What a task gives to learn from."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One task: goals to reach, a reward to gather, demonstrations to follow, a maze to explore.

    What is code is named as ``package.module:name`` and imported where it runs: in a simulator's
    process, or where data are made.

    Attributes:
        name: The task's name: ``cube-single-play-v0``, ``cube-single-play-singletask-task2-v0``.
        family: What it gives to learn from; see ``FAMILIES``.
        environment: What to act in: a Gymnasium id, with the module that registers it where one
            must be imported first (``ogbench:cube-single-v0``); or ``package.module:Class``; None
            where there is nothing to act in.
        discount: gamma of the geometric goal sampling, or of future rewards.
        horizon: The environment's episode limit in steps.
        goals: How many evaluation goals there are; ``task_id`` runs from 1 to this.
        dataset: The name of its data set, or a URI (:func:`nfrl.data.load.load`); by default the
            task's own name.
        observation_keys: Of an environment that observes a dictionary, what makes an observation.
        goal_columns: The columns of an observation that decide success; empty where a goal is no
            observation.
        partial_goals: Whether goals say nothing but their ``goal_columns``, so that an agent must
            not look at the others.
        place_columns: The columns of an observation that are x and y on a map, to draw paths of;
            empty where there is no map.
        rewards: Whether it has rewards, and its data are to be labelled with them.
        label: Gives data their rewards: a function of (environment, arrays) to (rewards, masks);
            None where the data bring them.
        adapt: Translates data that were published for it: a function of the data as they were
            read (:class:`nfrl.data.trajectories.Trajectories`); None for none.
        world: The simulator in JAX of a maze to explore, a function of the task's name.
        ends_at_success: Whether an episode ends when the task is done.
        scored_by: What an episode is scored by: ``success``, whether its goal was reached;
            ``score``, how far it came; ``return``, the sum of its rewards.
        measure: What its score is, in words.
        tags: Words for what a preset may want to know of it: ``arm``, ``maze``, ``ant``; and
            ``paper``, where it is one of the paper's 82.
        published: Published mean scores by agent; empty where there are none.
        published_std: Their standard deviations over seeds, by agent.
        best: The best published mean score of any method, and whose it is; None if not known.
        published_variants: Published mean scores of an agent's variants, by agent and variant; NaN
            for one that diverged. The empty variant is what the others are held against.
    """

    name: str
    family: Family
    environment: str | None
    discount: float
    horizon: int
    goals: int = 5
    dataset: str = ""
    observation_keys: tuple[str, ...] = ()
    goal_columns: tuple[int, ...] = ()
    partial_goals: bool = False
    place_columns: tuple[int, ...] = ()
    rewards: bool = False
    label: str | None = None
    adapt: str | None = None
    world: str | None = None
    ends_at_success: bool = True
    scored_by: Literal["success", "score", "return"] = "success"
    measure: str = "success rate"
    tags: tuple[str, ...] = ()
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published_std: Mapping[str, float] = dataclasses.field(default_factory=dict)
    best: tuple[float, str] | None = None
    published_variants: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.dataset:
            object.__setattr__(self, "dataset", self.name)


def find_task(name: str) -> Task:
    """Return the task of a name that a package announces, or of ``package.module:name``.

    Raises:
        UserError: There is none; the message gives the nearest. Or what stands there is no task.
    """
    found = registry.find_in_mappings("tasks", name)
    if not isinstance(found, Task):
        raise UserError(f"{name} is a {type(found).__name__}, not a task")
    return found
