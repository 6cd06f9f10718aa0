"""Data that stay in the host's memory or on its disk, and whose batches are fetched from there.

The rows are those of the same data on the device, in the same order. So a sampler draws the same
batches from both, to the bit.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from numpy.typing import NDArray

from nfrl.data.dataset import Dataset, PackedRows
from nfrl.spec import Spec


class HostRows(eqx.Module):
    """Rows of an array of the host; ``rows[indices]`` fetches some.

    In a compiled function nothing can be fetched: there the indices are noted (:func:`asking`), or
    what they stand for is there already (:func:`answering`).
    """

    fetch: Callable[[Any], NDArray] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Int[Array, " *batch"]) -> Array:
        if _scope.asked is not None:
            _scope.asked.append((self, jnp.asarray(rows)))
            return jnp.zeros((*jnp.shape(rows), *self.shape[1:]), self.dtype)
        if _scope.answers is not None:
            return next(_scope.answers)
        return jnp.asarray(self.fetch(rows))


class _Scope(threading.local):
    """What becomes of the rows that are wanted: one of them, in the thread that traces."""

    asked: list[tuple[HostRows, Array]] | None = None
    answers: Iterator[Array] | None = None


_scope = _Scope()


@contextlib.contextmanager
def asking() -> Iterator[list[tuple[HostRows, Array]]]:
    """Note which rows are wanted of which array, in order; zeros are given for them.

    So what is drawn must not say what is drawn next: no sampler's is.
    """
    found: list[tuple[HostRows, Array]] = []
    _scope.asked = found
    try:
        yield found
    finally:
        _scope.asked = None


@contextlib.contextmanager
def answering(rows: Sequence[Array] | None) -> Iterator[None]:
    """Give what was fetched, in the same order; None where data are on the device."""
    _scope.answers = None if rows is None else iter(rows)
    try:
        yield
    finally:
        _scope.answers = None


class RowIndex(eqx.Module):
    """A column of a data set that its trajectories' ends tell, so that it takes no memory.

    Attributes:
        finals: The last row of each trajectory.
        kind: ``first`` and ``last``: those of a row's trajectory. ``transitions``: the row of a
            transition.
    """

    finals: Int[Array, " trajectories"]
    kind: Literal["first", "last", "transitions"] = eqx.field(static=True)
    count: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int]:
        """How many entries there are."""
        return (self.count,)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Int[Array, " *batch"]) -> Int[Array, " *batch"]:
        index = jnp.asarray(index, self.finals.dtype)
        if self.kind == "transitions":
            # Of each trajectory one row is no transition: before trajectory j there are j of them.
            after = self.finals - jnp.arange(len(self.finals), dtype=self.finals.dtype)
            return index + jnp.searchsorted(after, index, side="right").astype(index.dtype)
        trajectory = jnp.searchsorted(self.finals, index)
        if self.kind == "last":
            return self.finals[trajectory]
        before = self.finals[jnp.maximum(trajectory - 1, 0)] + 1
        return jnp.where(trajectory > 0, before, 0)


class StreamedDataset(Dataset):
    """A data set on the host. It takes no memory of the device but a number a trajectory."""

    _excerpt: Callable[[], Dataset] = eqx.field(static=True, kw_only=True)

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, NDArray],
        ends: NDArray[np.int64],
        final_rows: Mapping[str, NDArray],
        excerpt: Callable[[], Dataset],
        packed: Spec | None = None,
    ) -> "StreamedDataset":
        """Return arrays of transitions as a data set, without a copy of their rows.

        Args:
            arrays: ``observations``, ``actions``, and ``rewards`` and ``masks`` if there are any.
            ends: (trajectories,), for each the row after its last.
            final_rows: (trajectories, ...), what stands in each trajectory's final row, by name; by
                default what stands before it.
            excerpt: Gives what an agent is built with.
            packed: What packed rows are of; None for rows of numbers.
        """
        finals = ends + np.arange(len(ends))
        on_device = jnp.asarray(finals, jnp.int32)
        count = len(arrays["observations"])
        columns: dict[str, Any] = {
            name: _column(array, finals, final_rows.get(name)) for name, array in arrays.items()
        }
        if packed is not None:
            layout = tuple(packed.observation.values())
            columns["observations"] = PackedRows(columns["observations"], layout)
        index: dict[str, Any] = {
            "first": RowIndex(on_device, "first", count + len(ends)),
            "last": RowIndex(on_device, "last", count + len(ends)),
            "transitions": RowIndex(on_device, "transitions", count),
        }
        return cls(**columns, **index, _excerpt=excerpt)

    def excerpt(self) -> Dataset:
        """Return some whole trajectories of these data, on the device."""
        return self._excerpt()


def _column(array: NDArray, finals: NDArray, last: NDArray | None) -> HostRows:
    """Return an array of transitions with a row for each trajectory's end.

    Args:
        array: (rows, ...).
        finals: (trajectories,), the places of the ends.
        last: (trajectories, ...), what stands there; None for what stands before it.
    """

    def fetch(rows: Any) -> NDArray:
        rows = np.asarray(rows)
        trajectory = np.searchsorted(finals, rows)
        is_final = finals[trajectory] == rows
        found = array[rows - trajectory - is_final]
        if last is not None and is_final.any():
            found[is_final] = last[trajectory[is_final]]
        return found

    shape = (len(array) + len(finals), *array.shape[1:])
    return HostRows(fetch, shape, jnp.dtype(array.dtype))
