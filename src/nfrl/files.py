"""Writing files so that a kill, a crash or a full disk never leaves half of one."""

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Callable, Mapping
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
        UserError: The disk is full, or the folder cannot be written; nothing was overwritten.
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
        if error.errno in _NO_ROOM:
            raise UserError(
                f"the disk is full: could not write {path}; nothing was overwritten"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UserError(f"no permission to write {path}; nothing was overwritten") from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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


def void(_: object) -> None:
    """Drop a value, so that a lambda can end in a call whose result is not wanted."""
