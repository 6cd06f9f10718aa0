"""Mazes simulated in JAX: layouts, the robots that move in them, and their names."""

from nfrl.mazes.layouts import LAYOUTS, Layout
from nfrl.mazes.maze import MAZES, Maze, Robot, find_maze

__all__ = ["LAYOUTS", "MAZES", "Layout", "Maze", "Robot", "find_maze"]
