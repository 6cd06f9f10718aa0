"""OGBench's data sets from its server."""

import contextlib
import errno
import http.client
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from nfrl.data.formats import ogbench
from nfrl.errors import UserError

TIMEOUT = 30.0  # seconds without a byte


def download(name: str, path: Path) -> None:
    """Fetch a data set's two files from OGBench's server.

    Args:
        name: ``cube-single-play-v0``.
        path: Where the training file goes; the validation file goes beside it.

    Raises:
        UserError: The server does not answer, does not have it, or sent something else.
    """
    # Imported here: it imports every simulator of OGBench, and few runs download.
    from ogbench.utils import download_datasets

    files = (path, ogbench.validation_path(path))
    present = {file for file in files if file.exists()}
    instead = f"make it here instead: nfrl data make {name}"
    try:
        with _timeout(TIMEOUT):
            download_datasets([name], str(path.parent))
    except urllib.error.HTTPError as error:
        raise UserError(
            f"OGBench's server refused {error.url} (HTTP {error.code}); {instead}"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"the disk is full: could not download to {path.parent}") from error
        reason = getattr(error, "reason", error)
        raise UserError(f"OGBench's server did not answer ({reason}); {instead}") from error
    except http.client.HTTPException as error:
        raise UserError(f"OGBench's server broke off ({error!r}); {instead}") from error
    finally:
        for file in files:
            Path(f"{file}.tmp").unlink(missing_ok=True)
    for file in files:
        try:
            # A connection that breaks off is not noticed by the download itself.
            ogbench.load(file)
        except ogbench.DataError as error:
            if file in present:
                raise
            file.unlink()
            raise UserError(f"what the server sent is no good: {error}; {instead}") from error


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Give every socket opened here a timeout, since OGBench's downloader sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
