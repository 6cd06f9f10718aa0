"""Who collects a data set's episodes."""

from typing import Protocol

import numpy as np

from nfrl.collect.catalog import Recipe
from nfrl.environments.episode import Episode


class Collector(Protocol):
    """Collects episodes of one data set, one after the other, in one environment it keeps."""

    def episode(self, seeds: np.random.SeedSequence, steps: int) -> Episode:
        """Collect one episode that depends on nothing but the arguments.

        Seeds NumPy's global generator, from which OGBench's oracles and environments draw.

        Args:
            seeds: The episode's randomness, from `episode_seeds`.
            steps: Rows to collect, at least 2; at most so many, where episodes end by themselves.
        """
        ...


def open_collector(recipe: Recipe) -> Collector:
    """Build the environment and the oracles of a recipe (a second or two)."""
    # Imported here: each brings its own simulator, and a worker needs one of them.
    match recipe.family:
        case "manipulation":
            from nfrl.benchmarks.ogbench.manipulation import ManipulationCollector

            return ManipulationCollector(recipe)
        case "maze":
            from nfrl.benchmarks.ogbench.mazes import MazeCollector

            return MazeCollector(recipe)
        case "soccer":
            from nfrl.benchmarks.ogbench.soccer import SoccerCollector

            return SoccerCollector(recipe)
        case "pusht":
            from nfrl.benchmarks.imitation.collect_pusht import PushTCollector

            return PushTCollector()
        case "two-blocks":
            from nfrl.benchmarks.imitation.collect_two_blocks import TwoBlocksCollector

            return TwoBlocksCollector()
        case "multimodal-ant":
            from nfrl.benchmarks.imitation.collect_multimodal_ant import MultimodalAntCollector

            return MultimodalAntCollector()
