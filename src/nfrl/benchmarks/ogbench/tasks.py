"""The tasks of OGBench, with the published scores where there are any."""

from types import MappingProxyType

from nfrl.benchmarks.ogbench.worlds import WORLDS, World
from nfrl.task import Task

# Ghugare and Eysenbach (2025), NF-GCBC: discount, mean success, its deviation over five seeds.
NF_GCBC = {
    "puzzle-3x3-play-v0": (0.97, 0.045, 0.005),
    "scene-play-v0": (0.97, 0.420, 0.008),
    "cube-single-play-v0": (0.97, 0.795, 0.109),
    "cube-double-play-v0": (0.99, 0.351, 0.087),
    "humanoidmaze-medium-navigate-v0": (0.97, 0.314, 0.042),
    "antmaze-large-navigate-v0": (0.99, 0.320, 0.055),
    "antsoccer-arena-navigate-v0": (0.97, 0.621, 0.007),
    "antmaze-medium-stitch-v0": (0.97, 0.566, 0.068),
    "antsoccer-arena-stitch-v0": (0.97, 0.643, 0.016),
}
# Its ablations: one part left out. The empty variant is the whole agent in the same table.
NF_GCBC_ABLATIONS = {
    "cube-single-play-v0": {"": 0.795, "no-linear": 0.0, "no-layernorm": 0.0, "no-denoising": 0.69},
    "scene-play-v0": {"": 0.42, "no-linear": 0.04, "no-layernorm": 0.30, "no-denoising": 0.42},
    "antmaze-large-navigate-v0": {
        "": 0.32,
        "no-linear": 0.26,
        "no-layernorm": 0.29,
        "no-denoising": 0.30,
    },
}

SINGLE_TASK_DISCOUNT = 0.995
"""Of the paper's commands for offline RL."""

# NF-RLBC: Ghugare and Eysenbach (2025), means over five seeds, where the paper names a number.
NF_RLBC = {
    ("antmaze-large-navigate-v0", 1): 0.764,
    ("antmaze-large-navigate-v0", 2): 0.724,
    ("antmaze-large-navigate-v0", 3): 0.924,
    ("antmaze-large-navigate-v0", 4): 0.616,
    ("antmaze-large-navigate-v0", 5): 0.608,
    ("antsoccer-arena-navigate-v0", 4): 0.440,
    ("antsoccer-arena-navigate-v0", 5): 0.336,
}
# FQL: Park et al. (2025), mean and deviation on the default task of each environment.
FQL = {
    ("puzzle-3x3-play-v0", 4): (0.16, 0.05),
    ("scene-play-v0", 2): (0.76, 0.09),
    ("cube-single-play-v0", 2): (0.97, 0.02),
    ("antmaze-large-navigate-v0", 1): (0.80, 0.08),
    ("humanoidmaze-medium-navigate-v0", 1): (0.19, 0.12),
    ("antsoccer-arena-navigate-v0", 4): (0.39, 0.06),
}

# The best published mean of any method. OGBench (Park et al., 2025): written down from memory, in
# agreement with what other papers quote. FQL's paper (Park et al., 2025) gives the default tasks.
_OGBENCH, _FQL, _OWN = "OGBench", "FQL's paper", "NF-GCBC, its paper"
BEST = {
    "puzzle-3x3-play-v0": (0.95, f"GCIQL, {_OGBENCH}"),
    "scene-play-v0": (0.51, f"GCIQL, {_OGBENCH}"),
    "cube-single-play-v0": (0.795, _OWN),
    "cube-double-play-v0": (0.40, f"GCIQL, {_OGBENCH}"),
    "humanoidmaze-medium-navigate-v0": (0.89, f"HIQL, {_OGBENCH}"),
    "antmaze-large-navigate-v0": (0.91, f"HIQL, {_OGBENCH}"),
    "antsoccer-arena-navigate-v0": (0.621, _OWN),
    "antmaze-medium-stitch-v0": (0.94, f"HIQL, {_OGBENCH}"),
    "antsoccer-arena-stitch-v0": (0.643, _OWN),
}
BEST_SINGLE_TASK = {
    ("antmaze-large-navigate-v0", 1): (0.80, "FQL, its paper"),
    ("antsoccer-arena-navigate-v0", 4): (0.440, "NF-RLBC, its paper"),
    ("scene-play-v0", 2): (0.76, "FQL, its paper"),
    ("cube-single-play-v0", 2): (0.97, "FQL, its paper"),
    ("humanoidmaze-medium-navigate-v0", 1): (0.69, f"IFQL, {_FQL}"),
}
NF_RLBC_DATA = (
    "antmaze-large-navigate-v0",
    "humanoidmaze-medium-navigate-v0",
    "antsoccer-arena-navigate-v0",
    "cube-single-play-v0",
    "scene-play-v0",
    "puzzle-3x3-play-v0",
)
"""The data of the paper's offline tasks."""

