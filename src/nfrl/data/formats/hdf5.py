"""HDF5 files in two layouts: robomimic's (Mandlekar et al., 2021) and D4RL's (Fu et al., 2020).

robomimic's have a group for each demonstration, ``data/demo_0/{actions, obs/*, rewards, dones}``;
D4RL's have the arrays of all trajectories laid end to end, ``observations``, ``actions``,
``rewards``, ``terminals`` and ``timeouts``.
"""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats.flat import NEXT, OBSERVATIONS, TIME_OUTS, read_flat
from nfrl.data.formats.reading import (
    Format,
    Selection,
    choose_keys,
    columns_needed,
    kinds_of,
    lay_out,
    numbers_of_actions,
    refuse_tasks,
    require,
    trajectories,
)
from nfrl.data.trajectories import Trajectories
from nfrl.reading import check_file, check_promise, foreign
from nfrl.spec import ArraySpec

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def matches(path: Path) -> bool:
    """Whether a file begins as HDF5 files do."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def read(path: Path, selection: Selection) -> Trajectories:
    """Read the trajectories to train on: of robomimic's files all but ``mask/valid``.

    By default robomimic's observations are all vectors of ``obs``, by name.

    Raises:
        UserError: The file is damaged, of another layout, or h5py is not installed.
    """
    return _read(path, selection, validation=False)


def _read_validation(path: Path, selection: Selection) -> Trajectories | None:
    """Read robomimic's ``mask/valid``, if it is there."""
    with foreign(path, "h5py", kind=DataError), _open(path) as file:
        if not _is_robomimic(file) or not _filter(path, file, "valid"):
            return None
    return _read(path, selection, validation=True)


def _read(path: Path, selection: Selection, *, validation: bool) -> Trajectories:
    # What is not read at once may turn out to be damaged anywhere below.
    with foreign(path, "h5py", kind=DataError), _open(path) as file:
        if _is_robomimic(file):
            return _read_robomimic(path, file, selection, validation)
        return _read_d4rl(path, file, selection)


def _open(path: Path) -> Any:
    h5py = require(path, "h5py", "h5py")
    check_file(path, kind=DataError)
    return h5py.File(path, "r")


def check_file_of_arrays(path: Path) -> None:
    """Refuse a file of which an array cannot be loaded; see :func:`load_array`."""
    with foreign(path, "h5py", kind=DataError), _open(path) as file:
        for array in _arrays(file).values():
            _check_array(path, array)


def load_array(path: Path, array: Any, rows: Any = ()) -> NDArray:
    """Return an array's values, or some rows of them.

    Raises:
        DataError: They would take far more memory than the file has bytes, or stand in another
            file.
    """
    _check_array(path, array)
    return np.asarray(array[rows])


def _check_array(path: Path, array: Any) -> None:
    where = f"{path}: {array.name}"
    elsewhere = not os.path.samefile(array.file.filename, path)
    if array.external or array.is_virtual or elsewhere:
        raise DataError(f"{where}: its values are in another file: store them in this one")
    chunk = math.prod(array.chunks or ())
    promised = max(math.prod(array.shape), chunk) * array.dtype.itemsize
    check_promise(where, promised, os.stat(path).st_size, kind=DataError)


def _is_robomimic(file: Any) -> bool:
    return "data" in file and hasattr(file["data"], "keys")


def _arrays(group: Any) -> dict[str, Any]:
    """Return the arrays in a group, nested ones by their path, without loading them."""
    found: dict[str, Any] = {}
    group.visititems(lambda name, item: found.update({name: item}) if _is_array(item) else None)
    return found


def _is_array(item: Any) -> bool:
    return hasattr(item, "dtype") and hasattr(item, "shape") and bool(item.shape)


# D4RL


def _read_d4rl(path: Path, file: Any, selection: Selection) -> Trajectories:
    arrays = _arrays(file)
    action_key = selection.action_key or "actions"
    keys = selection.observation_keys or (OBSERVATIONS,)
    if action_key not in arrays:
        have = ", ".join(sorted(file)) or "nothing"
        raise DataError(
            f"{path}: neither robomimic's groups data/demo_0 nor an array {action_key!r} in D4RL's "
            f"layout (the file has {have})"
        )
    if not any(key in arrays for key in ("terminals", *TIME_OUTS)):
        raise DataError(
            f"{path}: neither terminals nor timeouts: nothing says where a trajectory ends"
        )
    wanted = columns_needed(keys) | {action_key, "rewards", "terminals", NEXT, *TIME_OUTS}
    rows = arrays[action_key].shape[0]
    loaded: dict[str, NDArray] = {}
    for key in sorted(wanted & arrays.keys()):
        if arrays[key].shape[0] != rows:
            raise DataError(
                f"{path}: {key}: {arrays[key].shape[0]} rows, but {action_key} have {rows}"
            )
        loaded[key] = load_array(path, arrays[key])
    have_all = {key: loaded.get(key, array) for key, array in arrays.items()}
    choose_keys(path, kinds_of(have_all), selection, (OBSERVATIONS,))
    return read_flat(path, loaded, selection, every_row_acts=True)


