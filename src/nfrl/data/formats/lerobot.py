"""LeRobot's data sets (Cadene et al., 2024): a folder of parquet files, ``meta`` and ``data``.

Of both layouts: a file an episode (version 2), and many episodes in a file (version 3). Images and
videos are read where they are asked for (:mod:`nfrl.data.formats.lerobot_images`).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats import lerobot_images
from nfrl.data.formats.parquet import check_parquet, read_table
from nfrl.data.formats.reading import (
    Format,
    Selection,
    check_action_type,
    choose_keys,
    columns_needed,
    image_sizes,
    lay_out,
    numbers_of_actions,
    passed_over_images,
    require,
    trajectories,
)
from nfrl.data.trajectories import Trajectories
from nfrl.reading import check_tree, foreign, one_line, parse_json, read_json, read_text

BATCH = 16_384
"""Rows that are decoded at once: what is in memory beside the arrays themselves."""
TIME = "timestamp"
INDICES = ("episode_index", "frame_index", "task_index")
REWARD, DONE, TRUNCATED = "next.reward", "next.done", "next.truncated"


def locate(rest: str) -> Path:
    """Return the folder of a data set's name on the hub: ``lerobot/pusht``."""
    root = os.environ.get("HF_LEROBOT_HOME") or "~/.cache/huggingface/lerobot"
    return Path(root).expanduser() / rest


def matches(path: Path) -> bool:
    """Whether it is a data set's folder."""
    return os.path.lexists(path / "meta" / "info.json")


def read(path: Path, selection: Selection) -> Trajectories:
    """Read actions, rewards and what makes an observation, by episode and frame.

    By default that is every vector of numbers whose name begins with ``observation.``, in the
    order of the names: the environment's state first, then the robot's. Images and videos are
    decoded if ``selection`` names them.

    Raises:
        UserError: A file, an episode, a column, a value or a frame is missing; there are several
            tasks, and none was chosen; or a package that is needed is not installed.
    """
    require(path, "pyarrow")
    if not matches(path):
        raise DataError(f"{path}: there is no data set of LeRobot's: no meta/info.json")
    check_tree(path, kind=DataError)
    info = _info(path)
    source = _Source(path)
    action_key = selection.action_key or "action"
    for name in (action_key, "episode_index", "frame_index"):
        if name not in source.kinds:
            raise DataError(f"{path}: there is no column {name!r}")
    check_action_type(path, action_key, source.kinds[action_key])
    indices = source.read([name for name in INDICES if name in source.kinds])
    episode, frame = indices["episode_index"], indices["frame_index"]
    _check_totals(path, info, episode)
    chosen, notes = _choose_tasks(path, indices.get("task_index"), episode, selection)
    keys, passed = _keys(path, source, info, selection)
    pictures = {
        name: kind for name, kind in _pictures(path, info).items() if name in columns_needed(keys)
    }
    vectors = columns_needed(keys) - pictures.keys()
    per_step = [name for name in (REWARD, DONE, TRUNCATED) if name in source.kinds]
    if "video" in pictures.values():
        per_step.append(TIME)
    arrays = source.read(sorted({*vectors, action_key, *per_step}))
    order = _order(episode, frame, chosen)
    if order is not None:
        episode, frame = episode[order], frame[order]
        arrays = {name: arrays.pop(name)[order] for name in list(arrays)}
    begins = episode[1:] != episode[:-1]
    if chosen is not None:  # Frames of another task may have been left out in between.
        begins |= frame[1:] != frame[:-1] + 1
    # A vector of one number is stored as a number.
    columns = {name: arrays[name].reshape(len(episode), -1) for name in vectors}
    rows = lerobot_images.Rows(episode, frame, arrays.get(TIME, frame).reshape(-1))
    sizes = image_sizes(path, keys)
    for name, kind in pictures.items():
        if kind == "video":
            columns[name] = lerobot_images.read_videos(path, info, name, sizes[name], rows)
        else:
            columns[name] = _read_images(path, source, name, sizes[name], order, len(episode))
    observations, specs = lay_out(path, columns, keys)
    rewards = masks = None
    if REWARD in arrays:
        rewards = arrays[REWARD].reshape(-1)
        over = arrays[DONE].reshape(-1) != 0 if DONE in arrays else np.zeros(len(rewards), bool)
        if TRUNCATED in arrays:
            over &= arrays[TRUNCATED].reshape(-1) == 0
        masks = 1 - over.astype(np.float32)
    return trajectories(
        path,
        observations,
        specs,
        numbers_of_actions(path, action_key, arrays[action_key]),
        np.append(np.flatnonzero(begins) + 1, len(episode)),
        rewards=rewards,
        masks=masks,
        notes=(*notes, *passed),
    )


