"""Demonstrations from anywhere: one small value, whichever format they come in."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nfrl.data.formats.ogbench import DataError

if TYPE_CHECKING:
    from nfrl.data.dataset import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Demonstrations:
    """Episodes laid end to end; each row's action is the one taken at its observation.

    Attributes:
        observations: (rows, d) float32.
        actions: (rows, a) float32, in the data's own units.
        episode_ends: (episodes,) int64, for each episode the row after its last.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or an episode has no rows.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    episode_ends: NDArray[np.int64]

    def __post_init__(self):
        for name in ("observations", "actions"):
            array = np.asarray(getattr(self, name))
            if array.ndim != 2:
                raise ValueError(f"{name}: shape {array.shape}, expected (rows, width)")
            array = array.astype(np.float32)
            bad = ~np.isfinite(array).all(axis=1)
            if bad.any():
                raise ValueError(f"{name}: NaN or infinite, first in row {int(np.argmax(bad))}")
            object.__setattr__(self, name, array)
        ends = np.asarray(self.episode_ends).astype(np.int64).reshape(-1)
        object.__setattr__(self, "episode_ends", ends)
        rows = len(self.observations)
        if len(self.actions) != rows:
            raise ValueError(f"actions: {len(self.actions)} rows, but observations have {rows}")
        if not len(ends) or ends[-1] != rows:
            last = int(ends[-1]) if len(ends) else 0
            raise ValueError(f"episode_ends: the last is {last}, but there are {rows} rows")
        if (np.diff(ends, prepend=0) < 1).any():
            raise ValueError("episode_ends: they must grow, as every episode has a row")

    def to_arrays(self) -> dict[str, NDArray]:
        """Return OGBench's arrays, in which an episode has one more row: its final observation.

        What came after the last action is not known here: the last row is repeated.

        Returns:
            ``observations``, ``actions`` and ``terminals``, (rows + episodes, ...).
        """
        rows = np.insert(
            np.arange(len(self.observations)), self.episode_ends, self.episode_ends - 1
        )
        terminals = np.zeros(len(rows), bool)
        terminals[self.episode_ends + np.arange(len(self.episode_ends))] = True
        return {
            "observations": self.observations[rows],
            "actions": self.actions[rows],
            "terminals": terminals,
        }

    def split(self, held_out: int) -> tuple["Demonstrations", "Demonstrations"]:
        """Part the last episodes from the others.

        Args:
            held_out: How many to hold out; fewer than there are.

        Raises:
            ValueError: Nothing would be left.
        """
        if not 0 < held_out < len(self.episode_ends):
            raise ValueError(
                f"of {len(self.episode_ends)} episodes {held_out} cannot be held out: at least one "
                "must be, and one must be left"
            )
        first = self.episode_ends[-held_out - 1]
        parts = (slice(0, first), slice(first, None))
        ends = (self.episode_ends[:-held_out], self.episode_ends[-held_out:] - first)
        training, last = (
            Demonstrations(self.observations[part], self.actions[part], end)
            for part, end in zip(parts, ends, strict=True)
        )
        return training, last

    @property
    def sha256(self) -> str:
        """A hash of every number, in hexadecimal: of the contents, whatever the files."""
        found = hashlib.sha256()
        for array in (self.observations, self.actions, self.episode_ends):
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def to_dataset(self) -> "Dataset":
        """Put them on the device."""
        from nfrl.data.dataset import Dataset

        return Dataset.from_arrays(**self.to_arrays())


def read(path: Path | str, observation_keys: Sequence[str] | None = None) -> Demonstrations:
    """Read demonstrations, in whichever of these formats they are.

    A zarr replay buffer in Diffusion Policy's layout, a Minari data set's folder, a LeRobot data
    set's folder, or an OGBench ``.npz`` file.

    Args:
        path: The file or folder.
        observation_keys: What makes an observation, in this order: names in the file, with the
            columns wanted where not all are: ``("keypoint", "state[:2]")``. By default what each
            format's reader says.

    Raises:
        UserError: There is no such file or folder, it is of none of these formats, it is damaged,
            or the package that reads it is not installed.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        return read_ogbench(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if (path / ".zgroup").is_file() or (path / "zarr.json").is_file():
        from nfrl.data.formats.zarr_buffer import read_zarr

        return read_zarr(path, observation_keys)
    if (path / "meta" / "info.json").is_file():
        from nfrl.data.formats.lerobot import read_lerobot

        return read_lerobot(path, observation_keys)
    if any((folder / "metadata.json").is_file() for folder in (path, path / "data")):
        from nfrl.data.formats.minari_files import read_minari

        return read_minari(path, observation_keys)
    raise DataError(
        f"{path}: no demonstrations that can be read: neither a zarr replay buffer, nor a folder "
        "of Minari's or LeRobot's, nor an OGBench .npz file"
    )


def read_ogbench(path: Path) -> Demonstrations:
    """Read an OGBench file, without the final observations, which no action follows."""
    from nfrl.data.formats import ogbench

    arrays = ogbench.load(path)
    kept = ~arrays["terminals"]
    lengths = ogbench.trajectory_lengths(arrays["terminals"]) - 1
    observations = arrays["observations"].reshape(len(kept), -1)
    return Demonstrations(observations[kept], arrays["actions"][kept], np.cumsum(lengths))


def choose(path: Path, columns: Mapping[str, NDArray], keys: Sequence[str]) -> NDArray:
    """Lay chosen columns side by side.

    Args:
        path: Of the data, for messages.
        columns: Arrays (rows, ...), by name.
        keys: Names, each with a slice of its flattened columns where not all are wanted.

    Returns:
        (rows, d) float32.

    Raises:
        DataError: A name is not there, or not of this form.
    """
    parts = []
    for key in keys:
        match = re.fullmatch(r"(.+?)(?:\[(-?\d*):(-?\d*)\])?", key)
        name, low, high = match.groups() if match else (key, None, None)
        if name not in columns:
            have = ", ".join(sorted(columns)) or "nothing"
            raise DataError(f"{path}: no {name!r} to make observations of (there is {have})")
        flat = np.asarray(columns[name], np.float32)
        flat = flat.reshape(len(flat), -1)
        parts.append(flat[:, slice(int(low) if low else None, int(high) if high else None)])
    return np.concatenate(parts, axis=1)


def demonstrations(
    path: Path, observations: NDArray, actions: NDArray, episode_ends: NDArray
) -> Demonstrations:
    """Make the value, or say which file is at fault.

    Raises:
        DataError: What was read cannot be demonstrations.
    """
    try:
        return Demonstrations(observations, actions, episode_ends)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
