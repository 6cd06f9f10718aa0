"""A worker process: plays its share of a pool's slots when the parent says so.

Run as ``python -m nfrl.environments.worker CONFIG`` by ``pool.Pool``, which is the only caller. One
byte on standard input asks for a round, one byte on standard output says that it is done; all
arrays lie in files that both have mapped. When the parent goes away, by whatever death, standard
input ends and the worker with it.
"""

import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nfrl import registry
from nfrl.errors import UserError
from nfrl.reading import one_line

IDLE, STEP, RESET = 0, 1, 2
"""Commands: a slot that is idle is not played; what the others mean, the slots say."""

READY, FAILED, REFUSED = b"+", b"!", b"?"
"""Answers: done; failed, and here are the error in a line and the traceback; a user's error, and
here is its line."""

Layout = Mapping[str, tuple[Sequence[int], str]]
"""The arrays that slots share with the parent: by name, the shape for one slot and the type."""

Arrays = Mapping[str, NDArray]
"""The arrays of a layout by name: one slot's, without an axis for slots, or everyone's, with."""


class Slot(Protocol):
    """What a pool plays: one place of many that are played together.

    Attributes:
        layout: The arrays that it shares; the same for all slots of a pool. ``commands`` is there
            besides.
        facts: What the parent is told once; the same for all, and JSON can say it.
    """

    layout: Layout
    facts: Mapping[str, Any]

    def play(self, command: int, arrays: Arrays) -> None:
        """Do what a command that is not ``IDLE`` says, in place of its own arrays."""
        ...


@dataclasses.dataclass(frozen=True)
class Config:
    """What a worker is told at its start.

    Attributes:
        maker: ``package.module:function``. Called with the numbers of this worker's slots and with
            ``arguments``, it returns the slots.
        arguments: JSON can say them.
        slots: The number of slots of all workers.
        first: This worker has the slots first, first + workers, first + 2 workers, ...
        workers: The number of workers.
        directory: Where the shared arrays lie, and temporary files may.
    """

    maker: str
    arguments: Mapping[str, Any]
    slots: int
    first: int
    workers: int
    directory: str


def make(maker: str, indices: Sequence[int], arguments: Mapping[str, Any]) -> list[Slot]:
    """Call a maker of slots."""
    return registry.load_reference(maker)(indices, **arguments)


def make_arrays(
    layout: Layout, slots: int, directory: str | None = None, *, create: bool = False
) -> dict[str, NDArray]:
    """Return everyone's arrays, and ``commands``.

    In a directory they are mapped files rather than ``multiprocessing.shared_memory``: these need
    no registration, no order of closing, and vanish with their directory.

    Args:
        layout: For each slot.
        slots: How many.
        directory: Where to share them; None for arrays that are not shared.
        create: Whether to make the files (the parent, once).
    """
    mode: Literal["w+", "r+"] = "w+" if create else "r+"

    def array(name: str, shape: Sequence[int], dtype: str) -> NDArray:
        whole = (slots, *shape)
        if directory is None or 0 in whole:  # there is no such thing as an empty map
            return np.zeros(whole, dtype)
        file = Path(directory, name)
        return np.memmap(file, dtype=dtype, mode=mode, shape=whole).view(np.ndarray)

    everything = {"commands": ((), "uint8"), **layout}
    return {name: array(name, *each) for name, each in everything.items()}


def rows(arrays: Arrays, index: int) -> dict[str, NDArray]:
    """Return one slot's arrays, as views."""
    return {name: array[index, ...] for name, array in arrays.items()}


def main() -> None:
    """Serve rounds until standard input ends; report a failure on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    commands, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what a library prints must not be read as a reply
    config = Config(**json.loads(sys.argv[1]))
    tempfile.tempdir = config.directory  # OGBench's mazes leave a file behind for each environment
    try:
        _serve(config, commands, replies)
    except BrokenPipeError:
        pass  # the parent was killed while this one was at work
    except UserError as error:
        os.write(replies, REFUSED + str(error).encode())
        sys.exit(1)
    except Exception as error:
        said = one_line("".join(traceback.format_exception_only(error)))
        os.write(replies, FAILED + f"{said}\n{traceback.format_exc()}".encode())
        sys.exit(1)
    shutil.rmtree(config.directory, ignore_errors=True)  # in case that the parent was killed


def _serve(config: Config, commands: int, replies: int) -> None:
    mine = range(config.first, config.slots, config.workers)
    slots = make(config.maker, mine, config.arguments)
    told = {"layout": slots[0].layout, "facts": slots[0].facts}
    os.write(replies, READY + json.dumps(told).encode() + b"\n")

    if not os.read(commands, 1):  # the parent has made the arrays
        return
    arrays = make_arrays(slots[0].layout, config.slots, config.directory)
    places = [(slot, rows(arrays, index)) for index, slot in zip(mine, slots, strict=True)]
    os.write(replies, READY)
    while os.read(commands, 1):
        play(places)
        os.write(replies, READY)


def play(places: Sequence[tuple[Slot, Arrays]]) -> None:
    """Play one round of some slots, each with its own arrays."""
    for slot, own in places:
        command = int(own["commands"])
        if command != IDLE:
            slot.play(command, own)


if __name__ == "__main__":
    main()
