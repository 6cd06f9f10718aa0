"""Where a data set comes from: a file that is there, a download if asked for, or made here."""

import sys
from pathlib import Path

from nfrl import registry
from nfrl.collect.expert_policy import find_expert
from nfrl.collect.make import make_dataset
from nfrl.collect.recipe import can_be_made, recipe
from nfrl.data.formats import ogbench
from nfrl.errors import UserError


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
    the full data set there, if seed 0 is asked for; where it was published, if a download is asked
    for; and else it is made here, which is said before it begins.

    Args:
        name: ``cube-single-play-v0``.
        path: A file to be used, and no other; or a folder of demonstrations.
        episodes: Training episodes wanted; by default the full number.
        seed: The seed to make it with.
        download: Fetch the full data set from where it was published when there is no file.
        workers: Processes for making it; by default one per processor core.

    Raises:
        UserError: The path is not there; the download failed; or it cannot be made.
    """
    if path is not None:
        path = Path(path).expanduser()
        if not path.exists():
            raise ogbench.DataError(f"{path}: there is no such file")
        return path
    known = recipe(name) if can_be_made(name) else None
    full = known.file() if known else ogbench.dataset_path(name)
    wanted = known.file(episodes, seed) if known else full
    for candidate in (wanted, full) if seed == 0 else (wanted,):
        if candidate.is_file():
            return candidate
    if known is None:
        raise UserError(
            f"demonstrations of {name} are not made here: give a file or folder of them with "
            "--data (docs/data.md)"
        )
    if download:
        if known.download is None:
            raise UserError(
                f"{name} is not offered for download; make it here instead: nfrl data make {name}"
            )
        registry.load_reference(known.download)(known.name, full)
        return full
    try:
        for expert in known.experts:
            find_expert(expert)
    except UserError as error:
        instead = f" (or --download fetches {full.name})" if known.download else ""
        raise UserError(f"{error}{instead}") from error
    count = known.episodes if episodes is None else episodes
    print(f"{name}: no data at {wanted}; making {count} episodes here", file=sys.stderr)
    return make_dataset(name, episodes=episodes, seed=seed, workers=workers)


def origin(path: Path | str) -> str:
    """Say in a few words where a data file comes from, as far as its provenance tells."""
    found = ogbench.provenance(path)
    return "file" if found is None else f"{found['origin']} (seed {found.get('seed')})"
