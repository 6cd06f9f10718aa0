"""Trained policies that come with packages, this one among them: ``nfrl.load_policy("zoo:NAME")``.

A package announces, as ``nfrl.zoo``, one of its own packages, which holds a folder for each task:
what :meth:`nfrl.acting.policy.Policy.save` wrote, and record.json, what was measured of it.
"""

from pathlib import Path
from typing import Any

from nfrl import registry
from nfrl.acting.saving import is_policy
from nfrl.errors import UserError, unknown_name

RECORD = "record.json"
"""What was measured of a policy: a record, as results.json of a run."""


def names() -> list[str]:
    """Return the tasks that there is a policy for."""
    return sorted(_folders())


def find(name: str) -> Path:
    """Return the folder of a task's policy.

    Raises:
        UserError: There is none; the message gives the nearest.
    """
    folders = _folders()
    if name not in folders:
        raise unknown_name("policy of the zoo", name, folders)
    return folders[name]


def _folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for announced, package in registry.entries("zoo"):
        holder: Any = package
        for place in holder.__path__:
            for folder in sorted(filter(is_policy, Path(place).iterdir())):
                if folder.name in found:
                    raise UserError(f"nfrl.zoo: {announced} announces {folder.name} a second time")
                found[folder.name] = folder
    return found
