"""What a format of exports is: an object that a package announces as ``nfrl.exporters``."""

from pathlib import Path
from typing import Protocol

from nfrl.exporting.functions import Function


class Exporter(Protocol):
    """A way of writing a policy's functions."""

    @property
    def describes(self) -> str:
        """What it writes and what runs it, in a sentence for README.md."""

    def write(self, functions: dict[str, Function], folder: Path) -> None:
        """Write functions into a folder that exists.

        Raises:
            UserError: One of them has something that the format has not.
        """
        ...
