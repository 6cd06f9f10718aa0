"""What there is to see of an exploration: maze.npz in the run's folder.

Along time, one entry a checkpoint: ``steps``, ``successes`` and what the world's snapshots hold.
Once: what every picture of the world has.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nfrl.files import write_atomically
from nfrl.interfaces.explorer import World
from nfrl.runs.folder import RunFolder


def add(run: RunFolder, world: World, picture: Mapping[str, np.ndarray]) -> None:
    """Add a snapshot to a run's maze.npz.

    Args:
        run: The run.
        world: Where.
        picture: What the world's ``snapshot`` returned, and ``steps`` and ``successes``.
    """
    before = run.read_maze()
    arrays = {
        name: np.concatenate([*([before[name]] if before else []), value[None]])
        for name, value in picture.items()
    }
    _write(run, arrays | world.frame())


def truncate(run: RunFolder, world: World, step: int) -> None:
    """Drop the snapshots after a step."""
    arrays = run.read_maze()
    if not arrays or (arrays["steps"] <= step).all():
        return
    if step == 0:
        run.maze_file.unlink()
        return
    kept, once = arrays["steps"] <= step, world.frame()
    _write(run, {name: v if name in once else v[kept] for name, v in arrays.items()})


def _write(run: RunFolder, arrays: Mapping[str, Any]) -> None:
    write_atomically(run.maze_file, lambda file: np.savez(file, **arrays))
