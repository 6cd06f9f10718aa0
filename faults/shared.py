"""What several cases need, made once by the first that asks for it; and what a folder holds."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from faults.processes import Command, nfrl

POINT = "pointmaze-medium-navigate-v0"
# Of a result and of a line of metrics: what differs between equal runs, made in a working tree.
_TIMES = {
    *("seconds", "train_seconds", "steps_per_second", "environment_steps_per_second"),
    *("sample_ms", "date", "commit"),
}


def shared(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first case to ask for it makes; the others wait for it."""
    root = Path(os.environ["FAULTS_SHARED"])
    folder, done = root / name, root / f"{name}.done"
    with _lock(root / f"{name}.lock"):
        if not done.exists():
            here = Path.cwd()
            shutil.rmtree(folder, ignore_errors=True)  # what failed for another case
            folder.mkdir()
            os.chdir(folder)
            make(folder)
            os.chdir(here)
            done.touch()
    return folder


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def point_data() -> Path:
    """Return a small data set of a point maze."""

    def make(folder: Path) -> None:
        words = ("--episodes", "4", "--steps", "100", "--workers", "1", "--path", "point.npz")
        nfrl("data", "make", POINT, *words).succeeded()

    return shared("data", make) / "point.npz"


def trained_run() -> Path:
    """Return a small run that is finished: ``runs/TASK/gcbc-laptop/seed-0``."""
    data = point_data()

    def make(folder: Path) -> None:
        nfrl(*training_words(data), "--runs", "runs").succeeded()

    return shared("trained", make) / "runs" / POINT / "gcbc-laptop" / "seed-0"


def training_words(data: Path, steps: int = 20, checkpoint: int = 10) -> list[str]:
    """Return the words that train a tiny agent on a point maze without evaluation."""
    return [
        *("train", "gcbc", POINT, "--dataset", str(data), "--episodes", "0"),
        *("--agent.hidden", "16", "--steps", str(steps), "--training.log-every", "10"),
        *("--training.checkpoint-every", str(checkpoint)),
        *("--training.batch-size", "16", "--training.validation-batches", "1"),
    ]


def simulator_words(environment: str) -> list[str]:
    """Write random data; return the words that train on them and evaluate in an environment."""
    generator = np.random.default_rng(0)
    np.savez(
        "line.npz",
        observations=generator.normal(size=(200, 3)),
        actions=generator.uniform(-1, 1, (200, 2)),
        timeouts=np.arange(200) % 20 == 19,
    )
    return [
        *("train", "gaussian-bc", "--data", "line.npz", "--env", environment),
        *("--steps", "5", "--training.batch-size", "8", "--training.validation-batches", "1"),
        *("--agent.hidden", "8", "--episodes", "2", "--workers", "1", "--runs", "runs"),
    ]


def evaluated_run() -> Path:
    """Return a small run that was evaluated, in a simulator that takes no time."""

    def make(folder: Path) -> None:
        nfrl(*simulator_words("faults.simulators:Line")).succeeded()

    (config,) = shared("evaluated", make).rglob("config.json")
    return config.parent


def contents(folder: Path) -> dict[str, str]:
    """Return each file of a folder by its path: a digest of what equal work makes equal.

    Times are left out, as are logs. What an archive or a file of JSON holds counts, not its bytes.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {str(path.relative_to(folder)): _digest(path) for path in files}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
    elif path.suffix == ".jsonl":
        content = b"\n".join(sorted(map(_digest_line, content.splitlines())))
    elif path.suffix == ".npz":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if Path(name).stem not in _TIMES]
            content = b"".join(name.encode() + archive.read(name) for name in names)
    return hashlib.sha256(content).hexdigest()[:16]


def _digest_line(line: bytes) -> bytes:
    try:
        return json.dumps(_without_times(json.loads(line))).encode()
    except ValueError:  # a line that a fault cut short
        return line


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_times(each) for name, each in value.items() if name not in _TIMES}
    if isinstance(value, list):
        return [_without_times(each) for each in value]
    return value


def assert_same(found: Path, expected: Path) -> None:
    """Assert that two folders hold the same, and no temporary file."""
    ones, others = contents(found), contents(expected)
    differ = {name for name in ones.keys() | others.keys() if ones.get(name) != others.get(name)}
    assert not differ, {name: (ones.get(name), others.get(name)) for name in differ}


def wait_until(told: Callable[[], object], command: Command, seconds: float = 60.0) -> None:
    """Wait for a sign of a command's progress, or for its end."""
    end = time.monotonic() + seconds
    while not told() and command.poll() is None:
        assert time.monotonic() < end, command.log.read_text(errors="replace")
