"""Reading files that may be anything: cut short, damaged, no files at all, or made to do harm.

What is wrong is told in a line that names the file. Nothing waits for a pipe, nothing is taken into
memory that is larger than such a file can be.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nfrl.errors import UserError

MOST = 256_000_000
"""Bytes of a text that is read whole."""
DEEPEST = 100
"""Lists and objects within one another in JSON."""
FREE, TIMES = 256_000_000, 100
"""What a file promises is believed up to so many bytes, or so many times its own size."""
_LONG = 400


def one_line(error: object) -> str:
    """Return what an error says in a line that a terminal can print."""
    words = " ".join(str(error).split()) or type(error).__name__
    text = "".join(each if each.isprintable() else "?" for each in words)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def check_file(path: Path, most: int | None = None, *, kind: type[UserError] = UserError) -> int:
    """Be sure that something is a file to read, and return its size.

    Args:
        path: The file.
        most: The most bytes that it may have; None for any number.
        kind: Of the error.

    Raises:
        UserError: It is not there, it is a folder, a pipe or a device, or it is too large.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = (
            "there is no such file" if _is_missing(error) else f"cannot be read ({_why(error)})"
        )
        raise kind(f"{one_line(path)}: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise kind(f"{one_line(path)}: this is {what}, not a file")
    if most is not None and found.st_size > most:
        raise kind(
            f"{one_line(path)}: the file has {size(found.st_size)}; the most that is read is "
            f"{size(most)}"
        )
    return found.st_size


def check_tree(path: Path, *, kind: type[UserError] = UserError) -> dict[str, int]:
    """Be sure that a folder holds files and folders alone, links to such among them.

    Returns:
        The size of each file, by its path in the folder.

    Raises:
        UserError: Something else stands in it.
    """
    sizes: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for folder, inner, files in os.walk(path, followlinks=True):
        found = os.stat(folder)
        if (found.st_dev, found.st_ino) in seen:  # a link to a folder above
            inner.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        for name in files:
            file = Path(folder, name)
            sizes[file.relative_to(path).as_posix()] = check_file(file, kind=kind)
    return sizes


def check_promise(
    where: object, promised: float, stored: int, *, kind: type[UserError] = UserError
) -> None:
    """Refuse what would take far more memory than the file that promises it has bytes.

    Args:
        where: The file, and what of it.
        promised: The bytes that it would take.
        stored: The bytes that there are.
        kind: Of the error.

    Raises:
        UserError: The promise is too large.
    """
    if promised > FREE and promised > TIMES * stored:
        raise kind(
            f"{one_line(where)}: promises {size(promised)}, but only {size(stored)} are stored: it "
            "is damaged, or made to fill the memory; if it is neither, store it uncompressed"
        )


def size(count: float) -> str:
    """Say a number of bytes in words."""
    for unit, least in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= least:
            return f"{count / least:,.3g} {unit}" if count < 1e18 else f"{count:.0e} bytes"
    return f"{count:.0f} bytes"


def read_bytes(path: Path, most: int = MOST, *, kind: type[UserError] = UserError) -> bytes:
    """Read a file.

    Raises:
        UserError: See :func:`check_file`; or it cannot be read.
    """
    check_file(path, most, kind=kind)
    try:
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{one_line(path)}: cannot be read ({_why(error)})") from error


def read_text(path: Path, most: int = MOST, *, kind: type[UserError] = UserError) -> str:
    """Read a file of text.

    Raises:
        UserError: See :func:`check_file`; or it cannot be read, or is no UTF-8.
    """
    try:
        return read_bytes(path, most, kind=kind).decode()
    except UnicodeDecodeError as error:
        raise kind(
            f"{one_line(path)}: cannot be read: it is no text in UTF-8 ({one_line(error)})"
        ) from error


def read_json(path: Path, *, kind: type[UserError] = UserError) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        UserError: See :func:`read_text`; or it is not JSON, or no object.
    """
    value = parse_json(read_text(path, kind=kind), path, kind=kind)
    if not isinstance(value, dict):
        raise kind(f"{one_line(path)} does not hold a JSON object")
    return value


def parse_json(text: str | bytes, where: object, *, kind: type[UserError] = UserError) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        where: The file (and line) it stands in, for the error message.
        kind: Of the error.

    Raises:
        UserError: It is no JSON, or lists and objects stand too deep in one another.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind(f"{one_line(where)}: this is not valid JSON: {one_line(error)}") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            return value
    raise kind(f"{one_line(where)}: lists and objects more than {DEEPEST} deep in one another")


@contextlib.contextmanager
def foreign(where: object, library: str, *, kind: type[UserError] = UserError) -> Iterator[None]:
    """Turn what a library raises at what no writer of it ever wrote into a line.

    Args:
        where: The file, and what of it.
        library: Its name.
        kind: Of the error.

    Raises:
        UserError: Whatever was raised within.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Of any type: of libraries' own, MemoryError, RecursionError.
        raise kind(
            f"{one_line(where)}: cannot be read by {library}: it is damaged, cut short or "
            f"something else ({type(error).__name__}: {one_line(error)})"
        ) from error


def _within(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def _why(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)
