"""Minari's data sets (Younis et al., 2024), from their folder on the disk."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats import hdf5
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
from nfrl.reading import check_tree, foreign, read_json
from nfrl.spec import VECTOR, ArraySpec


def locate(rest: str) -> Path:
    """Return the folder of a data set's name: ``D4RL/door/human-v2``."""
    root = os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"
    return Path(root).expanduser() / rest


def matches(path: Path) -> bool:
    """Whether it is a data set's folder, or the folder ``data`` in it."""
    return any(os.path.lexists(folder / "metadata.json") for folder in (path, path / "data"))


def read(path: Path, selection: Selection) -> Trajectories:
    """Read every episode, with its final observation, its rewards and its terminations.

    The arrays of dictionaries of observations are called by nested names joined by "/". By default
    ``observation`` is taken (without the goals), or all vectors by name.

    Raises:
        UserError: The folder is damaged, or the package minari is not installed.
    """
    refuse_tasks(path, selection)
    minari = require(path, "minari")
    if not matches(path):
        raise DataError(f"{path}: there is no data set of Minari's: no data/metadata.json")
    folder = path / "data" if (path / "data").is_dir() else path
    parts: dict[str, list[NDArray]] = {
        name: [] for name in ("observations", "actions", "rewards", "masks", "finals")
    }
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    specs: dict[str, ArraySpec] = {}
    sizes = check_tree(folder, kind=DataError)
    read_json(folder / "metadata.json", kind=DataError)
    for name in (name for name in sizes if name.endswith(".hdf5")):
        hdf5.check_file_of_arrays(folder / name)
    # What is not read at once may turn out to be damaged anywhere below.
    with foreign(path, "minari", kind=DataError):
        for episode in minari.MinariDataset(folder).iterate_episodes():
            columns = _flatten(episode.observations)
            if not keys:
                defaults = (VECTOR,) if VECTOR in columns else tuple(sorted(columns))
                keys, notes = choose_keys(path, kinds_of(columns), selection, defaults)
            needed = {name: columns[name] for name in columns_needed(keys) & columns.keys()}
            seen, specs = lay_out(path, needed, keys)
            actions = _actions(path, episode.actions, selection)
            steps = len(actions)
            if len(seen) != steps + 1:
                raise DataError(
                    f"{path}: episode {episode.id} has {len(seen)} observations for {steps} "
                    "actions; there must be one more"
                )
            if not steps:
                raise DataError(f"{path}: episode {episode.id} has no actions")
            parts["observations"].append(seen[:-1])
            parts["finals"].append(seen[-1:])
            parts["actions"].append(actions)
            parts["rewards"].append(np.asarray(episode.rewards, np.float32))
            parts["masks"].append(1 - np.asarray(episode.terminations, np.float32))
    if not parts["actions"]:
        raise DataError(f"{path}: there are no episodes")
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return trajectories(
        path,
        joined["observations"],
        specs,
        joined["actions"],
        np.cumsum([len(each) for each in parts["actions"]]),
        rewards=joined["rewards"],
        masks=joined["masks"],
        final_observations=joined["finals"],
        notes=notes,
    )


def _actions(path: Path, value: Any, selection: Selection) -> NDArray[np.float32]:
    """Return actions, the arrays of a dictionary of them side by side."""
    columns = {
        name if isinstance(value, Mapping | tuple) else "actions": array
        for name, array in _flatten(value).items()
    }
    if selection.action_key and selection.action_key not in columns:
        have = ", ".join(sorted(columns))
        raise DataError(f"{path}: there are no actions {selection.action_key!r} (there are {have})")
    names = [selection.action_key] if selection.action_key else sorted(columns)
    return np.concatenate([numbers_of_actions(path, name, columns[name]) for name in names], axis=1)


def _flatten(value: Any, name: str = "") -> dict[str, NDArray]:
    """Return the arrays of nested dictionaries and tuples, by their names joined by "/"."""
    if isinstance(value, tuple):
        value = {str(index): part for index, part in enumerate(value)}
    if not isinstance(value, Mapping):
        return {name or VECTOR: np.asarray(value)}
    found: dict[str, NDArray] = {}
    for key, part in value.items():
        found |= _flatten(part, f"{name}/{key}" if name else str(key))
    return found


FORMAT = Format("Minari's data set", matches, read, locate)
