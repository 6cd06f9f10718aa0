"""Rewards of OGBench's single-task variants, for data that were collected without any."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.episode import open_environment, seed_everything
from nfrl.errors import UserError


def label(
    environment: str, arrays: Mapping[str, NDArray]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Say what a single-task environment's reward is in each state of a data set.

    OGBench's own relabelling: minus the number of unfinished subtasks (Park et al., 2025).

    Args:
        environment: A single-task variant, as a task names it:
            ``ogbench:scene-singletask-task2-v0``.
        arrays: A data set's arrays, as :func:`nfrl.data.formats.ogbench.load` returns them.

    Returns:
        For each row the reward of its state, and a mask: 0 where the task is done, else 1.

    Raises:
        UserError: The data lack the simulator's states.
    """
    # A state's reward hangs on no picture, and who draws none needs no graphics library.
    environment = environment.replace(":visual-", ":")
    made = open_environment(environment)
    for key in _needed(made):
        if key not in arrays:
            made.close()
            raise UserError(
                f"these data cannot be given rewards: the key {key!r} is missing; data made here "
                "(nfrl data make) and OGBench's own have it"
            )
    from ogbench.relabel_utils import relabel_dataset

    seed_everything(np.random.SeedSequence(0))
    labelled = dict(arrays)
    relabel_dataset(environment, made, labelled)
    made.close()
    return labelled["rewards"], labelled["masks"]


def _needed(made: Any) -> tuple[str, ...]:
    """Name what OGBench's relabelling reads: buttons where there are any, and joint positions.

    The latter not where buttons are all that there is.
    """
    if not hasattr(made, "_num_buttons"):
        return ("qpos",)
    return ("qpos", "button_states") if hasattr(made, "_num_cubes") else ("button_states",)