def _read_images(
    path: Path,
    source: "_Source",
    name: str,
    size: tuple[int, int] | None,
    order: NDArray[np.int64] | None,
    count: int,
) -> NDArray[np.uint8]:
    """Read a column of images for the rows that were chosen, in their order."""
    rows_of = np.full(source.rows, -1)
    rows_of[slice(None) if order is None else order] = np.arange(count)
    batches = source.batches([name], lerobot_images.ROWS_AT_ONCE)
    return lerobot_images.read_images(path, name, size, batches, rows_of, count)


class _Source:
    """The parquet files of a data set, read a few rows at a time into arrays made before.

    Attributes:
        path: The data set's folder.
        rows: How many there are.
        kinds: The type of numbers of each column that is one of numbers or of lists of them.
    """

    def __init__(self, path: Path):
        from pyarrow import parquet

        self.path = path
        files = sorted((path / "data").rglob("*.parquet"))
        if not files:
            raise DataError(f"{path}: there is no data/**/*.parquet")
        self._files: list[tuple[Path, Any]] = []
        for file in files:
            with foreign(file, "pyarrow", kind=DataError):
                metadata = parquet.read_metadata(file)
                check_parquet(file, metadata)
                self._files.append((file, metadata))
        self.rows = sum(metadata.num_rows for _, metadata in self._files)
        if not self.rows:
            raise DataError(f"{path}: there are no rows in data/**/*.parquet")
        with foreign(files[0], "pyarrow", kind=DataError):
            schema = self._files[0][1].schema.to_arrow_schema()
            found = {field.name: _numbers(field.type) for field in schema}
        self.kinds: dict[str, np.dtype] = {k: v for k, v in found.items() if v is not None}

    def read(self, names: Sequence[str]) -> dict[str, NDArray]:
        """Read columns of numbers, or of lists of the same length: (rows,) or (rows, width)."""
        arrays: dict[str, NDArray] = {}
        for file, row, batch in self.batches(names, BATCH):
            for name in names:
                self._copy(file, name, batch.column(name), arrays, row)
        return arrays

    def batches(self, names: Sequence[str], size: int) -> Iterator[tuple[Path, int, Any]]:
        """Yield a file, the number of a row, and the columns of as many rows from it on."""
        from pyarrow import parquet

        row = end = 0
        for file, metadata in self._files:
            end += metadata.num_rows
            with foreign(file, "pyarrow", kind=DataError), parquet.ParquetFile(file) as opened:
                have = set(opened.schema_arrow.names)
                if lacking := [name for name in names if name not in have]:
                    raise DataError(f"{file}: there is no column {lacking[0]!r}")
                for name in names:
                    self._check_kind(file, name, opened.schema_arrow.field(name).type)
                for batch in opened.iter_batches(size, columns=list(names)):
                    if row + batch.num_rows > end:
                        raise DataError(f"{file}: there are more rows than it says")
                    yield file, row, batch
                    row += batch.num_rows
            if row < end:
                raise DataError(f"{file}: {end - row} of its rows are missing")

    def _check_kind(self, file: Path, name: str, kind: Any) -> None:
        """Refuse a column that is of numbers of another kind than in the first file."""
        first, here = self.kinds.get(name), _numbers(kind)
        if first is not None and (here is None or here.kind != first.kind):
            raise DataError(
                f"{file}: column {name!r} is of type {kind}, but in {self._files[0][0].name} it "
                f"is of {first}"
            )

    def _copy(
        self, file: Path, name: str, column: Any, arrays: dict[str, NDArray], row: int
    ) -> None:
        """Copy some rows of a column to where they belong."""
        values = _values(file, name, column, row)
        if name not in arrays:
            dtype = np.float32 if values.dtype.kind == "f" else values.dtype
            arrays[name] = np.empty((self.rows, *values.shape[1:]), dtype)
        if values.shape[1:] != arrays[name].shape[1:]:
            raise DataError(
                f"{file}: column {name!r}: {_width(values)} values in row {row} of the data, but "
                f"{_width(arrays[name])} in the first: its lists must have the same length"
            )
        with np.errstate(over="ignore"):
            arrays[name][row : row + len(values)] = values


