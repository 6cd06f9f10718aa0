"""Mazes simulated in JAX: layouts, the robots that move in them, and their names."""

from nfrl.benchmarks.mazes.layouts import LAYOUTS, Layout
from nfrl.benchmarks.mazes.maze import MAZES, Maze, find_maze

__all__ = ["LAYOUTS", "MAZES", "Layout", "Maze", "find_maze"]
