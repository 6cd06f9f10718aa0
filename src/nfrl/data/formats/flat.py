"""Arrays of many trajectories laid end to end, as in OGBench's and D4RL's files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats.reading import (
    Selection,
    choose_keys,
    kinds_of,
    lay_out,
    numbers_of_actions,
    refuse_tasks,
    skipped,
    trajectories,
)
from nfrl.data.trajectories import Trajectories
from nfrl.spec import VECTOR

TIME_OUTS = ("timeouts", "truncations", "truncateds")
"""Marks of rows where a trajectory ends without being over."""
OBSERVATIONS, NEXT = "observations", "next_observations"


def read_flat(
    path: Path,
    arrays: Mapping[str, NDArray],
    selection: Selection,
    *,
    every_row_acts: bool,
    notes: Sequence[str] = (),
) -> Trajectories:
    """Part rows into trajectories.

    Two conventions are common. OGBench's last row of a trajectory is its final observation: its
    action leads nowhere, and ``terminals`` says no more than that the trajectory ends there. In
    D4RL's every row is a transition: ``terminals`` ends all reward, and ``timeouts`` ends a
    trajectory only. There the final observation stands in ``next_observations``. Without these the
    last row of a trajectory that timed out serves as its final observation, as in D4RL's own
    ``qlearning_dataset``.

    Args:
        path: Of the data, for messages.
        arrays: (rows, ...), by name: ``observations``, ``actions``, ``terminals``, marks of
            time-outs, ``rewards``, ``masks``, ``next_observations`` and any others.
        selection: What is wanted.
        every_row_acts: D4RL's convention.
        notes: What was passed over already.

    Raises:
        DataError: An array is missing, or its shape or its values are wrong.
    """
    refuse_tasks(path, selection)
    action_key = selection.action_key or "actions"
    if action_key not in arrays:
        have = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: the key {action_key!r} is missing (there is {have})")
    keys, passed = choose_keys(path, kinds_of(arrays), selection, (OBSERVATIONS,))
    names = {OBSERVATIONS: VECTOR}
    observations, specs = lay_out(path, arrays, keys, names)
    actions = numbers_of_actions(path, action_key, arrays[action_key])
    notes = [*notes, *passed]
    terminal = _marks(path, "terminals", arrays, len(actions))
    over = terminal.copy()
    for key in TIME_OUTS:
        over |= _marks(path, key, arrays, len(actions))
    if not over[-1]:
        if not every_row_acts:
            raise DataError(
                f"{path}: terminals: the last row is not terminal, a trajectory is cut off"
            )
        over[-1] = True
        notes.append(
            "the last trajectory is cut off by the end of the data, and taken as timed out"
        )
    finals = np.flatnonzero(over)
    acts = np.ones(len(over), bool)
    knows_next = NEXT in arrays and keys == (OBSERVATIONS,)
    if not every_row_acts:
        acts[finals] = False
    elif not knows_next:
        acts[finals[~terminal[finals]]] = False
    counts = np.add.reduceat(acts, np.concatenate([[0], finals[:-1] + 1]), dtype=np.int64)
    kept = counts > 0
    if not kept.any():
        raise DataError(f"{path}: there is no trajectory of two rows, so there is no transition")
    notes += skipped(int((~kept).sum()))
    finals = finals[kept]
    final_observations = observations[finals]
    if every_row_acts and knows_next:
        final_observations, _ = lay_out(
            path, {OBSERVATIONS: arrays[NEXT][finals]}, (OBSERVATIONS,), names
        )
    rewards, masks = _rewards(path, arrays, terminal, every_row_acts, notes)
    final_rows: dict[str, NDArray] = {}
    stored = acts.copy()
    if not every_row_acts:
        stored[finals] = True
        final_rows["actions"] = actions[finals]
        if rewards is not None and masks is not None:
            final_rows |= {"rewards": rewards[finals], "masks": masks[finals]}
    used = {OBSERVATIONS, "terminals", *TIME_OUTS, NEXT, action_key}
    used |= {"rewards", "masks"} if rewards is not None else set()
    extras = {key: array for key, array in arrays.items() if key not in used}
    if not stored.all():  # Copies of large arrays are made only where rows are left out.
        extras = {key: array[stored] for key, array in extras.items()}
    return trajectories(
        path,
        observations[acts],
        specs,
        actions[acts],
        np.cumsum(counts[kept]),
        rewards=None if rewards is None else rewards[acts],
        masks=None if masks is None else masks[acts],
        final_observations=final_observations,
        final_rows=final_rows,
        extras=extras,
        notes=tuple(notes),
    )


def _marks(path: Path, key: str, arrays: Mapping[str, NDArray], rows: int) -> NDArray[np.bool_]:
    """Return the marks of rows that a key has; none where it is not there."""
    if key not in arrays:
        return np.zeros(rows, bool)
    marks = arrays[key]
    if marks.ndim == 2 and marks.shape[1] == 1:
        marks = marks[:, 0]
    if marks.ndim != 1:
        raise DataError(f"{path}: {key}: shape {marks.shape}, expected (rows,)")
    if marks.dtype != bool:
        values = np.unique(marks)
        if (odd := values[~np.isin(values, (0, 1))]).size:
            raise DataError(f"{path}: {key}: must be 0 or 1, found {odd[0]}")
    return marks.astype(bool)


def _rewards(
    path: Path,
    arrays: Mapping[str, NDArray],
    terminal: NDArray[np.bool_],
    every_row_acts: bool,
    notes: list[str],
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return rewards and masks of every row, where the arrays say when reward ends."""
    if "rewards" not in arrays:
        return None, None
    rewards = np.asarray(arrays["rewards"], np.float32)
    rewards = rewards.reshape(len(rewards), -1)
    if rewards.shape[1] != 1:
        raise DataError(f"{path}: rewards: shape {arrays['rewards'].shape}, expected (rows,)")
    if "masks" in arrays:
        return rewards[:, 0], _marks(path, "masks", arrays, len(terminal)).astype(np.float32)
    if every_row_acts:
        return rewards[:, 0], 1 - terminal.astype(np.float32)
    notes.append(
        "the rewards were passed over: without masks or timeouts nothing says where reward ends"
    )
    return None, None
