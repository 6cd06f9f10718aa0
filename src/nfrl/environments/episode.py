"""One episode: what it is, and what its randomness hangs on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.own_files import with_own_files

# Arrays in OGBench's format, all with the same number of rows: observations float32 or, of images,
# uint8; actions float32, terminals bool, qpos and qvel float32, and button_states int64 where the
# scene has buttons.
Episode = dict[str, NDArray]

SPLITS = ("train", "val")


def open_environment(name: str, **settings: Any) -> Any:
    """Make one of OGBench's environments, bare of wrappers, that no success ends.

    Args:
        name: Its Gymnasium id.
        settings: Further arguments of the environment.

    Returns:
        The environment, untyped: what is used of it goes far beyond Gymnasium's interface.
    """
    import gymnasium
    import ogbench  # noqa: F401 - registers the environments.

    settings |= {"terminate_at_goal": False, "disable_env_checker": True}
    return with_own_files(lambda: gymnasium.make(name, **settings).unwrapped)


def episode_seeds(seed: int, split: str, episode: int, attempt: int = 0) -> np.random.SeedSequence:
    """Give an episode its own randomness, whichever process collects it and after whatever.

    Args:
        seed: The data set's seed, non-negative.
        split: "train" or "val".
        episode: Its index within the split.
        attempt: How many collections of this episode were thrown away before this one.
    """
    return np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), episode, attempt))


def retry_seeds(seeds: np.random.SeedSequence) -> np.random.SeedSequence:
    """Give the randomness of the next attempt at the same episode."""
    *prefix, attempt = seeds.spawn_key
    return np.random.SeedSequence(seeds.entropy, spawn_key=(*prefix, attempt + 1))


def seed_everything(seeds: np.random.SeedSequence) -> tuple[np.random.Generator, int]:
    """Seed NumPy's global generator, and give a generator and a seed for ``reset``.

    Args:
        seeds: The episode's randomness.

    Returns:
        A generator for what this room draws itself, and a seed for ``environment.reset``.
    """
    words = seeds.generate_state(9)
    np.random.seed(words[:4])  # noqa: NPY002 - OGBench draws from the global generator.
    return np.random.default_rng(words[4:8]), int(words[8])


class EpisodeRecorder:
    """Collects rows and stacks them into an episode."""

    def __init__(self) -> None:
        self._rows: dict[str, list] = {}

    def add(self, **row: NDArray) -> None:
        """Keep copies of one row's values; every row has the same keys."""
        for key, value in row.items():
            self._rows.setdefault(key, []).append(np.array(value))

    def episode(self) -> Episode:
        """Stack the rows, in OGBench's types, the last of them marked terminal."""
        rows = len(self._rows["observations"])
        terminals = np.zeros(rows, dtype=bool)
        terminals[-1] = True
        episode: Episode = {}
        for key, values in self._rows.items():
            stacked = np.stack(values)
            images = stacked.dtype == np.uint8
            dtype = np.int64 if key == "button_states" else np.float32
            episode[key] = stacked if images else stacked.astype(dtype)
            if key == "actions":
                episode["terminals"] = terminals
        return episode