GOALS = 5
"""Evaluation goals of every environment."""


def _goal_conditioned(world: World, kind: str) -> Task:
    name = f"{world.name}-{kind}-v0"
    discount, mean, deviation = NF_GCBC.get(name, (world.discount, None, None))
    ablation = NF_GCBC_ABLATIONS.get(name)
    return Task(
        name=name,
        family="gcbc",
        environment=f"ogbench:{world.name}-v0",
        discount=discount,
        horizon=world.horizon,
        goals=GOALS,
        goal_columns=world.goal_columns,
        place_columns=world.place_columns,
        tags=(*world.tags, *(("paper",) if mean is not None else ())),
        best=BEST.get(name),
        published={} if mean is None else {"nf-gcbc": mean},
        published_std={} if deviation is None else {"nf-gcbc": deviation},
        published_variants={} if ablation is None else {"nf-gcbc": ablation},
    )


def _development(world: World, kind: str) -> Task:
    """Return a data set with goals to choose presets on, none of which is the benchmark's."""
    task = _goal_conditioned(world, kind)
    return Task(
        name=f"{world.name}-{kind}-dev-v0",
        family="gcbc",
        environment=f"nfrl.benchmarks.ogbench.development:{world.name}-dev-v0",
        discount=task.discount,
        horizon=world.horizon,
        goals=GOALS,
        dataset=task.name,
        goal_columns=world.goal_columns,
        place_columns=world.place_columns,
        tags=(*world.tags, "development"),
    )


def _single_task(world: World, kind: str, number: int | None) -> Task:
    """Return one goal as a task of its own; without a number it is the environment's default."""
    variant = "singletask" if number is None else f"singletask-task{number}"
    data = f"{world.name}-{kind}-v0"
    goal = data, number or world.default_task
    published, deviation = {}, {}
    if goal in NF_RLBC:
        published["nf-rlbc"] = NF_RLBC[goal]
    if goal in FQL:
        published["fql"], deviation["fql"] = FQL[goal]
    return Task(
        name=f"{world.name}-{kind}-{variant}-v0",
        family="offline-rl",
        environment=f"ogbench:{world.name}-{variant}-v0",
        discount=SINGLE_TASK_DISCOUNT,
        horizon=world.horizon,
        goals=1,
        dataset=data,
        goal_columns=world.goal_columns,
        place_columns=world.place_columns,
        rewards=True,
        label="nfrl.benchmarks.ogbench.rewards:label",
        tags=(*world.tags, *(("paper",) if number and data in NF_RLBC_DATA else ())),
        best=BEST_SINGLE_TASK.get(goal),
        published=published,
        published_std=deviation,
    )


TASKS = MappingProxyType(
    {
        task.name: task
        for task in (
            *(_goal_conditioned(world, kind) for world in WORLDS for kind in world.data),
            *(_development(world, kind) for world in WORLDS for kind in world.data),
            *(
                _single_task(world, kind, number)
                for world in WORLDS
                for kind in world.data
                for number in (None, *range(1, GOALS + 1))
            ),
        )
    }
)
"""Every data set, goal-conditioned, with the benchmark's goals and with development
goals; then each goal of the benchmark as a task with rewards."""
