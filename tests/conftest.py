"""What tests share: compiled programs, and tiny data."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# Before anything imports JAX: what one test compiled, no other need compile again, and what runs
# briefly is not worth optimising (for what does not there is ``optimised``). The workers of
# pytest-xdist inherit both, as do the commands and kernels that tests start.
COMPILATION_CACHE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# XLA's older emitters compile in half the time.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
# A processor counts as several devices: what is given none works on the first, as ever.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILATION_CACHE["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="nfrl-tests-jax-")
os.environ.update(COMPILATION_CACHE)


def pytest_unconfigure(config):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(COMPILATION_CACHE["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@contextlib.contextmanager
def optimising() -> Iterator[None]:
    """Optimise programs, as a user's are: for what computes for long."""
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def optimised(monkeypatch):
    """Optimise programs of a whole test, and of the commands and kernels that it starts."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    with optimising():
        yield


def write_data(path: Path, seed: int = 0, rows: int = 200, **changes: np.ndarray | None) -> Path:
    """Write random trajectories of a point maze's sizes, in OGBench's format, and held-out ones.

    ``changes`` replace arrays of the training file; None takes one away.
    """
    for offset, file in enumerate((path, path.with_name(f"{path.stem}-val.npz"))):
        generator = np.random.default_rng(2 * seed + offset)
        observations = generator.uniform(0, 20, size=(rows, 2)).astype(np.float32)
        arrays: dict[str, np.ndarray | None] = {
            "observations": observations,
            "actions": generator.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
            "terminals": np.arange(rows) % 50 == 49,
            "qpos": observations,
            "qvel": np.zeros_like(observations),
        }
        if offset == 0:
            arrays |= changes
        np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.fixture(scope="session")
def point_file(tmp_path_factory) -> Path:
    """A tiny training file of a point maze; its validation file stands beside it."""
    return write_data(tmp_path_factory.mktemp("data") / "point.npz")
