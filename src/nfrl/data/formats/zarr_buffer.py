"""Replay buffers in Diffusion Policy's layout (Chi et al., 2023), stored with zarr.

A folder in zarr's format 2 or 3, or a zip archive of one, as PushT's published file.
"""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats.reading import (
    Format,
    Selection,
    choose_keys,
    columns_needed,
    is_picture,
    kinds_of,
    lay_out,
    numbers_of_actions,
    passed_over_images,
    refuse_tasks,
    require,
    trajectories,
)
from nfrl.data.trajectories import Trajectories

MARKERS = (".zgroup", "zarr.json")
DEFAULTS = (("keypoint", "state[:2]"), ("obs",), ("state",))
"""What makes an observation by default: the first of these that are there."""
REWARDS, ENDS_REWARD = ("rewards", "reward"), ("terminals", "terminal", "dones", "done")
NO_OBSERVATION = {"action", *REWARDS, *ENDS_REWARD, "timestamp", "timestamps"}


def matches(path: Path) -> bool:
    """Whether it is a zarr group: a folder, or a zip archive of one."""
    if path.is_file():
        return zipfile.is_zipfile(path) and _group_in(path) is not None
    return any((path / marker).is_file() for marker in MARKERS)


def read(path: Path, selection: Selection) -> Trajectories:
    """Read ``data/action``, ``meta/episode_ends`` and what makes an observation, from ``data``.

    By default that are Diffusion Policy's ``keypoint`` and ``state[:2]`` of PushT, else ``obs``,
    else ``state``, else all vectors by name. Rewards are ``data/reward``, and end where
    ``data/terminal`` or ``data/done`` is true.

    Raises:
        UserError: An array is missing or damaged, or the package zarr is not installed.
    """
    refuse_tasks(path, selection)
    with _opened(path) as root:
        try:
            data, meta = dict(root["data"].arrays()), dict(root["meta"].arrays())
        except (KeyError, AttributeError, OSError, ValueError) as error:
            raise DataError(
                f"{path}: not a replay buffer, with the groups data and meta ({error})"
            ) from error
        action_key = selection.action_key or "action"
        for name, group, key in (("data", data, action_key), ("meta", meta, "episode_ends")):
            if key not in group:
                raise DataError(f"{path}: there is no {name}/{key}")
        kinds = kinds_of(data)
        there = (keys for keys in DEFAULTS if columns_needed(keys) <= data.keys())
        others = [name for name in sorted(data) if name not in {*NO_OBSERVATION, action_key}]
        keys, notes = choose_keys(path, kinds, selection, next(there, others))
        if not selection.observation_keys and not notes:
            notes = passed_over_images([name for name in others if is_picture(*kinds[name])])
        columns = {name: _load(path, data, name) for name in columns_needed(keys)}
        observations, specs = lay_out(path, columns, keys)
        actions = numbers_of_actions(path, action_key, _load(path, data, action_key))
        rewards, masks = _rewards(path, data, len(actions))
        ends = np.asarray(meta["episode_ends"][:])
    return trajectories(
        path, observations, specs, actions, ends, rewards=rewards, masks=masks, notes=notes
    )


def _load(path: Path, data: Any, name: str) -> NDArray:
    try:
        return np.asarray(data[name][:])
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: data/{name} is damaged ({error})") from error


def _rewards(path: Path, data: Any, rows: int) -> tuple[NDArray | None, NDArray | None]:
    name = next((name for name in REWARDS if name in data), None)
    if name is None:
        return None, None
    rewards = _load(path, data, name).reshape(-1)
    if len(rewards) != rows:
        raise DataError(f"{path}: data/{name}: {len(rewards)} values, but there are {rows} rows")
    end = next((name for name in ENDS_REWARD if name in data), None)
    over = np.zeros(rows) if end is None else _load(path, data, end).reshape(-1)
    if len(over) != rows:
        raise DataError(f"{path}: data/{end}: {len(over)} values, but there are {rows} rows")
    return rewards.astype(np.float32), (over == 0).astype(np.float32)


def _group_in(path: Path) -> str | None:
    """Return where in a zip archive the outermost group stands, "" for its root."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    folders = [name.rpartition("/")[0] for name in names if name.split("/")[-1] in MARKERS]
    return min(folders, key=len, default=None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a buffer's group for reading.

    Raises:
        UserError: It cannot be opened, or the package zarr is not installed.
    """
    zarr = require(path, "zarr")
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    store: Any = None
    try:
        if path.is_dir():
            root = zarr.open_group(str(path), mode="r")
        else:
            if not zipfile.is_zipfile(path) or (inside := _group_in(path)) is None:
                raise DataError(f"{path}: this is no zip archive of a zarr group, or a cut one")
            store = zarr.storage.ZipStore(path, mode="r")
            root = zarr.open_group(store, path=inside, mode="r")
    except (KeyError, OSError, ValueError) as error:
        raise DataError(f"{path}: zarr cannot open this ({error})") from error
    try:
        yield root
    finally:
        if store is not None:
            store.close()


FORMAT = Format("a zarr replay buffer", matches, read)
