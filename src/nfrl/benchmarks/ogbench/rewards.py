"""Rewards of OGBench's single-task variants, for data that were collected without any."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.episode import open_environment, seed_everything
from nfrl.errors import UserError

# What OGBench's relabelling reads: joint positions, and buttons where there are any.
NEEDED = {"scene": ("qpos", "button_states"), "puzzle": ("button_states",)}


def label(
    environment: str, arrays: Mapping[str, NDArray]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Say what a single-task environment's reward is in each state of a data set.

    OGBench's own relabelling: minus the number of unfinished subtasks (Park et al., 2025).

    Args:
        environment: The Gymnasium id of a single-task variant: ``scene-singletask-task2-v0``.
        arrays: A data set's arrays, as :func:`nfrl.data.formats.ogbench.load` returns them.

    Returns:
        For each row the reward of its state, and a mask: 0 where the task is done, else 1.

    Raises:
        UserError: The data lack the simulator's states.
    """
    family = environment.split("-")[0]
    for key in NEEDED.get(family, ("qpos",)):
        if key not in arrays:
            raise UserError(
                f"these data cannot be given rewards: the key {key!r} is missing; data made here "
                "(nfrl data make) and OGBench's own have it"
            )
    from ogbench.relabel_utils import relabel_dataset

    made = open_environment(environment)
    seed_everything(np.random.SeedSequence(0))
    labelled = dict(arrays)
    relabel_dataset(environment, made, labelled)
    made.close()
    return labelled["rewards"], labelled["masks"]
