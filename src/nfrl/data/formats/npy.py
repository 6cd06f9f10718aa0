"""A folder of .npy files, one an array, that is mapped into memory and never read whole.

Its data may be larger than the memory. ``nfrl data join`` writes it, from data of any format::

    arrays.json                   what an observation is, and what was joined
    observations.npy              (rows, d) float32, or packed rows (rows, bytes) uint8
    actions.npy                   (rows, a) float32
    ends.npy                      (trajectories,) int64, the row after each one's last
    rewards.npy, masks.npy        (rows,) float32, where there are rewards
    final_observations.npy        (trajectories, d), where they are known
    final_actions.npy, ...        (trajectories, ...), what stands beside these
    extras/NAME.npy               further arrays, (rows, ...) or (rows + trajectories, ...)
    validation/                   the same once more: what to validate with
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.data.formats.reading import Format, Selection, check_ends, trajectories
from nfrl.data.trajectories import FINAL_ROWS, Trajectories
from nfrl.errors import UserError
from nfrl.files import make_folder, not_written, write_json
from nfrl.reading import check_file, foreign, read_json, size
from nfrl.spec import ArraySpec

SCHEMA = 1
ABOUT = "arrays.json"
VALIDATION, EXTRAS = "validation", "extras"
_ROWS = ("observations", "actions", "rewards", "masks")


def matches(path: Path) -> bool:
    """Whether a folder was written by :class:`Writer`."""
    return (path / ABOUT).is_file() and (path / "actions.npy").is_file()


def read(path: Path, selection: Selection) -> Trajectories:
    """Map a folder's arrays into memory.

    Raises:
        DataError: A file is missing or damaged, arrays do not fit one another, or a choice is made
            of what the folder holds.
    """
    if selection != Selection():
        raise DataError(
            f"{path}: these arrays are used as they are: choose observations, actions and tasks "
            "when they are joined (`nfrl data join`)"
        )
    about = read_json(path / ABOUT, kind=DataError)
    if about.get("schema") != SCHEMA:
        raise DataError(
            f"{path / ABOUT}: schema {about.get('schema')!r}; this nfrl reads {SCHEMA}: join the "
            "data anew"
        )
    with foreign(path / ABOUT, "nfrl", kind=DataError):
        specs = {
            str(name): ArraySpec(tuple(map(int, each["shape"])), str(each["dtype"]))
            for name, each in about["observation"].items()
        }
    given = {name: _mapped(path / f"{name}.npy") for name in ("observations", "actions", "ends")}
    check_ends(path, "ends", given["ends"])
    for name in ("rewards", "masks", "final_observations"):
        if (path / f"{name}.npy").exists():
            given[name] = _mapped(path / f"{name}.npy")
    finals = {
        name: _mapped(path / f"final_{name}.npy")
        for name in FINAL_ROWS
        if (path / f"final_{name}.npy").exists()
    }
    extras = {each.stem: _mapped(each) for each in sorted((path / EXTRAS).glob("*.npy"))}
    for name in ("observations", "actions"):
        if given[name].ndim != 2:
            raise DataError(f"{path}: {name}: shape {given[name].shape}, expected (rows, width)")
    rest = {"final_rows": finals, "extras": extras}
    ordered = [given.pop(name) for name in ("observations", "actions", "ends")]
    return trajectories(path, ordered[0], specs, ordered[1], ordered[2], **given, **rest)


class Writer:
    """Writes a folder, trajectories by trajectories; the memory it takes does not grow.

    Use it as a context: the files are whole when it is left without an error.

    Args:
        folder: Where; it must not exist.
        joined: The names of what is written.
    """

    def __init__(self, folder: Path, joined: Sequence[str]):
        self._folder, self._joined = folder, tuple(joined)
        self._files: dict[str, _Growing] = {}
        self._rows = 0
        self._first: Trajectories | None = None

    def __enter__(self) -> "Writer":
        make_folder(self._folder / EXTRAS)
        return self

    def add(self, part: Trajectories, name: str) -> None:
        """Write further trajectories.

        Args:
            part: The trajectories.
            name: Their name, for messages.

        Raises:
            DataError: They are of another kind than those before them.
            UserError: The disk is full.
        """
        if self._first is None:
            self._first = part
        else:
            _check_same(self._first, part, name, self._joined[0])
        arrays: dict[str, NDArray] = {
            each: array for each in _ROWS if (array := getattr(part, each)) is not None
        }
        arrays["ends"] = part.ends + self._rows
        arrays |= {f"final_{each}": array for each, array in _finals(part).items()}
        arrays |= {f"{EXTRAS}/{each}": array for each, array in part.extras.items()}
        for each, array in arrays.items():
            if each not in self._files:
                self._files[each] = _Growing(self._folder / f"{each}.npy", array)
            self._files[each].append(array)
        self._rows += part.transitions

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for file in self._files.values():
                file.abandon()
            return
        for file in self._files.values():
            file.finish()
        if self._first is not None:
            spec = self._first.spec.observation
            observation = {n: {"shape": list(a.shape), "dtype": a.dtype} for n, a in spec.items()}
            about = {"schema": SCHEMA, "observation": observation, "joined": list(self._joined)}
            write_json(self._folder / ABOUT, about)


class _Growing:
    """An .npy file to which rows are added."""

    def __init__(self, path: Path, like: NDArray):
        self._path, self._kind = path, (like.dtype, like.shape[1:])
        self._rows = 0
        with self._explained():
            self._file: BinaryIO = open(path, "wb")  # noqa: SIM115
            self._write_header()

    def append(self, array: NDArray) -> None:
        with self._explained():
            self._file.write(np.ascontiguousarray(array, self._kind[0]).data.cast("B"))
        self._rows += len(array)

    def finish(self) -> None:
        with self._explained(), self._file:
            # NumPy leaves room in a header for the first axis to grow.
            self._file.seek(0)
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())

    def abandon(self) -> None:
        """Close it; what it holds does not matter any more."""
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(not_written(self._path, error)) from error

    def _write_header(self) -> None:
        dtype, width = self._kind
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "shape": (self._rows, *width),
                "fortran_order": False,
                "descr": np.lib.format.dtype_to_descr(dtype),
            },
        )


def _mapped(path: Path) -> NDArray:
    stored = check_file(path, kind=DataError)
    with foreign(path, "numpy", kind=DataError):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.memmap) or array.ndim < 1 or array.dtype.kind not in "fiub":
        raise DataError(f"{path}: this is no array of numbers with rows")
    if beyond := stored - array.offset - array.nbytes:
        raise DataError(f"{path}: {size(beyond)} more than its header says: it is damaged")
    return np.asarray(array)


def _check_same(first: Trajectories, part: Trajectories, name: str, of: str) -> None:
    """Refuse trajectories that cannot stand in one folder with the first ones."""
    for what, ours, theirs in (
        ("observations", first.spec.observation, part.spec.observation),
        ("actions", first.spec.action_dim, part.spec.action_dim),
        ("rewards", first.rewards is not None, part.rewards is not None),
        ("arrays of final rows", _kinds(_finals(first)), _kinds(_finals(part))),
        ("further arrays", _kinds(first.extras), _kinds(part.extras)),
    ):
        if ours != theirs:
            raise DataError(f"{name}: {what}: {_said(theirs)}, but those of {of}: {_said(ours)}")


def _finals(part: Trajectories) -> dict[str, NDArray]:
    """Return what is known of the final rows, by name."""
    known = part.final_observations
    return {**({} if known is None else {"observations": known}), **part.final_rows}


def _kinds(arrays: Mapping[str, NDArray]) -> dict[str, str]:
    return {name: f"{a.dtype} {a.shape[1:]}" for name, a in sorted(arrays.items())}


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "there" if value else "not there"
    if isinstance(value, dict):
        return ", ".join(f"{n} {getattr(a, 'shape', a)}" for n, a in value.items()) or "none"
    return f"{value} numbers"


def _read_validation(path: Path, selection: Selection) -> Trajectories | None:
    return read(path / VALIDATION, selection) if (path / VALIDATION).is_dir() else None


FORMAT = Format("a folder of nfrl data join", matches, read, read_validation=_read_validation)
