"""Archives of NumPy arrays: OGBench's own, and yours.

In OGBench's convention the last row of a trajectory is its final observation, and ``terminals``
marks it. A file that marks time-outs besides (``timeouts``, ``truncations`` or ``truncateds``) is
read in D4RL's convention; see :func:`nfrl.data.formats.flat.read_flat`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats import ogbench
from nfrl.data.formats.flat import NEXT, TIME_OUTS, read_flat
from nfrl.data.formats.reading import Format, Selection, columns_needed, names_in_zip
from nfrl.data.trajectories import Trajectories

KNOWN = (
    *ogbench.REQUIRED_KEYS,
    *TIME_OUTS,
    *("rewards", "masks", NEXT),
    *("qpos", "qvel", "button_states"),
)
"""Keys with a meaning, which must be right; others are passed over where they are not."""


def matches(path: Path) -> bool:
    """Whether it is called .npz, or is a zip archive of .npy files."""
    if path.suffix == ".npz":
        return True
    names = names_in_zip(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def read(path: Path, selection: Selection) -> Trajectories:
    """Read a file.

    Raises:
        DataError: It is absent, damaged or truncated; or an array is missing or wrong.
    """
    arrays, refused = ogbench.read_archive(path)
    return from_arrays(path, arrays, selection, refused)


def from_arrays(
    path: Path,
    arrays: Mapping[str, NDArray],
    selection: Selection,
    refused: Mapping[str, str] | None = None,
) -> Trajectories:
    """Make trajectories of arrays.

    Args:
        path: Their name, for messages.
        arrays: (rows, ...), by key: ``observations``, ``actions`` and ``terminals`` at least.
        selection: What is wanted.
        refused: Keys whose arrays cannot be read, with the reason.

    Raises:
        DataError: An array that has a meaning is missing or wrong.
    """
    action_key = selection.action_key or "actions"
    needed = [*([] if selection.observation_keys else ["observations"]), action_key]
    if not any(key in arrays for key in ("terminals", *TIME_OUTS)):
        needed.append("terminals")
    for key in needed:
        if key in (refused or {}):
            raise DataError(f"{path}: {key}: {(refused or {})[key]}")
        if key not in arrays:
            have = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(f"{path}: the key {key!r} is missing (the file has {have})")
    longest = "observations" if "observations" in arrays else action_key
    rows = len(arrays[longest]) if arrays[longest].ndim else 0
    if not rows:
        raise DataError(f"{path}: {longest}: there are no rows")
    sound, notes = {}, [f"{key} was passed over: {why}" for key, why in (refused or {}).items()]
    meant = {*KNOWN, action_key, *columns_needed(selection.observation_keys)}
    for key, array in arrays.items():
        problem = _problem(array, rows, longest)
        if not problem:
            sound[key] = array
        elif key in meant:
            raise DataError(f"{path}: {key}: {problem}")
        else:
            notes.append(f"{key} was passed over: {problem}")
    return read_flat(
        path,
        sound,
        selection,
        every_row_acts=any(key in sound for key in TIME_OUTS),
        notes=notes,
    )


def _problem(array: NDArray, rows: int, longest: str) -> str:
    """Say why an array is none of (rows, ...) numbers; nothing if it is."""
    if array.dtype.kind not in "fiub":
        return f"values of type {array.dtype} are not numbers"
    length = array.shape[0] if array.ndim else 0
    if length != rows:
        return f"{length} rows, but {longest} have {rows}"
    if 0 in array.shape:
        return f"shape {array.shape} holds no values"
    return ogbench.not_finite(array)


def _read_validation(path: Path, selection: Selection) -> Trajectories | None:
    beside = ogbench.validation_path(path)
    return read(beside, selection) if os.path.lexists(beside) else None


FORMAT = Format(
    "arrays in an .npz file",
    matches,
    read,
    read_validation=_read_validation,
    aliases={"ogbench": ogbench.dataset_path},
    hash=ogbench.sha256,
    origin=ogbench.origin,
)
