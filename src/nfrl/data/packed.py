"""Rows of observations with images, packed: bytes that stay bytes until a batch is drawn.

A row is the arrays of an observation side by side: an image as its bytes, a vector as the bytes of
its float32 numbers (little-endian). So a set of images takes no more memory than the images do, and
is one plain array that can be cut, joined, hashed and mapped into memory.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nfrl.spec import ArraySpec, Spec


def pack(parts: Sequence[NDArray]) -> NDArray[np.uint8]:
    """Pack the arrays of observations.

    Args:
        parts: (rows, ...) each: uint8 for an image, else numbers.

    Returns:
        (rows, bytes).
    """
    columns = []
    for part in parts:
        array = part if part.dtype == np.uint8 else part.astype("<f4")
        columns.append(np.ascontiguousarray(array.reshape(len(part), -1)).view(np.uint8))
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def unpack(rows: NDArray[np.uint8], spec: Spec) -> dict[str, NDArray]:
    """Return the arrays of packed rows by name: (rows, ...), images as bytes."""
    spans = spans_of(spec.observation.values())
    found = {}
    for name, (array, span) in zip(spec.observation, spans, strict=True):
        part = rows[:, span]
        if not array.is_image:
            part = np.ascontiguousarray(part).view("<f4")
        found[name] = part.reshape(len(rows), *array.shape)
    return found


def packed_width(spec: Spec) -> int:
    """Return how many bytes a packed row of an observation takes."""
    return sum(array.bytes for array in spec.observation.values())


def spans_of(arrays: Iterable[ArraySpec]) -> Iterator[tuple[ArraySpec, slice]]:
    """Return the columns of a packed row that each of an observation's arrays takes."""
    begin = 0
    for array in arrays:
        yield array, slice(begin, begin + array.bytes)
        begin += array.bytes
