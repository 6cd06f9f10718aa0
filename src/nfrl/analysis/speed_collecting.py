"""Speed of making data: stored steps a second by worker processes, beside the bare simulator's."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nfrl.collect.make import make_dataset
from nfrl.collect.recipe import recipe
from nfrl.data.formats import ogbench
from nfrl.environments.make import make_environment


@dataclasses.dataclass(frozen=True)
class CollectingSpeed:
    """What :func:`collecting_speed` measured."""

    simulator: float
    """Steps a second of the environment alone, one process, random actions."""
    stored: dict[int, float]
    """Rows of data a second, by worker processes, once these have started."""

    def share(self, workers: int) -> float:
        """Say which part of the rate of as many bare simulators is stored."""
        return self.stored[workers] / (workers * self.simulator)


def collecting_speed(
    name: str, *, workers: Sequence[int] = (1, 2), episodes: int = 10, steps: int = 2000
) -> CollectingSpeed:
    """Measure how quickly a data set is made.

    For every number of workers, ``episodes`` and then three times as many are made, in a folder
    that is thrown away: the difference of rows by the difference of times is a rate without the
    second or two in which workers start.

    Args:
        name: The data set.
        workers: Numbers of worker processes.
        episodes: Training episodes of the smaller data set; validation gets a tenth as many.
        steps: Steps that the bare simulator is timed for.

    Raises:
        UserError: See :func:`nfrl.collect.make.make_dataset`.
    """
    stored = {}
    for count in workers:
        few, seconds = _made(name, episodes, count)
        many, more_seconds = _made(name, 3 * episodes, count)
        stored[count] = (many - few) / (more_seconds - seconds)
    return CollectingSpeed(_simulator_rate(recipe(name).environment, steps), stored)


def _made(name: str, episodes: int, workers: int) -> tuple[int, float]:
    """Make a data set; return its rows, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder, "data.npz"), time.perf_counter()
        make_dataset(name, episodes=episodes, workers=workers, path=path, progress=False)
        seconds = time.perf_counter() - began
        files = (path, ogbench.validation_path(path))
        return sum(len(ogbench.load(file)["terminals"]) for file in files), seconds


def _simulator_rate(environment: str, steps: int) -> float:
    """Return the steps a second of an environment with random actions."""
    made = make_environment(environment)
    made.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *made.action_space.shape))
    began = time.perf_counter()
    for action in actions:
        made.step(action)
    return steps / (time.perf_counter() - began)