def _width(array: NDArray) -> int:
    return array.shape[1] if array.ndim > 1 else 1


def _numbers(kind: Any) -> np.dtype | None:
    """Return the type of numbers in a column of them, or of lists of them; None for others."""
    from pyarrow import types

    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind):
        return np.dtype(kind.to_pandas_dtype())
    return None


def _values(file: Path, name: str, column: Any, row: int) -> NDArray:
    """Return a column's buffer as an array, if no value is missing and no list has its own length.

    Args:
        file: For messages.
        name: The column's name, for messages.
        column: An arrow array of numbers, or of lists of them, or of lists of lists.
        row: The number of its first row in the data set, for messages.
    """
    from pyarrow import compute, types

    shape = [len(column)]
    while not types.is_primitive(column.type):
        _check_present(file, name, column, row, shape)
        if types.is_fixed_size_list(column.type):
            width = column.type.list_size
        else:
            widths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
            width = int(widths[0]) if len(widths) else 0
            if (odd := np.flatnonzero(widths != width)).size:
                index = int(odd[0])
                here = row + index // int(np.prod(shape[1:], dtype=int))
                raise DataError(
                    f"{file}: column {name!r}: {widths[index]} values in row {here} of the data, "
                    f"but {width} in row {row}: its lists must have the same length"
                )
        column = column.flatten()
        shape.append(width)
    _check_present(file, name, column, row, shape)
    values = column.to_numpy(zero_copy_only=False)
    return values.reshape(shape)


def _check_present(file: Path, name: str, column: Any, row: int, shape: Sequence[int]) -> None:
    if column.null_count:
        missing = column.is_null().to_numpy(zero_copy_only=False)
        here = row + int(np.argmax(missing)) // int(np.prod(shape[1:], dtype=int))
        raise DataError(
            f"{file}: column {name!r}: a value is missing in row {here} of the data; fill it in, "
            "or name other columns with --observation-keys"
        )


def _info(path: Path) -> Mapping[str, Any]:
    return read_json(path / "meta" / "info.json", kind=DataError)


def _count(path: Path, info: Mapping[str, Any], name: str) -> int | None:
    """Return a number that meta/info.json tells; None where it does not."""
    value = info.get(name)
    if value is not None and (not isinstance(value, int) or value < 0):
        raise DataError(f"{path}: meta/info.json: {name} is {value!r}, no number")
    return value


def _check_totals(path: Path, info: Mapping[str, Any], episode: NDArray) -> None:
    """Refuse data of which a part is not there, as meta/info.json tells."""
    found = np.unique(episode)
    total = _count(path, info, "total_episodes")
    if total is not None and total != len(found):
        absent = np.setdiff1d(np.arange(min(total, len(found) + 1)), found)
        which = f" (the first that is missing is {absent[0]})" if absent.size else ""
        raise DataError(
            f"{path}: meta/info.json promises {total} episodes, but data/ holds {len(found)}"
            f"{which}; download the data again"
        )
    frames = _count(path, info, "total_frames")
    if frames is not None and frames != len(episode):
        raise DataError(
            f"{path}: meta/info.json promises {frames} frames, but data/ holds {len(episode)}; "
            "download the data again"
        )


