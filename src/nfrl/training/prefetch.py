"""Rows of streamed data, fetched on the host while the device trains on those before.

A batch depends on the seed and the step alone. So it does not matter in what blocks they are
fetched, nor where a run was interrupted.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array

from nfrl.data.streamed import HostRows, asking

BLOCK_BYTES = 64_000_000
"""Of the rows that are fetched at once. So many are trained on, and so many wait."""


class Fetch:
    """Fetches the rows of many batches at once.

    Args:
        draw: Draws the batch of (a seed's key, a step): a pure function, of streamed data.
    """

    def __init__(self, draw: Callable[[Array, Array], Any]):
        self._arrays: list[HostRows] = []
        self._cpu = jax.local_devices(backend="cpu")[0]

        def wanted(key: Array, step: Array) -> tuple[Array, ...]:
            with asking() as asked:
                draw(key, step)
            self._arrays = [array for array, _ in asked]
            return tuple(rows for _, rows in asked)

        over_steps = jax.vmap(wanted, in_axes=(None, 0))
        self._rows = jax.jit(jax.vmap(over_steps, in_axes=(0, None)))
        self._one = wanted

    def __call__(self, keys: Array, steps: Array) -> tuple[np.ndarray, ...]:
        """Return what each batch asks for, in order: (seeds, steps, ...) each."""
        # Whatever device there is: the rows lie here.
        with jax.default_device(self._cpu):
            rows = self._rows(*(jax.device_put(each, self._cpu) for each in (keys, steps)))
        return tuple(array.fetch(each) for array, each in zip(self._arrays, rows, strict=True))

    def bytes_of(self, key: Array) -> int:
        """Return how many bytes a batch asks for."""
        rows = jax.eval_shape(self._one, key, jnp.asarray(0))
        sizes = [
            each.size * int(np.prod(array.shape[1:])) * array.dtype.itemsize
            for array, each in zip(self._arrays, rows, strict=True)
        ]
        return sum(sizes)


class Prefetch:
    """The rows of a run's batches, block by block.

    Args:
        draw: As :class:`Fetch` takes it.
        keys: Of the seeds.
        steps: Steps of the run.
        span: No block reaches over a multiple of so many steps.
        place: Where a block is trained on; None for the only device.
    """

    def __init__(
        self,
        draw: Callable[[Array, Array], Any],
        keys: Array,
        steps: int,
        span: int,
        place: Sharding | None = None,
    ):
        self._fetch, self._keys = Fetch(draw), keys
        self._steps, self._span, self._place = steps, span, place
        size = len(keys) * self._fetch.bytes_of(keys[0])
        self.block = max(1, min(span, BLOCK_BYTES // max(size, 1)))
        # A thread of this pool does not outlive the interpreter, and one block waits at a time.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nfrl-prefetch")
        self._coming: tuple[int, int, Future[Any]] | None = None

    def blocks(self, begin: int, end: int) -> Iterator[tuple[int, Any]]:
        """Yield the blocks of steps: (first step, what their batches ask for)."""
        while begin < end:
            until = min(self._end(begin), end)
            yield begin, self._take(begin, until)
            begin = until

    def _end(self, begin: int) -> int:
        """Return where the block that begins at a step ends."""
        return min(begin + self.block, (begin // self._span + 1) * self._span, self._steps)

    def _take(self, begin: int, end: int) -> Any:
        coming, self._coming = self._coming, None
        if coming is None or coming[:2] != (begin, end):
            coming = self._begin(begin, end)
        block = coming[2].result()
        if end < self._steps:
            self._coming = self._begin(end, self._end(end))
        return block

    def _begin(self, begin: int, end: int) -> tuple[int, int, Future[Any]]:
        return begin, end, self._worker.submit(self._fetched, begin, end)

    def _fetched(self, begin: int, end: int) -> Any:
        block = self._fetch(self._keys, jnp.arange(begin, end))
        return jax.block_until_ready(jax.device_put(block, self._place))
