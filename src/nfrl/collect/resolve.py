"""Where a data set comes from: a file that is there, a download if asked for, or made here."""

import contextlib
import errno
import http.client
import socket
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from nfrl.collect.catalog import RECIPES, recipe
from nfrl.collect.expert_policy import find_expert
from nfrl.collect.make import make_dataset
from nfrl.data.formats import ogbench
from nfrl.errors import UserError

DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte


def find_or_make(
    name: str,
    *,
    path: Path | str | None = None,
    episodes: int | None = None,
    seed: int = 0,
    download: bool = False,
    workers: int | None = None,
) -> Path:
    """Find a data set's training file, or make it.

    In this order: the path given; the file of the asked size and seed in the folder of data sets;
    the full data set there, if seed 0 is asked for; OGBench's server, if a download is asked for;
    and else it is made here, which is said before it begins.

    Args:
        name: ``cube-single-play-v0``.
        path: A file to be used, and no other; or a folder of demonstrations.
        episodes: Training episodes wanted; by default the full number.
        seed: The seed to make it with.
        download: Ask OGBench's server for the full data set when there is no file.
        workers: Processes for making it; by default one per processor core.

    Raises:
        UserError: The path is not there; the download failed; or it cannot be made.
    """
    if path is not None:
        path = Path(path).expanduser()
        if not path.exists():
            raise ogbench.DataError(f"{path}: there is no such file")
        return path
    full = ogbench.dataset_path(name)
    wanted = RECIPES[name].file(episodes, seed) if name in RECIPES else full
    for candidate in (wanted, full) if seed == 0 else (wanted,):
        if candidate.is_file():
            return candidate
    if name not in RECIPES and not name.endswith("-v0"):  # None of OGBench's either.
        raise UserError(
            f"demonstrations of {name} are not made here: give a file or folder of them with "
            "--dataset (docs/demonstrations.md)"
        )
    if download:
        _download(name, full)
        return full
    try:
        known = recipe(name)
    except UserError as error:
        raise UserError(
            f"{error} (of those that can be made here; {full} is not there, and --download asks "
            "OGBench's server for it)"
        ) from error
    try:
        for expert in known.experts:
            find_expert(expert)
    except UserError as error:
        raise UserError(f"{error} (or --download asks OGBench's server for {full.name})") from error
    count = known.episodes if episodes is None else episodes
    print(f"{name}: no data at {wanted}; making {count} episodes here", file=sys.stderr)
    return make_dataset(name, episodes=episodes, seed=seed, workers=workers)


def origin(path: Path | str) -> str:
    """Say in a few words where a data file comes from, as far as its provenance tells."""
    found = ogbench.provenance(path)
    return "file" if found is None else f"{found['origin']} (seed {found.get('seed')})"


def _download(name: str, path: Path) -> None:
    """Fetch a data set's two files from OGBench's server.

    Raises:
        UserError: The server does not answer, does not have it, or sent something else.
    """
    # Imported here: it imports every simulator of OGBench, and few runs download.
    from ogbench.utils import download_datasets

    files = (path, ogbench.validation_path(path))
    present = {file for file in files if file.exists()}
    instead = f"make it here instead: nfrl data make {name}"
    try:
        with _timeout(DOWNLOAD_TIMEOUT):
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
