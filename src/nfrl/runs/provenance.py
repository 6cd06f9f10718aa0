"""What a record says of where it was made: versions, commit and device."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("nfrl", "jax", "equinox", "flowjax", "optax", "numpy", "ogbench", "mujoco", "gymnasium")


def provenance() -> dict[str, Any]:
    """Return the versions, commit and device of this program, as config.json keeps them."""
    return {"versions": _versions(), "commit": _commit(), "device": device()}


def provenance_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run was begun with, from its config.json; None where that does not say."""
    return {name: config.get(name) for name in ("versions", "commit", "device")}


def device() -> str:
    """Name the device that JAX computes on, and the processor."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu: {_processor()}, {os.cpu_count()} cores"
    return f"{first.platform}: {first.device_kind}; {_processor()}, {os.cpu_count()} cores"


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's outcome."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def _commit() -> str | None:
    """Return the commit of the checkout this package runs from, with + if it was changed."""
    here = Path(__file__).parent.parent
    try:
        git = ["git", "-C", str(here)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", str(here)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
