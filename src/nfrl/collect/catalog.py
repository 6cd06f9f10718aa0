"""Which data sets can be made here, and what each of them is."""

import dataclasses
from pathlib import Path
from typing import Literal

from nfrl.data import ogbench
from nfrl.errors import unknown_name

Family = Literal["manipulation", "pointmaze", "pusht", "two-blocks"]

# Raised whenever the same name, seed and steps would give other data than before.
REVISION = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one data set is made.

    Attributes:
        name: The data set's name, as in OGBench: ``cube-single-play-v0``.
        environment: The Gymnasium id it is collected in: ``cube-single-v0``.
        family: The module of this room that collects it.
        kind: OGBench's data set type: play, noisy, navigate or stitch; planned, where a planner
            shows how a task is solved.
        episodes: Training episodes of the full data set; validation has a tenth as many.
        steps: Rows per episode; the last is the final observation. At most so many, where episodes
            end by themselves (planned).
    """

    name: str
    environment: str
    family: Family
    kind: str
    episodes: int
    steps: int

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


def _pointmaze() -> list[Recipe]:
    recipes = []
    for maze in ("medium", "large", "giant", "teleport"):
        # The giant maze is crossed in more steps: half as many episodes, twice as long.
        navigate = (500, 2001) if maze == "giant" else (1000, 1001)
        for kind, (episodes, steps) in {"navigate": navigate, "stitch": (5000, 201)}.items():
            recipes.append(
                Recipe(
                    name=f"pointmaze-{maze}-{kind}-v0",
                    environment=f"pointmaze-{maze}-v0",
                    family="pointmaze",
                    kind=kind,
                    episodes=episodes,
                    steps=steps,
                )
            )
    return recipes


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
    return [pusht, two_blocks]


RECIPES: dict[str, Recipe] = {
    each.name: each for each in [*_manipulation(), *_pointmaze(), *_imitation()]
}
