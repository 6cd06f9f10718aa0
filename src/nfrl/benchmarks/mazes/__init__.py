"""Mazes simulated in JAX: layouts, the robots that move in them, and their names.

What is named here is imported when it is asked for, so that listing the tasks imports no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfrl.benchmarks.mazes.layouts import LAYOUTS, MAZES, Layout
    from nfrl.benchmarks.mazes.maze import Maze, find_maze

__all__ = ["LAYOUTS", "MAZES", "Layout", "Maze", "find_maze"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "maze" if name in ("Maze", "find_maze") else "layouts"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
