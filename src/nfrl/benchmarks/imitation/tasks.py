"""The tasks of imitation: chunks of actions from demonstrations that go several ways."""

from collections.abc import Mapping
from types import MappingProxyType

from nfrl.task import Task


def _task(name: str, environment: str, horizon: int, measure: str, **published: float) -> Task:
    return Task(
        name=name,
        suite="imitation",
        environment=environment,
        discount=1.0,
        horizon=horizon,
        goals=1,
        measure=measure,
        published=published,
    )


# The paper's PushT: the default of 24 blocks and sigma 0.1 in its tables by blocks and by noise.
IMITATION: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            _task("pusht", "nfrl/PushT-v0", 300, "share of the mark covered", **{"nf-bc": 0.827}),
            _task("two-blocks", "nfrl/TwoBlocks-v0", 300, "blocks placed / 2"),
            _task("multimodal-ant", "nfrl/MultimodalAnt-v0", 600, "targets reached / 4"),
            _task("kitchen", "nfrl/Kitchen-v0", 280, "tasks completed / 4"),
        )
    }
)
"""Every imitation task, by name; each is scored by how far its episodes come, in [0, 1]."""
