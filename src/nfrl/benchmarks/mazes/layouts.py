"""The mazes' maps (JaxGCRL, Bortkiewicz et al., 2025), their start, and their goals.

Listing the tasks reads this, so that importing it imports no JAX.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from jaxtyping import Array

CELL = 4.0
"""Side of a cell, in units of length."""

Cell = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A map of square cells, where cell (row, column) has its centre at (CELL row, CELL column).

    So x runs down the map and y to its right, as in JaxGCRL.

    Attributes:
        name: "u-maze", ...
        rows: One string a row: "#" a wall, "R" the start, "." a free cell. The border is wall.
        far: The cells of the "hard" evaluation goals, (row, column).
    """

    name: str
    rows: tuple[str, ...]
    far: tuple[Cell, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.rows[0])

    @property
    def walls(self) -> Bool[np.ndarray, "rows columns"]:
        """Where the walls are."""
        return np.array([[cell == "#" for cell in row] for row in self.rows])

    @property
    def blocks(self) -> tuple[tuple[Cell, Cell], ...]:
        """The walls as few rectangles: the first and the last cell of each."""
        left = self.walls
        found = []
        for row, column in zip(*np.nonzero(left), strict=True):
            if not left[row, column]:
                continue
            bottom, right = int(row), int(column)
            while right + 1 < left.shape[1] and left[row, right + 1]:
                right += 1
            while bottom + 1 < left.shape[0] and left[bottom + 1, column : right + 1].all():
                bottom += 1
            left[row : bottom + 1, column : right + 1] = False
            found.append(((int(row), int(column)), (bottom, right)))
        return tuple(found)

    @property
    def start(self) -> Cell:
        """The cell that every episode begins in."""
        (cell,) = self._cells("R")
        return cell

    @property
    def goal_cells(self) -> tuple[Cell, ...]:
        """The evaluation goals' cells: every free one but the start. The oracle trains on them."""
        return self._cells(".")

    @property
    def goals(self) -> Float[np.ndarray, "goals 2"]:
        """The evaluation goals: the centres of their cells."""
        return self.centres(self.goal_cells)

    @property
    def is_far(self) -> Bool[np.ndarray, " goals"]:
        """Which of the evaluation goals are "hard"."""
        return np.array([cell in self.far for cell in self.goal_cells])

    def centres(self, cells: tuple[Cell, ...]) -> Float[np.ndarray, "cells 2"]:
        """Return the (x, y) of cells' centres."""
        return CELL * np.array(cells, np.float32).reshape(-1, 2)

    def cell_of(self, xy: Float[Array, "*batch 2"]) -> Int[Array, "*batch 2"]:
        """Return the (row, column) that a position lies in."""
        import jax.numpy as jnp

        return jnp.floor(xy / CELL + 0.5).astype(jnp.int32)

    def _cells(self, kind: str) -> tuple[Cell, ...]:
        return tuple(
            (i, j) for i, row in enumerate(self.rows) for j, cell in enumerate(row) if cell == kind
        )


U_MAZE = Layout(
    "u-maze",
    (
        "#####",
        "#R..#",
        "###.#",
        "#...#",
        "#####",
    ),
    far=((3, 1),),
)
BIG_MAZE = Layout(
    "big-maze",
    (
        "########",
        "#R.##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#..#",
        "########",
    ),
    far=((1, 5), (1, 6), (2, 6), (6, 3), (6, 5), (6, 6)),
)
HARDEST_MAZE = Layout(
    "hardest-maze",
    (
        "############",
        "#R...#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#...#",
        "############",
    ),
    far=((3, 8), (5, 4), (7, 10)),
)
LAYOUTS = {layout.name: layout for layout in (U_MAZE, BIG_MAZE, HARDEST_MAZE)}

ROBOTS = ("point", "ant")
MAZES = {f"{robot}-{name}": (robot, layout) for robot in ROBOTS for name, layout in LAYOUTS.items()}
"""Which robot each maze has, and which layout: "point-u-maze", ..., "ant-hardest-maze"."""
