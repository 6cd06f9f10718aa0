"""Minari's data sets (Younis et al., 2024), from their folder on the disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.demonstrations import Demonstrations, choose, demonstrations
from nfrl.data.formats.ogbench import DataError
from nfrl.errors import UserError


def read_minari(path: Path, observation_keys: Sequence[str] | None = None) -> Demonstrations:
    """Read every episode, without the final observations, which no action follows.

    Args:
        path: The data set's folder, or the folder ``data`` in it: ``.../D4RL/kitchen/mixed-v2``.
        observation_keys: Of dictionaries of observations, nested names joined by "/". By default
            ``observation`` (without the goals), or all of them by name.

    Raises:
        UserError: The folder is damaged, or the package minari is not installed.
    """
    try:
        import minari
    except ImportError as error:
        raise UserError(f"{path} needs minari ({error}): pip install 'nfrl[imitation]'") from None
    folder = path / "data" if (path / "data").is_dir() else path
    try:
        episodes = list(minari.MinariDataset(folder).iterate_episodes())
    except (OSError, KeyError, ValueError, ImportError) as error:
        raise DataError(f"{path}: cannot be read by minari ({error})") from error
    observations, actions = [], []
    for episode in episodes:
        steps = len(episode.rewards)
        columns = _flatten(episode.observations)
        keys = observation_keys
        if keys is None:
            keys = ("observation",) if "observation" in columns else sorted(columns)
        observations.append(choose(path, columns, keys)[:steps])
        chosen = _flatten(episode.actions)
        actions.append(choose(path, chosen, sorted(chosen)))
    if not episodes:
        raise DataError(f"{path}: there are no episodes")
    return demonstrations(
        path,
        np.concatenate(observations),
        np.concatenate(actions),
        np.cumsum([len(each) for each in actions]),
    )


def _flatten(value: Any, name: str = "") -> dict[str, NDArray]:
    """Return the arrays of nested dictionaries and tuples, by their names joined by "/"."""
    if isinstance(value, tuple):
        value = {str(index): part for index, part in enumerate(value)}
    if not isinstance(value, Mapping):
        return {name or "observation": np.asarray(value)}
    found: dict[str, NDArray] = {}
    for key, part in value.items():
        found |= _flatten(part, f"{name}/{key}" if name else str(key))
    return found
