"""Batches of streamed data, drawn on the host while the device trains on those before.

A batch depends on the seed and the step alone. So it does not matter in what blocks they are drawn,
nor where a run was interrupted.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

BLOCK_BYTES = 64_000_000
"""Of the batches that are drawn at once. So many are trained on, and so many wait."""


def on_host(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Compile what draws batches; it runs on the host's processor, whatever device there is."""
    compiled, cpu = jax.jit(draw), jax.local_devices(backend="cpu")[0]

    def drawn(*arguments: Array) -> Any:
        with jax.default_device(cpu):
            return compiled(*(jax.device_put(each, cpu) for each in arguments))

    return drawn


class Prefetch:
    """The batches of a run, block by block.

    Args:
        draw: The batch of (a seed's key, a step): a pure function.
        keys: Of the seeds.
        steps: Steps of the run.
        span: No block reaches over a multiple of so many steps.
        place: Puts a block where it is trained on.
    """

    def __init__(
        self,
        draw: Callable[[Array, Array], Any],
        keys: Array,
        steps: int,
        span: int,
        place: Callable[[Any], Any] = lambda block: block,
    ):
        self._steps, self._span, self._place = steps, span, place
        self._keys = keys
        one = jax.eval_shape(draw, keys[0], jnp.asarray(0))
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
        self.block = max(1, min(span, BLOCK_BYTES // max(len(keys) * size, 1)))
        self._draw = on_host(jax.vmap(jax.vmap(draw, in_axes=(None, 0)), in_axes=(0, None)))
        # A thread of this pool does not outlive the interpreter, and one block waits at a time.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nfrl-prefetch")
        self._coming: tuple[int, int, Future[Any]] | None = None

    def blocks(self, begin: int, end: int) -> Iterator[tuple[int, Any]]:
        """Yield the blocks of steps: (first step, batches (seeds, steps, ...))."""
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
        return begin, end, self._worker.submit(self._drawn, begin, end)

    def _drawn(self, begin: int, end: int) -> Any:
        block = self._draw(self._keys, jnp.arange(begin, end))
        return jax.block_until_ready(self._place(block))