# robomimic


def _filter(path: Path, file: Any, name: str) -> set[str]:
    """Return the demonstrations that a filter key lists; none where it is not there."""
    mask = file.get("mask")
    if mask is None or name not in mask:
        return set()
    return {
        each.decode() if isinstance(each, bytes) else str(each)
        for each in load_array(path, mask[name])
    }


def _demonstrations(path: Path, file: Any, *, validation: bool) -> list[str]:
    """Return the names of demonstrations in the order of their numbers."""
    valid = _filter(path, file, "valid")
    wanted = valid if validation else _filter(path, file, "train") or file["data"].keys() - valid
    if missing := wanted - file["data"].keys():
        raise DataError(f"{path}: mask lists {min(missing)}, which data does not have")
    if not wanted:
        raise DataError(f"{path}: there are no demonstrations in the group data")
    return sorted(wanted, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])


def _read_robomimic(path: Path, file: Any, selection: Selection, validation: bool) -> Trajectories:
    refuse_tasks(path, selection)
    names = _demonstrations(path, file, validation=validation)
    action_key = selection.action_key or "actions"
    first = file["data"][names[0]]
    keys: tuple[str, ...] = ()
    parts: dict[str, list[NDArray]] = {
        name: [] for name in ("observations", "actions", "finals", "rewards", "masks")
    }
    specs: dict[str, ArraySpec] = {}
    notes: tuple[str, ...] = ()
    has_rewards = "rewards" in first
    for name in names:
        demonstration = file["data"][name]
        where = Path(f"{path}/data/{name}")
        for key in (action_key, "obs"):
            if key not in demonstration:
                have = ", ".join(sorted(demonstration)) or "nothing"
                raise DataError(f"{path}: data/{name} has no {key!r} (it has {have})")
        columns = _arrays(demonstration["obs"])
        if not keys:
            keys, notes = choose_keys(where, kinds_of(columns), selection, sorted(columns))
        needed = columns_needed(keys)
        loaded = {key: load_array(path, array) for key, array in columns.items() if key in needed}
        observations, specs = lay_out(where, loaded, keys)
        actions = numbers_of_actions(where, action_key, load_array(path, demonstration[action_key]))
        steps = len(actions)
        if len(observations) != steps or not steps:
            raise DataError(
                f"{where}: {steps} actions, but {len(observations)} observations; there must be "
                "as many, and one at least"
            )
        parts["observations"].append(observations)
        parts["actions"].append(actions)
        if "next_obs" in demonstration:
            following = _arrays(demonstration["next_obs"])
            last = {
                key: load_array(path, array, np.s_[-1:])
                for key, array in following.items()
                if key in needed
            }
            parts["finals"].append(lay_out(where, last, keys)[0])
        if has_rewards:
            if "rewards" not in demonstration:
                raise DataError(f"{where}: there are no rewards, but in data/{names[0]} there are")
            parts["rewards"].append(_per_step(path, demonstration, "rewards", steps))
            over = (
                _per_step(path, demonstration, "dones", steps)
                if "dones" in demonstration
                else np.zeros(steps, np.float32)
            )
            parts["masks"].append(1 - (over != 0).astype(np.float32))
    known = len(parts["finals"]) == len(names)
    return trajectories(
        path,
        np.concatenate(parts["observations"]),
        specs,
        np.concatenate(parts["actions"]),
        np.cumsum([len(part) for part in parts["actions"]]),
        rewards=np.concatenate(parts["rewards"]) if has_rewards else None,
        masks=np.concatenate(parts["masks"]) if has_rewards else None,
        final_observations=np.concatenate(parts["finals"]) if known else None,
        notes=notes,
    )


def _per_step(path: Path, group: Any, name: str, steps: int) -> NDArray[np.float32]:
    values = load_array(path, group[name]).astype(np.float32).reshape(-1)
    if len(values) != steps:
        raise DataError(f"{path}{group.name}: {name}: {len(values)} rows, but actions have {steps}")
    return values


FORMAT = Format("robomimic's or D4RL's HDF5 file", matches, read, read_validation=_read_validation)
