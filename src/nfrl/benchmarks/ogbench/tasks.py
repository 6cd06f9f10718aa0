"""The tasks of OGBench, with the published scores where there are any."""

from collections.abc import Mapping
from types import MappingProxyType

from nfrl.task import Task

# Episode limits of OGBench's environments.
HORIZONS = {
    "pointmaze": 1000,
    "antmaze": 1000,
    "humanoidmaze": 2000,
    "antsoccer": 1000,
    "cube-single": 200,
    "cube": 500,
    "cube-triple": 1000,
    "cube-quadruple": 1000,
    "scene": 750,
    "puzzle": 500,
    "puzzle-4x5": 1000,
    "puzzle-4x6": 1000,
}

ARM = 19
"""Columns of an observation that are of the arm itself, the first ones."""

# Ghugare and Eysenbach (2025), NF-GCBC: discount, mean success, its deviation over five seeds.
PAPER = {
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

# The same data family without a figure in the paper; the code's discount.
OTHERS = (
    *(f"pointmaze-{size}-{kind}-v0" for size in ("medium", "large", "giant", "teleport")
      for kind in ("navigate", "stitch")),
    *(f"{name}-noisy-v0" for name in ("cube-single", "cube-double", "scene", "puzzle-3x3")),
    *(f"cube-{number}-{kind}-v0" for number in ("triple", "quadruple")
      for kind in ("play", "noisy")),
    *(f"puzzle-{size}-{kind}-v0" for size in ("4x4", "4x5", "4x6") for kind in ("play", "noisy")),
)  # fmt: skip


def _task(name: str) -> Task:
    discount, mean, deviation = PAPER.get(name, (0.97, None, None))
    *family, _, version = name.split("-")
    return Task(
        name=name,
        suite="gcbc",
        environment="-".join((*family, version)),
        discount=discount,
        horizon=_horizon(name),
        goal_columns=_goal_columns(name),
        published={} if mean is None else {"nf-gcbc": mean},
        published_std={} if deviation is None else {"nf-gcbc": deviation},
    )


def _goal_columns(name: str) -> tuple[int, ...]:
    """Return the columns of x and y in mazes; of the ball; of all that an arm can move."""
    environment, size, *_ = name.split("-")
    if environment == "antsoccer":
        return (15, 16)
    if environment.endswith("maze"):
        return (0, 1)
    if environment == "scene":
        return (*range(ARM, ARM + 3), *(28, 29, 32, 33), 36, 38)
    if environment == "puzzle":  # each button: its two states, its position and velocity
        rows, columns = map(int, size.split("x"))
        return tuple(ARM + 4 * i + j for i in range(rows * columns) for j in range(2))
    cubes = 1 + ("single", "double", "triple", "quadruple").index(size)
    return tuple(ARM + 9 * i + j for i in range(cubes) for j in range(3))


def _horizon(name: str) -> int:
    longest = max((key for key in HORIZONS if name.startswith(key)), key=len)
    return HORIZONS[longest]


GCBC: Mapping[str, Task] = MappingProxyType({name: _task(name) for name in (*PAPER, *OTHERS)})
"""Every goal-conditioned task, by name; those of the paper first."""


# Offline RL, six environments of five tasks each: the discount of the paper's commands.
SINGLE_TASK_DATA = (
    "puzzle-3x3-play-v0",
    "scene-play-v0",
    "cube-single-play-v0",
    "antmaze-large-navigate-v0",
    "humanoidmaze-medium-navigate-v0",
    "antsoccer-arena-navigate-v0",
)
SINGLE_TASK_DISCOUNT = 0.995

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


def _single_task(data: str, number: int) -> Task:
    *family, kind, version = data.split("-")
    singletask = f"singletask-task{number}"
    published, deviation = {}, {}
    if (data, number) in NF_RLBC:
        published["nf-rlbc"] = NF_RLBC[data, number]
    if (data, number) in FQL:
        published["fql"], deviation["fql"] = FQL[data, number]
    return Task(
        name="-".join((*family, kind, singletask, version)),
        suite="offline-rl",
        environment="-".join((*family, singletask, version)),
        discount=SINGLE_TASK_DISCOUNT,
        horizon=_horizon(data),
        goals=1,
        data=data,
        rewards=True,
        published=published,
        published_std=deviation,
    )


OFFLINE_RL: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (_single_task(data, n) for data in SINGLE_TASK_DATA for n in range(1, 6))
    }
)
"""Every task with rewards, by name: five goals of each environment, each as a task of its own."""
