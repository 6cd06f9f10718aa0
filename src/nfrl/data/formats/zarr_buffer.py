"""Replay buffers in Diffusion Policy's layout (Chi et al., 2023), stored with zarr.

A folder in zarr's format 2 or 3, or a zip archive of one, as PushT's published file.
"""

import contextlib
import math
import os
import struct
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
    check_ends,
    choose_keys,
    columns_needed,
    is_picture,
    kinds_of,
    lay_out,
    names_in_zip,
    numbers_of_actions,
    passed_over_images,
    refuse_tasks,
    require,
    trajectories,
)
from nfrl.data.trajectories import Trajectories
from nfrl.reading import check_file, check_promise, check_tree, foreign

MARKERS = (".zgroup", "zarr.json")
METADATA = (*MARKERS, ".zarray", ".zattrs", ".zmetadata")
LARGEST_METADATA = 16_000_000
SLACK = 4096
"""Bytes by which a compressed chunk may be larger than twice its values."""
BLOSC = struct.Struct("<4B3I")
"""How a chunk of Blosc's begins: versions, flags, width; bytes of values, of a block, of itself."""
DEFAULTS = (("keypoint", "state[:2]"), ("obs",), ("state",))
"""What makes an observation by default: the first of these that are there."""
REWARDS, ENDS_REWARD = ("rewards", "reward"), ("terminals", "terminal", "dones", "done")
NO_OBSERVATION = {"action", *REWARDS, *ENDS_REWARD, "timestamp", "timestamps"}


def matches(path: Path) -> bool:
    """Whether it is a zarr group: a folder, or a zip archive of one."""
    if path.is_file():
        return _group_in(path) is not None
    return any(os.path.lexists(path / marker) for marker in MARKERS)


def read(path: Path, selection: Selection) -> Trajectories:
    """Read ``data/action``, ``meta/episode_ends`` and what makes an observation, from ``data``.

    By default that are Diffusion Policy's ``keypoint`` and ``state[:2]`` of PushT, else ``obs``,
    else ``state``, else all vectors by name. Rewards are ``data/reward``, and end where
    ``data/terminal`` or ``data/done`` is true.

    Raises:
        UserError: An array is missing or damaged, or the package zarr is not installed.
    """
    refuse_tasks(path, selection)
    stored = _Stored(path)
    with foreign(path, "zarr", kind=DataError), _opened(path) as root:
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
        columns = {name: stored.load(data, name) for name in columns_needed(keys)}
        observations, specs = lay_out(path, columns, keys)
        actions = numbers_of_actions(path, action_key, stored.load(data, action_key))
        rewards, masks = _rewards(path, stored, data, len(actions))
        ends = stored.load(meta, "episode_ends")
        check_ends(path, "meta/episode_ends", ends)
    return trajectories(
        path,
        observations,
        specs,
        actions,
        ends,
        rewards=rewards,
        masks=masks,
        notes=(*notes, *stored.notes),
    )


