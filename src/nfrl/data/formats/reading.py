"""What readers share: what a format is, and how columns become trajectories."""

import dataclasses
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.actions import action_spec
from nfrl.data.errors import DataError
from nfrl.data.packed import pack
from nfrl.data.trajectories import Trajectories
from nfrl.errors import UserError, package_of
from nfrl.spec import ArraySpec, Spec, split_size

VIDEO = "'nfrl[video]'"
"""What to install to read compressed images and videos, and to read images smaller."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is wanted of a data set.

    Attributes:
        observation_keys: What makes an observation, in this order: names in the data, with the
            columns wanted where not all are: ``("keypoint", "state[:2]")``, or the size in which an
            image is wanted: ``"camera[96x96]"``. Empty for what the format's reader takes by
            default.
        action_key: The name of the action; empty for the format's own.
        tasks: Of a data set of several tasks, those wanted: their numbers or their words.
    """

    observation_keys: tuple[str, ...] = ()
    action_key: str = ""
    tasks: tuple[str, ...] = ()


def expand(rest: str) -> Path:
    """Return the path that is written in a URI, with ``~`` expanded."""
    return Path(rest).expanduser()


def no_validation(path: Path, selection: Selection) -> Trajectories | None:
    """Say that a format brings no validation data: a part of the trajectories is held out."""
    return None


def no_hash(path: Path) -> str | None:
    """Say that data are known by their contents, not by their file's bytes."""
    return None


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of data. A package announces one of its own as the entry point ``nfrl.formats``.

    Attributes:
        title: What it is, in a few words: ``LeRobot's data set``.
        matches: Whether a file or folder is of this format, by a quick look at it.
        read: Reads it, or raises :class:`nfrl.data.errors.DataError`.
        locate: Where the data lie that a URI ``NAME:REST`` names, of its REST.
        read_validation: Reads the validation data that belong to it; None where there are none.
        aliases: Further names before the colon of a URI, and where what follows lies.
        hash: The hash by which the data are known, where it is not that of their contents.
        origin: Where the data come from, in a few words.
    """

    title: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Selection], Trajectories]
    locate: Callable[[str], Path] = expand
    read_validation: Callable[[Path, Selection], Trajectories | None] = no_validation
    aliases: Mapping[str, Callable[[str], Path]] = dataclasses.field(default_factory=dict)
    hash: Callable[[Path], str | None] = no_hash
    origin: Callable[[Path], str] = lambda path: "file"


def names_in_zip(path: Path) -> list[str]:
    """Return the names in a zip archive; none if it is no such file, or a damaged one."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError):  # RuntimeError: too new a zip
        return []


def require(path: Path, package: str, install: str = "'nfrl[data]'") -> Any:
    """Import the package that reads a format.

    Raises:
        UserError: It is not installed; the message has the command that installs it.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"{path} needs {package_of(package)} ({error}): pip install {install}"
        ) from None


def refuse_tasks(path: Path, selection: Selection) -> None:
    """Refuse a choice of tasks for data that do not name any."""
    if selection.tasks:
        raise DataError(
            f"{path}: these data name no tasks to choose from; only LeRobot's do: leave out --tasks"
        )


def is_picture(shape: Sequence[int], dtype: Any) -> bool:
    """Whether arrays of this shape (of one row) and type are pictures, not vectors."""
    return len(shape) >= 3 or (len(shape) == 2 and np.dtype(dtype) == np.uint8)


Kinds = Mapping[str, tuple[tuple[int, ...], Any]]
"""Shape (of one row) and type of each array that could be part of an observation."""


def kinds_of(columns: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of arrays (rows, ...), which need not be loaded."""
    return {name: (tuple(array.shape[1:]), array.dtype) for name, array in columns.items()}


