"""What a record says of where it was made: versions, commit and device."""

import contextlib
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
    """Return what a run was begun with, from its config.json; nothing where that does not say."""
    return {
        "versions": config.get("versions") or {},
        "commit": config.get("commit"),
        "device": config.get("device"),
    }


def device() -> str:
    """Name the device that JAX computes on, and the processor."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu: {_processor()}, {os.cpu_count()} cores"
    return f"{first.platform}: {first.device_kind}; {_processor()}, {os.cpu_count()} cores"


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's outcome.

    A small install lacks some of them, the simulators above all.
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


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
