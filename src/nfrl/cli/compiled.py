"""Keep compiled programs, so that a command that was given before begins at once."""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

LIMIT = 2_000_000_000
"""Bytes that are kept; the oldest programs go first."""
_PREFIX = "nfrl-compiled-"
_SETTINGS = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def keep_compiled_programs() -> None:
    """Tell JAX, which must not be imported yet, where to keep what it compiles.

    What the user set stays: ``JAX_COMPILATION_CACHE_DIR`` names another folder, and
    ``JAX_ENABLE_COMPILATION_CACHE=false`` keeps nothing. What a command like this one set does not:
    a cluster hands it on to nodes, whose processors may be of another kind.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given and not Path(given).name.startswith(_PREFIX):
        return
    folder = cache_folder()
    with suppress(OSError):  # a home that cannot be written to: nothing is kept
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder, LIMIT)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)


def cache_folder() -> Path:
    """Return the folder of this kind of processor's programs.

    Machines that share a home need not share an instruction set.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    return root / "nfrl" / f"{_PREFIX}{kind}"


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        return "\n".join(sorted(set(told)))
    return f"{platform.machine()} {platform.processor()}"


def _prune(folder: Path, limit: int) -> None:
    """Remove the files that were written or read longest ago, beyond a number of bytes."""
    found = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process removed it
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
