"""The tasks of imitation: chunks of actions from demonstrations that go several ways."""

from collections.abc import Mapping
from math import nan
from types import MappingProxyType

from nfrl.task import Task

# NF-BC on PushT (Ghugare and Eysenbach, 2025). The empty variant has 6 blocks, as the laptop preset
# has; those of other noise have 24. All of the paper's have chunks of 8.
NF_BC_ABLATIONS = {
    "": 0.77,
    "chunk-16-blocks-24": 0.827,
    "chunk-16-noise-0.3": 0.79,
    "chunk-16-noise-0.03": 0.873,
    "chunk-16-noise-0": nan,
}


def _task(
    name: str,
    environment: str,
    horizon: int,
    measure: str,
    adapt: str | None = None,
    variants: Mapping[str, Mapping[str, float]] | None = None,
    dataset: str = "",
    tags: tuple[str, ...] = ("paper",),
    published: Mapping[str, float] | None = None,
) -> Task:
    return Task(
        name=name,
        family="imitation",
        environment=f"nfrl.benchmarks.imitation.environments:{environment}",
        discount=1.0,
        horizon=horizon,
        goals=1,
        adapt=adapt,
        scored_by="score",
        measure=measure,
        dataset=dataset,
        tags=tags,
        published=published or {},
        published_variants=variants or {},
    )


TASKS = MappingProxyType(
    {
        task.name: task
        for task in (
            # The paper's: the default of 24 blocks and sigma 0.1 in its tables by blocks and by
            # noise.
            _task(
                "pusht",
                "nfrl/PushT-v0",
                300,
                "share of the mark covered",
                adapt="nfrl.benchmarks.imitation.pusht:adapt",
                variants={"nf-bc": NF_BC_ABLATIONS},
                published={"nf-bc": 0.827},
            ),
            # Its demonstrations as they are seen: for agents with image encoders.
            _task(
                "pusht-pixels",
                "nfrl/PushTPixels-v0",
                300,
                "share of the mark covered",
                adapt="nfrl.benchmarks.imitation.pusht_pixels:adapt_to_pixels",
                dataset="pusht",
                tags=("pixels",),
            ),
            _task("two-blocks", "nfrl/TwoBlocks-v0", 300, "blocks placed / 2"),
            _task("multimodal-ant", "nfrl/MultimodalAnt-v0", 600, "targets reached / 4"),
            _task("kitchen", "nfrl/Kitchen-v0", 280, "tasks completed / 4"),
        )
    }
)
"""Every imitation task, by name; each is scored by how far its episodes come, in [0, 1]."""