def _choose_tasks(
    path: Path, task: NDArray | None, episode: NDArray, selection: Selection
) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Return which rows are of the tasks that were chosen, None for all, and a note."""
    there = [] if task is None else [int(index) for index in np.unique(task)]
    words = _task_words(path)
    listed = ", ".join(
        f"{index} ({words[index]})" if index in words else f"{index}" for index in there
    )
    if not selection.tasks:
        if len(there) > 1:
            raise DataError(
                f"{path}: there are {len(there)} tasks, and the agent is not told which is which: "
                f"choose with --tasks, one or several of {listed}"
            )
        return None, ()
    numbers = {str(index): index for index in there}
    numbers |= {words[index]: index for index in there if index in words}
    for wanted in selection.tasks:
        if wanted not in numbers:
            raise DataError(f"{path}: there is no task {wanted!r}; there are {listed or 'none'}")
    assert task is not None
    chosen = np.isin(task, [numbers[wanted] for wanted in selection.tasks])
    kept, all_of_them = len(np.unique(episode[chosen])), len(np.unique(episode))
    return chosen, (f"{kept} of {all_of_them} episodes are of the tasks chosen",)


def _task_words(path: Path) -> dict[int, str]:
    """Return the tasks' words by their numbers, as far as meta has them."""
    lines, table = path / "meta" / "tasks.jsonl", path / "meta" / "tasks.parquet"
    file = lines if os.path.lexists(lines) else table
    if not os.path.lexists(file):
        return {}
    if file == lines:
        text = read_text(file, kind=DataError).split("\n")
        rows = [parse_json(line, file, kind=DataError) for line in text if line.strip()]
    else:
        rows = read_table(file)
    try:
        # pandas writes the words as the index of the table, by whichever name.
        return {
            int(row["task_index"]): str(next(v for k, v in row.items() if k != "task_index"))
            for row in rows
        }
    except (AttributeError, TypeError, ValueError, KeyError, StopIteration, OverflowError) as error:
        raise DataError(f"{file}: cannot be read ({one_line(repr(error))})") from error


def _keys(
    path: Path, source: _Source, info: Mapping[str, Any], selection: Selection
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what makes an observation, and notes of pictures that were passed over."""
    pictures = sorted(_pictures(path, info))
    # The width is not known yet: a list of numbers is a vector.
    kinds: dict[str, Any] = {name: ((1,), kind) for name, kind in source.kinds.items()}
    kinds |= {name: ((1, 1, 3), np.uint8) for name in pictures}
    defaults = [
        name for name, kind in sorted(source.kinds.items())
        if name.startswith("observation.") and kind.kind in "fiu"
    ]  # fmt: skip
    if not defaults and pictures and not selection.observation_keys:
        raise DataError(
            f"{path}: the observation {', '.join(pictures)} is an image or a video, and there is "
            "no vector beside it: name it with --observation-keys"
        )
    if not defaults and not selection.observation_keys:
        raise DataError(f"{path}: there is no column observation.* of numbers")
    keys, notes = choose_keys(path, kinds, selection, defaults)
    return keys, notes if selection.observation_keys else (*notes, *passed_over_images(pictures))


def _pictures(path: Path, info: Mapping[str, Any]) -> dict[str, str]:
    """Return the features that are images or videos, by name: which of both."""
    features = info.get("features") or {}
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise DataError(f"{path}: meta/info.json: features are no objects by name")
    kinds = {name: feature.get("dtype") for name, feature in features.items()}
    return {name: kind for name, kind in kinds.items() if kind in ("image", "video")}


def _order(
    episode: NDArray, frame: NDArray, chosen: NDArray[np.bool_] | None
) -> NDArray[np.int64] | None:
    """Return the rows in the order of episodes and frames, None where they are in it."""
    later = (episode[1:] > episode[:-1]) | (
        (episode[1:] == episode[:-1]) & (frame[1:] >= frame[:-1])
    )
    if later.all():
        return None if chosen is None else np.flatnonzero(chosen)
    order = np.lexsort((frame, episode))
    return order if chosen is None else order[chosen[order]]


FORMAT = Format("LeRobot's data set", matches, read, locate)
