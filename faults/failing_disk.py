"""A disk that fails: the n-th thing that a process does to files of a folder goes wrong."""

import builtins
import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}
TORN = "torn"
"""Not an error: half of the bytes are written, and the process dies."""


class FailingDisk:
    """Stands between this process and a folder's files.

    Args:
        folder: What lies elsewhere is written as ever.
        ledger: A file, elsewhere, that lists what was done: a line of operation and name each.
        at: The kind of operation that fails, the first time it is met; "" for none.
        how: How it fails: a name of ``ERRORS``, or ``TORN``.
    """

    def __init__(self, folder: Path, ledger: Path, at: str = "", how: str = ""):
        self._folder, self._at, self._how = str(folder), at, how
        self._open = io.open
        self._ledger = self._open(ledger, "w")

    def install(self) -> None:
        """Take the place of what Python's own library, and all that uses it, writes with."""
        builtins.open = io.open = self._opened  # type: ignore[assignment]
        for name in ("replace", "rename", "mkdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        os.fsync = self._synced

    def meets(self, operation: str, path: Any, torn: Callable[[], object] = lambda: None) -> None:
        """Note an operation, and fail if it is its turn."""
        if not isinstance(path, str | os.PathLike):
            return  # a pipe's number
        name = os.path.abspath(os.fsdecode(path))
        if not name.startswith(self._folder):
            return
        line = f"{operation} {os.path.relpath(name, self._folder)}"
        self._ledger.write(f"{line}\n")
        self._ledger.flush()
        if kind_of(line) != self._at:
            return
        self._at = ""
        if self._how == TORN:
            torn()
            os._exit(137)
        raise OSError(ERRORS[self._how], os.strerror(ERRORS[self._how]), name)

    def _opened(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        writes = set(mode) & set("wax+")
        if writes:
            self.meets("open", file)
        opened = self._open(file, mode, *args, **kwargs)
        return _File(opened, self, file) if writes else opened

    def _watched(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def operation(path: Any, *args: Any, **kwargs: Any) -> Any:
            if name != "mkdir" or not os.path.isdir(path):
                self.meets(name, args[0] if name != "mkdir" else path)
            return plain(path, *args, **kwargs)

        return operation

    def _synced(self, file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        self.meets("fsync", os.readlink(f"/proc/self/fd/{number}"))


class _File:
    """An open file whose writes may fail."""

    def __init__(self, file: Any, disk: FailingDisk, path: Any):
        self._file, self._disk, self._path = file, disk, path

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._disk.meets("write", self._path, half)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)


def kind_of(line: str) -> str:
    """Return an operation and the kind of file it was done to: its name without what is random.

    All pictures of a folder are of one kind.
    """
    operation, _, name = line.partition(" ")
    name = re.sub(r"\.[0-9a-f]{32}\.tmp$", "", name)
    name = re.sub(r"(?<=-)[a-z0-9_]{8}(?=/|$)", "#", name)  # of a temporary folder
    name = re.sub(r"[^/]*\.png$", "#.png", name)
    return f"{operation} {re.sub(r'[0-9]+', '#', name)}"
