"""Images and videos of LeRobot's data sets, decoded one by one into one array.

A frame goes straight to its row: beside the array there is never more than the frame at hand, and
those that the decoder holds.
"""

import dataclasses
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats.parquet import read_table
from nfrl.data.formats.reading import VIDEO, require, resize
from nfrl.progress import progress
from nfrl.reading import one_line, read_bytes

MOST_FPS = 1_000_000
LONG = 2000
"""Frames from which on progress is shown."""
MOST_PIXELS, LARGEST_FILE = 2**25, 256_000_000
"""Of one image."""
ROWS_AT_ONCE = 32
"""Rows of compressed images that are in memory at once."""
VIDEO_OF_AN_EPISODE = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
VIDEO_OF_SEVERAL = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
"""Where videos lie if ``meta/info.json`` does not say: in version 2, and in version 3."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows that images are wanted for, in the order of episodes.

    Attributes:
        episode: (rows,), the episode's number.
        frame: (rows,), the number within it.
        time: (rows,), seconds from its begin.
    """

    episode: NDArray
    frame: NDArray
    time: NDArray


def read_images(
    path: Path,
    name: str,
    size: tuple[int, int] | None,
    batches: Iterable[tuple[Path, int, Any]],
    rows_of: NDArray[np.int64],
    count: int,
) -> NDArray[np.uint8]:
    """Read a column of compressed images, or of the paths of their files.

    Args:
        path: The data set's folder.
        name: The column.
        size: (height, width) in which images are wanted; None for as they are.
        batches: A parquet file, the number of the first row in the data, a few rows.
        rows_of: For each row in the data, where its image belongs; -1 for nowhere.
        count: How many images are wanted.

    Returns:
        (count, height, width, 3).

    Raises:
        UserError: An image is missing, damaged, outside the folder or of another size than the
            first; or Pillow is not installed.
    """
    from pyarrow import types

    pillow = require(path, "PIL.Image", VIDEO)
    images = _Images(count, size)
    with progress(f"decoding {name}", count, "images", show=count >= LONG) as update:
        done = 0
        for file, first, batch in batches:
            column = batch.column(name)
            if not types.is_struct(column.type):
                raise DataError(
                    f"{file}: column {name!r} has no images in it: {column.type} in place of a "
                    "structure of bytes and path"
                )
            for row, value in enumerate(column, first):
                if rows_of[row] < 0:
                    continue
                where = f"{file}: column {name!r}, row {row} of the data"
                where, stored = _bytes_of(path, where, value.as_py())
                images.put(int(rows_of[row]), _decoded(pillow, where, stored), where)
                done += 1
            update(done)
    return images.array


def read_videos(
    path: Path, info: Mapping[str, Any], name: str, size: tuple[int, int] | None, rows: Rows
) -> NDArray[np.uint8]:
    """Read a feature that is stored as videos, each file in one pass.

    Args:
        path: The data set's folder.
        info: ``meta/info.json``.
        name: The feature.
        size: (height, width) in which images are wanted; None for as they are.
        rows: Which frames are wanted.

    Returns:
        (rows, height, width, 3).

    Raises:
        UserError: A video is missing, damaged or outside the folder; a row has no frame within half
            a frame of its time; a frame is of another size than the first; or PyAV is not
            installed.
    """
    av = require(path, "av", VIDEO)
    fps = info.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps <= MOST_FPS:
        raise DataError(f"{path}: meta/info.json: fps is {fps!r}, not a number of frames a second")
    tolerance = 0.5 / fps
    files = _videos(path, info, name, rows, tolerance)
    for file in files:  # Before an hour of decoding.
        if not file.is_file():
            raise DataError(f"{file}: there is no such video of {name}; download the data again")
    count = len(rows.episode)
    images = _Images(count, size)
    with progress(f"decoding {name}", count, "frames", show=count >= LONG) as update:
        done = 0
        for file, (places, times) in files.items():
            for place, picture, is_first in _matched(av, file, rows, places, times, tolerance):
                images.put(place, picture, f"{file}: {_row(rows, place)}")
                done += is_first
                update(done)
    return images.array