class _Stored:
    """The files of a buffer, in its folder or its archive: nothing else tells what can be read.

    Args:
        path: The folder or archive.

    Attributes:
        notes: What was not stored of the arrays that were loaded, a line each.

    Raises:
        DataError: It is not there, or something in it is no file, or too large for what it is.
    """

    def __init__(self, path: Path):
        self._path = path
        self._group = ""
        self.notes: tuple[str, ...] = ()
        if path.is_dir():
            self._sizes = check_tree(path, kind=DataError)
        else:
            check_file(path, kind=DataError)
            self._group = _group_in(path) or ""
            with foreign(path, "zipfile", kind=DataError), zipfile.ZipFile(path) as archive:
                members = archive.infolist()
            self._sizes = {m.filename: m.file_size for m in members if not m.is_dir()}
            whole = sum(self._sizes.values())
            check_promise(path, whole, path.stat().st_size, kind=DataError)
        for name, size in self._sizes.items():
            if name.rpartition("/")[2] in METADATA and size > LARGEST_METADATA:
                raise DataError(f"{path}: {name} has {size} bytes, too many for what it is")

    def load(self, group: Any, name: str) -> NDArray:
        """Return an array of a group.

        Raises:
            DataError: It would take far more memory than its files have bytes, or a file of it is
                damaged.
        """
        array = group[name]
        where = f"{self._path}: {array.path.removeprefix(f'{self._group}/')}"
        chunks = self._chunks_of(array.path)
        chunk = math.prod(array.chunks) * array.dtype.itemsize
        promised = max(math.prod(array.shape) * array.dtype.itemsize, chunk)
        check_promise(where, promised, sum(chunks.values()), kind=DataError)
        most = 2 * math.prod(array.shards or array.chunks) * array.dtype.itemsize + SLACK
        codec = array.compressors[-1] if array.compressors else None
        named = f"{getattr(codec, 'codec_id', '')}{type(codec).__name__}".lower()
        for file, size in chunks.items():
            if size > most and array.dtype.kind != "O":
                raise DataError(f"{where} is damaged: {file} has {size} bytes, more than its rows")
            if "blosc" in named and array.shards is None:
                _check_blosc(f"{where} is damaged: {file}", self._head(file), size, chunk)
        many = math.prod(
            -(-n // size) for n, size in zip(array.shape, array.shards or array.chunks, strict=True)
        )
        if len(chunks) < many:
            self.notes += (
                f"{many - len(chunks)} of {many} chunks of {name} are not stored, and count as "
                f"{array.fill_value}: so zarr keeps what is all the same; else copy the data again",
            )
        with foreign(f"{where} is damaged", "zarr", kind=DataError):
            return np.asarray(array[:])

    def _chunks_of(self, array: str) -> dict[str, int]:
        """Return the size of each file of an array's values."""
        begin = f"{array}/"
        return {
            name: size
            for name, size in self._sizes.items()
            if name.startswith(begin) and name.rpartition("/")[2] not in METADATA
        }

    def _head(self, file: str) -> bytes:
        """Return the first bytes of a file."""
        if self._path.is_dir():
            with open(self._path / file, "rb") as opened:
                return opened.read(BLOSC.size)
        with zipfile.ZipFile(self._path) as archive, archive.open(file) as member:
            return member.read(BLOSC.size)


def _check_blosc(where: str, head: bytes, size: int, chunk: int) -> None:
    """Refuse a chunk of another length than it says: the library would read beyond its end."""
    if len(head) == BLOSC.size:
        *_, raw, _, compressed = BLOSC.unpack(head)
        if compressed == size and raw == chunk:
            return
    raise DataError(f"{where} is cut short, or is no chunk of these rows")


def _rewards(
    path: Path, stored: _Stored, data: Any, rows: int
) -> tuple[NDArray | None, NDArray | None]:
    name = next((name for name in REWARDS if name in data), None)
    if name is None:
        return None, None
    rewards = stored.load(data, name).reshape(-1)
    if len(rewards) != rows:
        raise DataError(f"{path}: data/{name}: {len(rewards)} values, but there are {rows} rows")
    end = next((name for name in ENDS_REWARD if name in data), None)
    over = np.zeros(rows) if end is None else stored.load(data, end).reshape(-1)
    if len(over) != rows:
        raise DataError(f"{path}: data/{end}: {len(over)} values, but there are {rows} rows")
    return rewards.astype(np.float32), (over == 0).astype(np.float32)


def _group_in(path: Path) -> str | None:
    """Return where in a zip archive the outermost group stands, "" for its root."""
    names = names_in_zip(path)
    folders = [name.rpartition("/")[0] for name in names if name.split("/")[-1] in MARKERS]
    return min(folders, key=len, default=None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a buffer's group for reading.

    Raises:
        UserError: It cannot be opened, or the package zarr is not installed.
    """
    zarr = require(path, "zarr")
    store: Any = None
    if path.is_dir():
        root = zarr.open_group(str(path), mode="r")
    else:
        if (inside := _group_in(path)) is None:
            raise DataError(f"{path}: this is no zip archive of a zarr group, or a cut one")
        store = zarr.storage.ZipStore(path, mode="r")
        root = zarr.open_group(store, path=inside, mode="r")
    try:
        yield root
    finally:
        if store is not None:
            store.close()


FORMAT = Format("a zarr replay buffer", matches, read)
