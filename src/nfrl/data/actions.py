"""What the actions of a data set are: their bounds, and columns that take few values."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nfrl.data.errors import DataError
from nfrl.spec import ActionSpec

TOLERANCE = 1e-5
"""By how much an action may pass its bounds through rounding, in units of half their distance."""
MOST_VALUES = 4
"""A column with more distinct values than these is a continuum."""
SMALL = 0.1
"""A column of numbers in [-1, 1] that are all smaller than this has bounds of its own: else the
noise of training, a tenth of what lies between the bounds, would hide them."""
SEEN_AT_LEAST = 10
"""How often each of few values must occur: fewer may be a continuum's chance."""

BLOCK = 1_000_000
"""Rows that are looked at together: actions may be mapped from a file larger than the memory."""

Bounds = tuple[Sequence[float] | NDArray, Sequence[float] | NDArray]
"""The least and the largest value of each column."""


def action_spec(
    *actions: NDArray, bounds: Bounds | None = None, where: object = "actions"
) -> ActionSpec:
    """Return the bounds of actions, and the values of columns that take few.

    Actions that all lie in [-1, 1] have these bounds, whatever their extremes. Others, and columns
    of small numbers only (``SMALL``), have the least and the largest value of each column. An
    environment's bounds stand above both.

    Args:
        actions: (rows, a) each: those of a whole data set, of training and validation.
        bounds: An environment's bounds. Where one is infinite the data's are taken.
        where: The data's name, for messages.

    Raises:
        DataError: There are no rows, or an action lies outside the bounds.
    """
    parts = [part for each in actions if len(part := np.asarray(each))]
    if not parts:
        raise DataError(f"{where}: there are no actions")
    least = np.min([part.min(axis=0) for part in parts], axis=0)
    largest = np.max([part.max(axis=0) for part in parts], axis=0)
    if (np.abs([least, largest]) <= 1 + TOLERANCE).all():
        small = (np.abs([least, largest]) < SMALL).all(axis=0) & (least < largest)
        low, high = np.where(small, least, -1.0), np.where(small, largest, 1.0)
    else:
        low, high = least, largest
    if bounds is not None:
        lower, upper = (np.asarray(bound, np.float64).reshape(-1) for bound in bounds)
        if not len(lower) == len(upper) == len(least):
            raise DataError(
                f"{where}: actions of {len(least)} numbers, but the environment's have {len(lower)}"
            )
        _check_bounds(parts, lower, upper, where)
        low = np.where(np.isfinite(lower), lower, low)
        high = np.where(np.isfinite(upper), upper, high)
    return ActionSpec(
        tuple(map(float, low)),
        tuple(map(float, high)),
        tuple(_few([part[:, column] for part in parts]) for column in range(len(least))),
    )


def _check_bounds(parts: Sequence[NDArray], low: NDArray, high: NDArray, where: object) -> None:
    span = np.where(np.isfinite(high - low), high - low, 2.0)
    before, worst = 0, (TOLERANCE, 0, 0, 0.0)
    for block in _blocks(parts):
        beyond = np.maximum(low - block, block - high) / np.maximum(span / 2, TOLERANCE)
        row, column = (int(index) for index in np.unravel_index(np.argmax(beyond), beyond.shape))
        if beyond[row, column] > worst[0]:
            worst = (beyond[row, column], before + row, column, block[row, column])
        before += len(block)
    excess, row, column, value = worst
    if excess > TOLERANCE:
        raise DataError(
            f"{where}: the action in row {row}, column {column} is {value:g}, outside the "
            f"environment's bounds [{low[column]:g}, {high[column]:g}]; scale or clip the data's "
            "actions to what the environment takes"
        )


def _few(column: Sequence[NDArray]) -> tuple[float, ...] | None:
    """Return a column's values in ascending order if they are few; None for a continuum."""
    counts: dict[float, int] = {}
    # Most columns are continua, which their first rows tell.
    if len(np.unique(column[0][:1000])) > MOST_VALUES:
        return None
    for block in _blocks(column):
        for value, count in zip(*np.unique(block, return_counts=True), strict=True):
            counts[float(value)] = counts.get(float(value), 0) + int(count)
        if len(counts) > MOST_VALUES:
            return None
    if len(counts) == 1 or min(counts.values()) >= SEEN_AT_LEAST:
        return tuple(sorted(counts))
    return None


def _blocks(parts: Sequence[NDArray]) -> Iterator[NDArray]:
    for part in parts:
        for begin in range(0, len(part), BLOCK):
            yield part[begin : begin + BLOCK]