class _Images:
    """The images of all rows, of the size of the first that comes.

    Attributes:
        array: (rows, height, width, 3).
    """

    array: NDArray[np.uint8]

    def __init__(self, rows: int, size: tuple[int, int] | None):
        self._rows, self._size = rows, size
        self._stored: tuple[int, ...] = ()

    def put(self, row: int, image: NDArray[np.uint8], where: str) -> None:
        """Put an image (height, width, 3) where it belongs."""
        if not self._stored:
            self._stored = image.shape
            self.array = self._made(where)
        if image.shape != self._stored:
            raise DataError(
                f"{where}: an image of {image.shape[0]} x {image.shape[1]} pixels, but the first "
                f"is of {self._stored[0]} x {self._stored[1]}: store all in one size"
            )
        self.array[row] = resize(where, image, self._size) if self._size else image

    def _made(self, where: str) -> NDArray[np.uint8]:
        shape = (self._rows, *(self._size or self._stored[:2]), 3)
        try:
            return np.empty(shape, np.uint8)
        except MemoryError:
            gigabytes = np.prod(shape, dtype=float) / 1e9
            raise DataError(
                f"{where}: images {shape} take {gigabytes:.0f} GB, more than there is: read them "
                "smaller, as NAME[96x96]"
            ) from None


def _row(rows: Rows, place: int) -> str:
    return f"frame {rows.frame[place]} of episode {rows.episode[place]}"


def _inside(path: Path, name: str, what: str) -> Path:
    """Return a file of the data set's folder.

    Only the name is looked at: the hub's cache is made of links that lead out of the folder.
    """
    written = PurePosixPath(name)
    if written.is_absolute() or ".." in written.parts:
        raise DataError(f"{path}: {what}: {name!r} is outside the data set's folder")
    return path / written


# Images


def _bytes_of(path: Path, where: str, value: Mapping[str, Any] | None) -> tuple[str, bytes]:
    """Return the bytes of an image file, in the column or in a file of their own, and where."""
    value = value or {}
    if value.get("bytes"):
        return where, value["bytes"]
    if not value.get("path"):
        raise DataError(f"{where}: the image is missing; download the data again")
    file = _inside(path, value["path"], where)
    try:
        return f"{where}, {value['path']}", read_bytes(file, LARGEST_FILE, kind=DataError)
    except DataError as error:
        raise DataError(f"{where}: the image cannot be read ({error})") from error


