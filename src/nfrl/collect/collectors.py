"""Who collects a data set's episodes."""

from typing import Protocol

import numpy as np

from nfrl import registry
from nfrl.collect.recipe import Recipe
from nfrl.environments.episode import Episode


class Collector(Protocol):
    """Collects episodes of one data set, one after the other, in one environment it keeps.

    It is built from its :class:`~nfrl.collect.recipe.Recipe`.
    """

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode that depends on nothing but the arguments.

        Seeds NumPy's global generator, from which OGBench's oracles and environments draw.

        Args:
            seeds: The episode's randomness, from `episode_seeds`.
            steps: Rows to collect, at least 2; at most so many, where episodes end by themselves.
        """
        ...


def open_collector(recipe: Recipe) -> Collector:
    """Build the environment and the oracles of a recipe (a second or two).

    Raises:
        UserError: The recipe's collector cannot be imported.
    """
    return registry.load_reference(recipe.collector)(recipe)
