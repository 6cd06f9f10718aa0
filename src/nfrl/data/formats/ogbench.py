"""OGBench's files: where they lie, what they hold, and everything that can be wrong with one.

A file ``NAME.npz`` holds ``observations`` (rows, d), ``actions`` (rows, a) and ``terminals``
(rows,), with ``qpos``, ``qvel`` and ``button_states`` where rewards are to be relabelled. A
trajectory ends with a terminal row, which is its final observation: that row's action leads
nowhere. Validation data lie beside it in ``NAME-val.npz``.
"""

import dataclasses
import hashlib
import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.errors import UserError
from nfrl.reading import check_file, check_promise, foreign, read_json, size

REQUIRED_KEYS = ("observations", "actions", "terminals")
ACTION_TOLERANCE = 1e-5
PYTHON_OBJECTS = "an array of Python objects, which would have to be unpickled and is refused"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is in a data file.

    Attributes:
        path: The file.
        rows: Rows in every array.
        transitions: Rows that have a successor: one fewer per trajectory.
        trajectories: How many there are.
        shortest: Rows of the shortest trajectory.
        longest: Rows of the longest.
        observation_size: d; for images, the number of values in one.
        action_size: a.
        action_range: The smallest and the largest value of any action.
        arrays: Type and shape of each array as stored, by key: ``"float32 (1000, 28)"``.
        sha256: Of the file's bytes, in hexadecimal.
        provenance: What the file's maker wrote beside it; None if nobody did.
    """

    path: Path
    rows: int
    transitions: int
    trajectories: int
    shortest: int
    longest: int
    observation_size: int
    action_size: int
    action_range: tuple[float, float]
    arrays: dict[str, str]
    sha256: str
    provenance: dict[str, Any] | None


def dataset_directory() -> Path:
    """Give the folder of data sets: ``$NFRL_DATA``, else OGBench's own ``~/.ogbench/data``."""
    return Path(os.environ.get("NFRL_DATA") or "~/.ogbench/data").expanduser()


def dataset_path(
    name: str,
    episodes: int | None = None,
    seed: int = 0,
    directory: Path | str | None = None,
) -> Path:
    """Name the file of a data set.

    The full data set of seed 0 has OGBench's own name, so that every program finds it; any other
    says in its name what it is.

    Args:
        name: ``cube-single-play-v0``.
        episodes: Training episodes; None for the full number.
        seed: The seed that it is made with.
        directory: Its folder; by default `dataset_directory`.
    """
    folder = dataset_directory() if directory is None else Path(directory).expanduser()
    size = "" if episodes is None else f"-{episodes}ep"
    return folder / f"{name}{size}{f'-seed{seed}' if seed else ''}.npz"


def validation_path(path: Path | str) -> Path:
    """Name the validation file that belongs to a training file, by OGBench's convention."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.npz')}-val.npz")


def provenance_path(path: Path | str) -> Path:
    """Name the JSON file beside a data file that says where the data come from."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.npz')}.json")


def provenance(path: Path | str) -> dict[str, Any] | None:
    """Read what the maker of a data file wrote beside it.

    Args:
        path: The data file.

    Returns:
        The contents of ``NAME.json``; None if there is no such file, or it is not of that kind.
    """
    try:
        value = read_json(provenance_path(path))
    except UserError:
        return None
    return value if "origin" in value else None


def origin(path: Path | str) -> str:
    """Say in a few words where a data file comes from, as far as its provenance tells."""
    found = provenance(path)
    return "file" if found is None else f"{found['origin']} (seed {found.get('seed')})"


def sha256(path: Path | str) -> str:
    """Hash a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path: Path | str) -> dict[str, NDArray]:
    """Read and validate a data file.

    Args:
        path: An OGBench file, or one made here.

    Returns:
        ``observations`` float32 (rows, d), or uint8 (rows, height, width, channels) for images,
        ``actions`` float32 (rows, a) in [-1, 1], ``terminals`` bool (rows,), and every further
        array of the file as it is stored.

    Raises:
        DataError: The file is absent, is no such file, or its contents are wrong; the message
            names the file, the key and the reason.
    """
    path = Path(path)
    arrays, refused = read_archive(path)
    for key, reason in refused.items():
        raise DataError(f"{path}: {key}: {reason}")
    for key in REQUIRED_KEYS:
        if key not in arrays:
            have = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(f"{path}: the key {key!r} is missing (the file has {have})")
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise DataError(f"{path}: {key}: values of type {array.dtype} are not numbers")
    _check_shapes(path, arrays)
    with np.errstate(over="ignore"):
        if arrays["observations"].dtype != np.uint8:
            arrays["observations"] = arrays["observations"].astype(np.float32, copy=False)
        arrays["actions"] = arrays["actions"].astype(np.float32, copy=False)
    for key, array in arrays.items():
        if problem := not_finite(array):
            raise DataError(f"{path}: {key}: {problem}")
    _check_actions(path, arrays["actions"])
    arrays["terminals"] = _terminals(path, arrays["terminals"])
    return arrays


def summarize(path: Path | str) -> Summary:
    """Read a data file, validate it, and say what is in it.

    Args:
        path: The data file.

    Raises:
        DataError: As for `load`.
    """
    path = Path(path)
    arrays = load(path)
    lengths = trajectory_lengths(arrays["terminals"])
    rows, actions = len(arrays["terminals"]), arrays["actions"]
    return Summary(
        path=path,
        rows=rows,
        transitions=rows - len(lengths),
        trajectories=len(lengths),
        shortest=int(lengths.min()),
        longest=int(lengths.max()),
        observation_size=int(np.prod(arrays["observations"].shape[1:])),
        action_size=actions.shape[1],
        action_range=(float(actions.min()), float(actions.max())),
        arrays={key: f"{array.dtype} {array.shape}" for key, array in arrays.items()},
        sha256=sha256(path),
        provenance=provenance(path),
    )


def trajectory_lengths(terminals: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the rows of each trajectory.

    Args:
        terminals: (rows,), true in each trajectory's last row.

    Returns:
        (trajectories,).
    """
    return np.diff(np.flatnonzero(terminals), prepend=-1)