def _decoded(pillow: Any, where: str, stored: bytes) -> NDArray[np.uint8]:
    try:
        with pillow.open(io.BytesIO(stored), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(
                    f"{where}: an image of {image.width} x {image.height} pixels; the most that "
                    f"are read are {MOST_PIXELS:,}"
                )
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{where}: an image of more than 8 bits a colour: store bytes")
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Its decoders raise what they like at damaged bytes.
        # Pillow would name the buffer in memory.
        reason = "neither PNG nor JPEG" if "identify" in f"{error}" else one_line(error)
        raise DataError(f"{where}: the image is damaged ({reason})") from error


# Videos


def _matched(
    av: Any, file: Path, rows: Rows, places: NDArray, times: NDArray, tolerance: float
) -> Iterator[tuple[int, NDArray[np.uint8], bool]]:
    """Yield for rows the frames nearest to their times, in one pass over a video.

    Args:
        av: The package.
        file: The video.
        rows: All rows, for messages.
        places: Which rows have their frames in it.
        times: When: seconds from the video's begin.
        tolerance: How far a frame may be from its row, in seconds.

    Yields:
        A row, a frame, and whether it is the first for this row: a nearer one may follow.
    """
    order = np.argsort(times, kind="stable")
    places, times = places[order], times[order]
    nearest = np.full(len(times), np.inf)
    try:
        # Told the container, it looks for no other: one that could name further files.
        with av.open(str(file), format="mp4") as video:
            if not video.streams.video:
                raise DataError(f"{file}: there is no video in it")
            video.streams.video[0].thread_type = "AUTO"
            pixels = video.streams.video[0].width * video.streams.video[0].height
            if pixels > MOST_PIXELS:
                raise DataError(
                    f"{file}: frames of {pixels:,} pixels; the most are {MOST_PIXELS:,}"
                )
            for frame in video.decode(video=0):
                if frame.time is None or frame.time < times[0] - tolerance:
                    continue
                if frame.time > times[-1] + tolerance:
                    break
                first = np.searchsorted(times, frame.time - tolerance, "left")
                end = np.searchsorted(times, frame.time + tolerance, "right")
                distance = np.abs(times[first:end] - frame.time)
                better = first + np.flatnonzero(distance < nearest[first:end])
                if not better.size:
                    continue
                if frame.is_corrupt:
                    raise DataError(
                        f"{file}: the frame at {frame.time:.3f} s is damaged; download it again"
                    )
                picture = frame.to_ndarray(format="rgb24")
                for place in better:
                    yield int(places[place]), picture, bool(np.isinf(nearest[place]))
                nearest[first:end] = np.minimum(nearest[first:end], distance)
    except DataError:
        raise
    except Exception as error:  # PyAV raises its own errors, and Python's at odd numbers.
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{file}: cannot be decoded ({reason}); download it again") from error
    if (lacking := np.flatnonzero(np.isinf(nearest))).size:
        place = lacking[0]
        raise DataError(
            f"{file}: no frame at {times[place]:.3f} s, for {_row(rows, places[place])}: the video "
            "is cut, or it does not belong to these data; download it again"
        )


def _videos(
    path: Path, info: Mapping[str, Any], name: str, rows: Rows, tolerance: float
) -> dict[Path, tuple[NDArray, NDArray]]:
    """Return for each video which rows have their frames in it, and when."""
    several = (path / "meta" / "episodes").is_dir()
    template = f"{info.get('video_path') or (VIDEO_OF_SEVERAL if several else VIDEO_OF_AN_EPISODE)}"
    chunk = info.get("chunks_size") or 1000
    if not isinstance(chunk, int) or chunk < 1:
        raise DataError(f"{path}: meta/info.json: chunks_size is {chunk!r}, no number of episodes")
    spans = {} if "{episode_index" in template else _spans(path, name)
    found: dict[Path, list[tuple[NDArray, NDArray]]] = {}
    begins = np.append(np.flatnonzero(np.diff(rows.episode, prepend=-1)), len(rows.episode))
    for first, end in itertools.pairwise(begins):
        episode = int(rows.episode[first])
        places, times = np.arange(first, end), rows.time[first:end].astype(float)
        fields: dict[str, Any] = {"video_key": name}
        if "{episode_index" in template:
            fields |= {"episode_chunk": episode // chunk, "episode_index": episode}
        else:
            if episode not in spans:
                raise DataError(f"{path}: meta/episodes does not say where episode {episode} lies")
            span = spans[episode]
            times += span["from_timestamp"]
            late = times > span["to_timestamp"] + tolerance
            if late.any():  # Beyond stand the frames of another episode.
                raise DataError(
                    f"{path}: {_row(rows, first + int(np.argmax(late)))} comes after the end of "
                    f"its video of {name}, as meta/episodes has it; download the data again"
                )
            fields |= {key: int(span[key]) for key in ("chunk_index", "file_index")}
        file = _inside(path, _filled(path, template, fields), "meta/info.json: video_path")
        found.setdefault(file, []).append((places, times))
    return {
        file: (np.concatenate([p for p, _ in parts]), np.concatenate([t for _, t in parts]))
        for file, parts in found.items()
    }


def _filled(path: Path, template: str, fields: Mapping[str, Any]) -> str:
    """Fill in a template such as ``{video_key}/chunk-{chunk_index:03d}``, and no other kind."""

    def value(match: re.Match[str]) -> str:
        name, width = match.groups()
        if name not in fields:
            raise DataError(f"{path}: meta/info.json: video_path names {name!r}, not known here")
        return f"{fields[name]:0{width}d}" if width else f"{fields[name]}"

    return re.sub(r"\{(\w+)(?::0(\d)d)?\}", value, template)


def _spans(path: Path, name: str) -> dict[int, dict[str, Any]]:
    """Return for each episode which file of a video it lies in, and from when to when."""
    wanted = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    columns = [f"videos/{name}/{key}" for key in wanted]
    found: dict[int, dict[str, Any]] = {}
    for file in sorted((path / "meta" / "episodes").rglob("*.parquet")):
        for row in read_table(file, ["episode_index", *columns]):
            if None in row.values():
                raise DataError(f"{file}: a value of episode {row['episode_index']} is missing")
            if not all(isinstance(value, int | float) for value in row.values()):
                raise DataError(f"{file}: a value of episode {row['episode_index']} is no number")
            span = {key: row[column] for key, column in zip(wanted, columns, strict=True)}
            found[row["episode_index"]] = span
    return found
