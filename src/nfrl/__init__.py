"""Normalizing flows for reinforcement learning.

One conditional normalizing flow, with exact likelihoods, one-pass sampling and gradients end to
end, serves as policy, Q-function and occupancy measure (Ghugare and Eysenbach, 2025).

Importing this package imports nothing heavy: take what you need from its rooms,
``nfrl.flows``, ``nfrl.agents``, ``nfrl.data``, ``nfrl.training``, ``nfrl.evaluation``.
"""

from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "nfrl.data.load",
    "fit": "nfrl.api",
    "evaluate": "nfrl.api",
    "load_policy": "nfrl.experiment.load",
    "ActionHead": "nfrl.acting.action_head",
}
"""What stands in the package itself, and the module that is imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nfrl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
