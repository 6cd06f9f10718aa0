"""Which data sets can be made here, and what each of them is."""

import dataclasses
from pathlib import Path
from typing import Literal

from nfrl.data.formats import ogbench
from nfrl.errors import unknown_name

Family = Literal["manipulation", "maze", "soccer", "pusht", "two-blocks", "multimodal-ant"]

# Raised whenever the same name, seed and steps would give other data than before.
REVISION = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one data set is made.

    Attributes:
        name: The data set's name, as in OGBench: ``cube-single-play-v0``.
        environment: The Gymnasium id it is collected in: ``cube-single-v0``.
        family: The module of this room that collects it.
        kind: OGBench's data set type: play, noisy, navigate, stitch or explore; planned, where a
            planner shows how a task is solved.
        episodes: Training episodes of the full data set; validation has a tenth as many.
        steps: Rows per episode; the last is the final observation. At most so many, where episodes
            end by themselves (planned).
        experts: The trained policies that act in it.
    """

    name: str
    environment: str
    family: Family
    kind: str
    episodes: int
    steps: int
    experts: tuple[str, ...] = ()

    def file(self, episodes: int | None = None, seed: int = 0) -> Path:
        """Name its training file in the folder of data sets.

        Args:
            episodes: Training episodes; None, like the full number, for the full data set.
            seed: The seed that it is made with.
        """
        size = None if episodes == self.episodes else episodes
        return ogbench.dataset_path(self.name, size, seed)


def recipe(name: str) -> Recipe:
    """Look up a data set that can be made here.

    Args:
        name: ``cube-single-play-v0`` and the like.

    Raises:
        UserError: There is no such data set; the nearest names are given.
    """
    if name not in RECIPES:
        raise unknown_name("dataset", name, RECIPES)
    return RECIPES[name]


def _manipulation() -> list[Recipe]:
    # More objects, more episodes (OGBench, table of data sets).
    episodes = {"cube-triple": 3000, "cube-quadruple": 5000, "puzzle-4x5": 3000, "puzzle-4x6": 5000}
    scenes = [f"cube-{count}" for count in ("single", "double", "triple", "quadruple")]
    scenes += ["scene"]
    scenes += [f"puzzle-{size}" for size in ("3x3", "4x4", "4x5", "4x6")]
    return [
        Recipe(
            name=f"{scene}-{kind}-v0",
            environment=f"{scene}-v0",
            family="manipulation",
            kind=kind,
            episodes=episodes.get(scene, 1000),
            steps=1001,
        )
        for scene in scenes
        for kind in ("play", "noisy")
    ]


# Episodes and rows per episode (OGBench, table of data sets): who is slower, or has farther to go,
# is given more.
_NAVIGATE, _STITCH, _EXPLORE = (1000, 1001), (5000, 201), (10000, 501)
_MAZES: dict[tuple[str, str], dict[str, tuple[int, int]]] = {
    ("pointmaze", "medium"): {"navigate": _NAVIGATE, "stitch": _STITCH},
    ("pointmaze", "large"): {"navigate": _NAVIGATE, "stitch": _STITCH},
    ("pointmaze", "giant"): {"navigate": (500, 2001), "stitch": _STITCH},
    ("pointmaze", "teleport"): {"navigate": _NAVIGATE, "stitch": _STITCH},
    ("antmaze", "medium"): {"navigate": _NAVIGATE, "stitch": _STITCH, "explore": _EXPLORE},
    ("antmaze", "large"): {"navigate": _NAVIGATE, "stitch": _STITCH, "explore": _EXPLORE},
    ("antmaze", "giant"): {"navigate": (500, 2001), "stitch": _STITCH},
    ("antmaze", "teleport"): {"navigate": _NAVIGATE, "stitch": _STITCH, "explore": _EXPLORE},
    ("humanoidmaze", "medium"): {"navigate": (1000, 2001), "stitch": (5000, 401)},
    ("humanoidmaze", "large"): {"navigate": (1000, 2001), "stitch": (5000, 401)},
    ("humanoidmaze", "giant"): {"navigate": (1000, 4001), "stitch": (10000, 401)},
    ("antsoccer", "arena"): {"navigate": _NAVIGATE, "stitch": _STITCH},
    ("antsoccer", "medium"): {"navigate": (4000, 1001), "stitch": (8000, 501)},
}
_EXPERTS: dict[str, tuple[str, ...]] = {
    "pointmaze": (),
    "antmaze": ("ant",),
    "humanoidmaze": ("humanoid",),
    "antsoccer": ("ant", "ant-ball"),
}


def _mazes() -> list[Recipe]:
    return [
        Recipe(
            name=f"{mover}-{maze}-{kind}-v0",
            environment=f"{mover}-{maze}-v0",
            family="soccer" if mover == "antsoccer" else "maze",
            kind=kind,
            episodes=episodes,
            steps=steps,
            experts=_EXPERTS[mover],
        )
        for (mover, maze), kinds in _MAZES.items()
        for kind, (episodes, steps) in kinds.items()
    ]


def _imitation() -> list[Recipe]:
    # The environment's episodes are of 300 steps; people's demonstrations are 206 (Chi et al.).
    pusht = Recipe(
        name="pusht",
        environment="nfrl/PushT-v0",
        family="pusht",
        kind="planned",
        episodes=500,
        steps=301,
    )
    # An episode takes about 150 steps.
    two_blocks = Recipe(
        name="two-blocks",
        environment="nfrl/TwoBlocks-v0",
        family="two-blocks",
        kind="planned",
        episodes=500,
        steps=301,
    )
    # Four corners take about 300 steps.
    multimodal_ant = Recipe(
        name="multimodal-ant",
        environment="nfrl/MultimodalAnt-v0",
        family="multimodal-ant",
        kind="planned",
        episodes=500,
        steps=601,
        experts=("ant",),
    )
    return [pusht, two_blocks, multimodal_ant]


RECIPES: dict[str, Recipe] = {
    each.name: each for each in [*_manipulation(), *_mazes(), *_imitation()]
}