def choose_keys(
    path: Path, kinds: Kinds, selection: Selection, defaults: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say which arrays make an observation, and what was passed over.

    Args:
        path: Of the data, for messages.
        kinds: What there is.
        selection: What was asked for; that is taken as it is.
        defaults: What else is taken, if they are vectors of numbers. Pictures among them are
            passed over, unless there is nothing else.

    Returns:
        The keys, and a note for what was passed over.

    Raises:
        DataError: A key is not there, an image is asked for in two sizes, or there is nothing of
            numbers.
    """
    if selection.observation_keys:
        image_sizes(path, selection.observation_keys)
        for key in selection.observation_keys:
            _find(path, kinds, key)
        return selection.observation_keys, ()
    keys = [key for key in defaults if np.dtype(_find(path, kinds, key)[1]).kind in "fiub"]
    pictures = [key for key in keys if is_picture(*_find(path, kinds, key))]
    vectors = [key for key in keys if key not in pictures]
    if not vectors and pictures:
        return tuple(pictures), ()
    if not vectors:
        have = ", ".join(sorted(kinds)) or "nothing"
        raise DataError(f"{path}: there is no vector of numbers to observe (there is {have})")
    return tuple(vectors), passed_over_images(pictures)


def passed_over_images(names: Sequence[str]) -> tuple[str, ...]:
    """Return the note that pictures were passed over, if there were any."""
    if not names:
        return ()
    them = ", ".join(names)
    return (f"the images {them} were passed over: name them with --observation-keys to see them",)


def columns_needed(keys: Iterable[str]) -> set[str]:
    """Return the names of the arrays that keys name."""
    return {_parse(key)[0] for key in keys}


def image_sizes(path: Path, keys: Iterable[str]) -> dict[str, tuple[int, int] | None]:
    """Return for each array that keys name the size that is asked of it: (height, width), or None.

    Raises:
        DataError: One is asked for in two sizes.
    """
    sizes: dict[str, tuple[int, int] | None] = {}
    for key in keys:
        name, _, size = _parse(key)
        if sizes.setdefault(name, size) != size:
            raise DataError(f"{path}: {name} is asked for in two sizes: name it once")
    return sizes


def lay_out(
    path: Path,
    columns: Mapping[str, NDArray],
    keys: Sequence[str],
    rename: Mapping[str, str] | None = None,
) -> tuple[NDArray, dict[str, ArraySpec]]:
    """Lay chosen columns side by side.

    Args:
        path: Of the data, for messages.
        columns: Arrays (rows, ...), by name.
        keys: Names, each with a slice of its flattened columns where not all are wanted, or with
            the size in which an image is wanted.
        rename: What a key is called in the spec, where it is called otherwise.

    Returns:
        (rows, d) float32, or packed rows where one is an image; and the spec of each key.

    Raises:
        DataError: A name is not there, it is a picture of another type than uint8, or an image is
            smaller than it is wanted.
    """
    parts, specs = [], {}
    for key in keys:
        name, part, size = _parse(key)
        array = np.asarray(_find(path, columns, key))
        shape = array.shape[1:]
        if array.dtype.kind not in "fiub":
            raise DataError(f"{path}: {name}: values of type {array.dtype} are not numbers")
        array = as_bytes(array)
        if size:
            array = _in_size(path, name, array, size)
            shape = array.shape[1:]
        spec = ArraySpec(shape, "uint8" if array.dtype == np.uint8 else "float32")
        if is_picture(shape, array.dtype) and not spec.is_image:
            raise DataError(
                f"{path}: {name} is an array {shape} of {array.dtype}, neither a vector nor an "
                "image (height, width, channels) of bytes: name others with --observation-keys"
            )
        if not spec.is_image:
            spec = ArraySpec(shape)
        flat = array.reshape(len(array), -1)
        if part is not None:
            flat = flat[:, part]
            spec = ArraySpec(flat.shape[1:])
        if not flat.shape[1]:
            raise DataError(f"{path}: {key} holds no columns")
        with np.errstate(over="ignore"):
            # Also a vector of bytes, which would be packed as pixels are.
            parts.append(flat if spec.is_image else flat.astype(np.float32, copy=False))
        # An image is called the same in any size: its shape tells the size.
        called = name if size else key
        specs[(rename or {}).get(called, called)] = spec
    if any(spec.is_image for spec in specs.values()):
        return pack(parts), specs
    return (np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]), specs


def resize(where: Path | str, image: NDArray, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image of a smaller size: each pixel is the mean of those that it covers.

    Args:
        where: The file, for messages.
        image: (height, width, channels) uint8.
        size: (height, width).

    Raises:
        UserError: The image is smaller than that; or Pillow is not installed.
    """
    if image.shape[:2] == size:
        return image
    height, width = size
    if image.shape[0] < height or image.shape[1] < width:
        stored = f"{image.shape[0]}x{image.shape[1]}"
        raise DataError(f"{where}: the images are {stored}, smaller than [{height}x{width}]")
    pillow = require(Path(where), "PIL.Image", VIDEO)

    def shrink(array: NDArray) -> NDArray:
        return np.asarray(pillow.fromarray(array).resize((width, height), pillow.Resampling.BOX))

    if image.shape[2] == 3:
        return shrink(np.ascontiguousarray(image))
    # One by one: Pillow would take a fourth channel for opacity, and weigh the colours by it.
    channels = [shrink(np.ascontiguousarray(image[..., i])) for i in range(image.shape[2])]
    return np.stack(channels, axis=-1)


def _in_size(path: Path, name: str, array: NDArray, size: tuple[int, int]) -> NDArray:
    """Return images (rows, height, width, channels) in a size."""
    if array.ndim != 4 or array.dtype != np.uint8:
        raise DataError(
            f"{path}: {name}: only an image has a size: leave out [{size[0]}x{size[1]}]"
        )
    if array.shape[1:3] == size:
        return array
    found = np.empty((len(array), *size, array.shape[3]), np.uint8)
    for row, image in enumerate(array):
        found[row] = resize(f"{path}: {name}", image, size)
    return found


def as_bytes(array: NDArray) -> NDArray:
    """Return pictures that were stored as floats from 0 to 255, as Diffusion Policy's, as bytes."""
    if array.ndim != 4 or array.dtype.kind != "f" or array.shape[-1] not in (1, 3, 4):
        return array
    low, high = float(array.min()), float(array.max())
    return array.round().astype(np.uint8) if low >= 0 and 1 < high <= 255 else array


def numbers_of_actions(path: Path, name: str, array: NDArray) -> NDArray[np.float32]:
    """Return actions as (rows, a) float32.

    Raises:
        DataError: They are whole numbers: a choice among a few, which is no vector.
    """
    array = np.asarray(array)
    check_action_type(path, name, array.dtype)
    with np.errstate(over="ignore"):
        return array.reshape(len(array), -1).astype(np.float32, copy=False)


def check_action_type(path: Path, name: str, dtype: Any) -> None:
    """Refuse actions of a type that is not of real numbers."""
    if np.dtype(dtype).kind in "iub":
        raise DataError(
            f"{path}: {name}: discrete actions ({np.dtype(dtype)}) are not supported, only vectors "
            "of real numbers; if these are a continuum, store them as float32"
        )
    if np.dtype(dtype).kind != "f":
        raise DataError(f"{path}: {name}: values of type {np.dtype(dtype)} are not numbers")


def trajectories(
    path: Path,
    observations: NDArray,
    specs: Mapping[str, ArraySpec],
    actions: NDArray,
    ends: NDArray,
    **further: Any,
) -> Trajectories:
    """Make the value, or say which file is at fault.

    Raises:
        DataError: What was read cannot be trajectories.
    """
    try:
        spec = Spec(dict(specs), action_spec(actions, where=path))
        return Trajectories(observations, actions, ends, spec, **further)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def check_ends(path: Path, name: str, ends: NDArray) -> None:
    """Refuse ends of trajectories that are not whole numbers."""
    if ends.dtype.kind not in "iu":
        raise DataError(f"{path}: {name}: values of type {ends.dtype} are no numbers of rows")


def skipped(count: int) -> tuple[str, ...]:
    """Return the note that trajectories of one row were skipped, if there were any."""
    if not count:
        return ()
    noun, verb = ("trajectory", "was") if count == 1 else ("trajectories", "were")
    return (f"{count} {noun} of one row {verb} skipped: nothing follows it",)


def _parse(key: str) -> tuple[str, slice | None, tuple[int, int] | None]:
    name, size = split_size(key)
    if size:
        return name, None, size
    match = re.fullmatch(r"(.+?)\[(-?\d*):(-?\d*)\]", key)
    if not match:
        return key, None, None
    name, low, high = match.groups()
    return name, slice(int(low) if low else None, int(high) if high else None), None


def _find(path: Path, columns: Mapping[str, Any], key: str) -> Any:
    name = _parse(key)[0]
    if name not in columns:
        have = ", ".join(sorted(columns)) or "nothing"
        raise DataError(f"{path}: no {name!r} to make observations of (there is {have})")
    return columns[name]