def read_archive(path: Path | str) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Read every array of an archive that is none of Python objects: nothing is unpickled.

    Returns:
        The arrays by key; and for each key that has none the reason.

    Raises:
        DataError: The file is absent, no such archive, damaged or truncated.
    """
    path = Path(path)
    if check_file(path, kind=DataError) == 0:
        raise DataError(f"{path}: the file is empty")
    # A file that np.load takes for a lone array or a pickle is no archive of arrays.
    if not zipfile.is_zipfile(path) or _begins_otherwise(path):
        raise DataError(f"{path}: this is no .npz archive, or a truncated one")
    arrays, refused = {}, {}
    with foreign(path, "numpy", kind=DataError):
        _check_members(path)
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                try:
                    arrays[key] = archive[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise DataError(f"{path}: {key}: the array is damaged ({error})") from error
                    refused[key] = PYTHON_OBJECTS
    if any(not isinstance(array, np.ndarray) for array in arrays.values()):
        raise DataError(f"{path}: this is a zip archive, but not of arrays")
    return arrays, refused


def _begins_otherwise(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) != b"PK"


def _check_members(path: Path) -> None:
    """Refuse an archive whose arrays would take more than it holds, before one is read."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{path}: {twice[0]} is in the archive twice")
        check_promise(path, sum(m.file_size for m in members), path.stat().st_size, kind=DataError)
        for member in members:
            with archive.open(member) as file:
                promised = _promised(file)
            if promised > member.file_size:
                raise DataError(
                    f"{path}: {member.filename}: the array is damaged: its header promises "
                    f"{size(promised)}, and {size(member.file_size)} are there"
                )


def _promised(file: IO[bytes]) -> int:
    """Return the bytes that the header of an .npy file promises; 0 for another file."""
    magic = file.read(np.lib.format.MAGIC_LEN)
    if not magic.startswith(np.lib.format.MAGIC_PREFIX):
        return 0
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    if magic[-2] not in read:
        return 0
    shape, _, dtype = read[magic[-2]](file)
    return 0 if dtype.hasobject else math.prod(shape) * dtype.itemsize


def _check_shapes(path: Path, arrays: dict[str, NDArray]) -> None:
    observations, actions, terminals = (arrays[key] for key in REQUIRED_KEYS)
    if observations.ndim not in (2, 4):
        raise DataError(
            f"{path}: observations: shape {observations.shape}, expected (rows, d) or images"
        )
    if actions.ndim != 2:
        raise DataError(f"{path}: actions: shape {actions.shape}, expected (rows, a)")
    if terminals.ndim != 1:
        raise DataError(f"{path}: terminals: shape {terminals.shape}, expected (rows,)")
    rows = len(observations)
    if rows == 0:
        raise DataError(f"{path}: observations: there are no rows")
    for key, array in arrays.items():
        length = array.shape[0] if array.ndim else 0
        if length != rows:
            raise DataError(f"{path}: {key}: {length} rows, but observations have {rows}")
        if 0 in array.shape:
            raise DataError(f"{path}: {key}: shape {array.shape} holds no values")


def not_finite(array: NDArray) -> str:
    """Say how many values of an array are not finite, and where; nothing if all are."""
    if array.dtype.kind != "f":
        return ""
    bad = ~np.isfinite(array)
    count = int(bad.sum())
    if not count:
        return ""
    row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
    return f"{count} of {array.size} values are NaN or infinite, first in row {row}"


def _check_actions(path: Path, actions: NDArray) -> None:
    worst = np.unravel_index(np.argmax(np.abs(actions)), actions.shape)
    if abs(actions[worst]) > 1.0 + ACTION_TOLERANCE:
        row, dimension = (int(index) for index in worst)
        raise DataError(
            f"{path}: actions: outside [-1, 1], worst {actions[worst]:.6g} in row {row}, "
            f"dimension {dimension}"
        )


def _terminals(path: Path, terminals: NDArray) -> NDArray[np.bool_]:
    values = np.unique(terminals)
    if not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{path}: terminals: must be 0 or 1, found {values[~np.isin(values, (0, 1))][0]}"
        )
    terminals = terminals.astype(bool)
    if not terminals[-1]:
        raise DataError(f"{path}: terminals: the last row is not terminal, a trajectory is cut off")
    lengths = trajectory_lengths(terminals)
    if lengths.min() < 2:
        index = int(np.argmin(lengths))
        raise DataError(
            f"{path}: terminals: trajectory {index} has 1 row; with fewer than 2 there is no "
            "transition"
        )
    return terminals
