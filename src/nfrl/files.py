"""Writing files so that a kill, a crash or a full disk never leaves half of one; and alone."""

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nfrl.errors import UserError

# What the system says when there is no room: the disk, the quota, or the largest file allowed.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(path: Path | str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears complete, or not at all.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the
    name; what stood there before is untouched until that moment. The folder is made if missing.

    Args:
        path: The file to write.
        write: Writes the contents to the open binary file it is given; what it returns is dropped.

    Raises:
        UserError: The disk is full or fails, or the folder cannot be written to; nothing was
            overwritten.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{not_written(path, error)}; nothing was overwritten") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def not_written(path: Path | str, error: OSError) -> str:
    """Return what is said where the system refuses to write a file: its name, and the cure."""
    if error.errno in _NO_ROOM:
        return f"the disk is full: could not write {path}; make room and give the command again"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"no permission to write {path}; change that, or name another place"
    return f"could not write {path}: {error.strerror}; see whether the disk is sound"


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented, keys in the order given.

    Args:
        path: The file to write.
        value: The object; plain Python values only.

    Raises:
        UserError: As for `write_atomically`.
    """
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write these bytes atomically.

    Raises:
        UserError: As for `write_atomically`.
    """
    write_atomically(path, lambda file: file.write(content))


@contextlib.contextmanager
def held(folder: Path, busy: str) -> Iterator[None]:
    """Keep a folder for this process alone, by a lock that the system releases however it ends.

    The folder is made if it is missing, and taken away again if nothing is in it afterwards.

    Args:
        folder: The folder.
        busy: What is said where another process has it.

    Raises:
        UserError: Another process has it; or it cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none; two processes at once are not noticed there.
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = folder / ".lock"
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(lock, "a")  # noqa: SIM115
        except OSError as error:
            raise UserError(not_written(lock, error)) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(busy) from None
            except OSError:
                pass  # Some network file systems have no locks either.
            # Who held it before takes the file away: then this one is a file without a name.
            if not (lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno()))):
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()
                    for each in missing:
                        each.rmdir()  # which fails, and ends this, where it is not empty
            return


def void(_: object) -> None:
    """Drop a value, so that a lambda can end in a call whose result is not wanted."""
