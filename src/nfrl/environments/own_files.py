"""Temporary files that go with the environment which made them: OGBench's mazes leave one each."""

import contextlib
import tempfile
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from nfrl.files import temporary_folder

Made = TypeVar("Made")


@contextlib.contextmanager
def files_removed() -> Iterator[None]:
    """Take away the temporary files that are made within."""
    with temporary_folder("nfrl-environment-") as place, _files_in(str(place)):
        yield


def with_own_files(make: Callable[[], Made]) -> Made:
    """Make an environment, and take its temporary files away when it is gone.

    Args:
        make: Makes it.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(temporary_folder("nfrl-environment-"))
        with _files_in(str(place)):
            made = make()
        close = stack.pop_all().close
    try:
        # Its wrappers may be taken off.
        weakref.finalize(getattr(made, "unwrapped", made), close)
    except TypeError:  # It is nothing that could go.
        close()
    return made


@contextlib.contextmanager
def _files_in(place: str) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, place
    try:
        yield
    finally:
        tempfile.tempdir = before
