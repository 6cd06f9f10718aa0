"""Writing files so that a kill, a crash or a full disk never leaves half of one; and alone."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

from nfrl.errors import UserError

# What the system says when there is no room: the disk, the quota, or the largest file allowed.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


Write = Callable[[BinaryIO], object]
"""Writes the contents to the open binary file it is given; what it returns is dropped."""


def write_atomically(path: Path | str, write: Write) -> None:
    """Write a file that appears complete, or not at all.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the
    name; what stood there before is untouched until that moment. The folder is made if missing.
    A temporary file of this name that a kill left behind is taken away.

    Args:
        path: The file to write.
        write: Writes it.

    Raises:
        UserError: The disk is full or fails, or the folder cannot be written to; nothing was
            overwritten.
    """
    write_together({Path(path): write})


def write_together(files: Mapping[Path, Write]) -> None:
    """Write several files, each as :func:`write_atomically` does, once the disk has them all.

    Args:
        files: By their paths, in the order in which they take their names.

    Raises:
        UserError: As for :func:`write_atomically`.
    """
    temporaries = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp") for path in files}
    done = False
    try:
        with contextlib.ExitStack() as opened:
            for path, write in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                file = opened.enter_context(_open_alone(temporaries[path]))
                write(file)
                file.flush()
                os.fsync(file.fileno())
            for path in files:
                os.replace(temporaries[path], path)
                done = True
        for path in files:
            _remove_abandoned(path)
    except OSError as error:
        kept = "" if done else "; nothing was overwritten"
        raise UserError(f"{not_written(path, error)}{kept}") from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are missing.

    Raises:
        UserError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(not_written(path, error)) from error


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
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = folder / ".lock"
    while True:
        make_folder(folder)
        try:
            file = open(lock, "a")  # noqa: SIM115
        except OSError as error:
            raise UserError(not_written(lock, error)) from error
        with file:
            if _lock(file) is False:
                raise UserError(busy)
            # Who held it before takes the file away: then this one is a file without a name.
            if not _is_at(file, lock):
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()
                    for each in missing:
                        each.rmdir()  # which fails, and ends this, where it is not empty
            return


@contextlib.contextmanager
def temporary_folder(prefix: str, where: str | None = None) -> Iterator[Path]:
    """Make a folder that is gone afterwards; such as kills left behind are taken away first.

    Args:
        prefix: What its name begins with, and that of no other use: ``nfrl-video-``.
        where: The folder to make it in; by default the system's for temporary files.

    Raises:
        UserError: It cannot be made.
    """
    for each in Path(where or tempfile.gettempdir()).glob(f"{prefix}*/.lock"):
        with contextlib.suppress(OSError), open(each, "r+b") as file:
            if _lock(file):
                shutil.rmtree(each.parent)
    made, lock = _make_alone(prefix, where)
    try:
        with lock:
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _make_alone(prefix: str, where: str | None) -> tuple[Path, BinaryIO]:
    """Make a folder with a locked file in it."""
    while True:
        made = None
        try:
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
            return made, _open_alone(made / ".lock")
        except OSError as error:
            # Another process may take it for abandoned and away, before its file is locked.
            if made is not None and isinstance(error, FileNotFoundError):
                continue
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
            place = error.filename or where or tempfile.gettempdir()
            raise UserError(not_written(place, error)) from error


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder, but for halves that a kill left behind."""
    return {each.name for each in folder.iterdir() if not _is_temporary(each.name)}


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _open_alone(path: Path) -> BinaryIO:
    """Make a file, and lock it before anyone takes it for abandoned."""
    while True:
        file = open(path, "xb")  # noqa: SIM115
        if _lock(file) is not False and _is_at(file, path):
            return file
        file.close()
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(file: IO[Any]) -> Iterator[None]:
    """Keep an open file for this process alone, once no other has it."""
    while _lock(file) is False:
        time.sleep(0.001)
    yield  # The lock ends with the open file.


def _lock(file: IO[Any]) -> bool | None:
    """Lock an open file; return False if another process has it, None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether an open file is the one of this path, which was not taken away since."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _remove_abandoned(path: Path) -> None:
    """Take away the temporary files of a file whose writers were killed: no one has their lock."""
    for each in os.scandir(path.parent):
        if _is_temporary(each.name) and each.name.startswith(f".{path.name}."):
            with contextlib.suppress(OSError), open(each.path, "r+b") as file:
                if _lock(file):
                    os.unlink(each.path)


def void(_: object) -> None:
    """Drop a value, so that a lambda can end in a call whose result is not wanted."""
