"""Replay buffers in Diffusion Policy's layout (Chi et al., 2023), stored with zarr."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfrl.data.demonstrations import Demonstrations, choose, demonstrations
from nfrl.data.formats.ogbench import DataError
from nfrl.errors import UserError


def read_zarr(path: Path, observation_keys: Sequence[str] | None = None) -> Demonstrations:
    """Read ``data/action``, ``meta/episode_ends`` and what makes an observation, from ``data``.

    Args:
        path: The folder, ``NAME.zarr``.
        observation_keys: By default those of Diffusion Policy's PushT, ``keypoint`` and
            ``state[:2]``, else ``obs``, else ``state``: the first that are there.

    Raises:
        UserError: An array is missing or damaged, or the package zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise UserError(f"{path} needs zarr ({error}): pip install 'nfrl[imitation]'") from None
    try:
        root: Any = zarr.open_group(str(path), mode="r")
        data, meta = dict(root["data"].arrays()), dict(root["meta"].arrays())
    except (KeyError, AttributeError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a replay buffer, with the groups data and meta ({error})"
        ) from error
    for name, group, key in (("data", data, "action"), ("meta", meta, "episode_ends")):
        if key not in group:
            raise DataError(f"{path}: there is no {name}/{key}")
    if observation_keys is None:
        defaults = (("keypoint", "state[:2]"), ("obs",), ("state",))
        there = (keys for keys in defaults if all(key.split("[")[0] in data for key in keys))
        observation_keys = next(there, ("obs",))
    wanted = {key.split("[")[0] for key in observation_keys} & data.keys()
    columns = {name: np.asarray(data[name][:]) for name in wanted}
    return demonstrations(
        path,
        choose(path, columns or {name: np.empty(0) for name in data}, observation_keys),
        np.asarray(data["action"][:]),
        np.asarray(meta["episode_ends"][:]),
    )
