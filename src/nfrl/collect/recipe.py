"""What is known of a data set that can be made here: how, and of what size."""

import dataclasses
from pathlib import Path

from nfrl import registry
from nfrl.data.formats import ogbench
from nfrl.errors import UserError

# Raised whenever the same name, seed and steps would give other data than before.
REVISION = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one data set is made.

    What is code is named as ``package.module:name`` and imported where it is used.

    Attributes:
        name: The data set's name: ``cube-single-play-v0``.
        environment: What it is collected in, as a task names it: ``ogbench:cube-single-v0``.
        collector: The class of its collector, called with the recipe; see
            :class:`nfrl.collect.collectors.Collector`.
        kind: Which of several ways to collect: play, noisy, navigate, stitch or explore in
            OGBench; planned, where a planner shows how a task is solved.
        episodes: Training episodes of the full data set; validation has a tenth as many.
        steps: Rows per episode; the last is the final observation. At most so many, where episodes
            end by themselves.
        experts: The trained policies that act in it.
        packages: The installed packages whose versions the data depend on.
        describe: Describes what was collected: a function of the arrays to figures by name; None
            where there is nothing to say.
        download: Fetches the full data set from where it was published: a function of (name, path
            of the training file); None where it was not.
        pictures: Whether its observations are drawn, so that making it needs a graphics library.
    """

    name: str
    environment: str
    collector: str
    kind: str
    episodes: int
    steps: int
    experts: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    describe: str | None = None
    download: str | None = None
    pictures: bool = False

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
        UserError: There is no such data set; the nearest names are given. Or what stands there is
            no recipe.
    """
    found = registry.find_in_mappings("recipes", name)
    if not isinstance(found, Recipe):
        raise UserError(f"{name} is a {type(found).__name__}, not a recipe")
    return found


def can_be_made(name: str) -> bool:
    """Whether there is a recipe of this name."""
    return name in registry.mappings("recipes") or registry.is_reference(name)
