"""``nfrl data make NAME`` and ``nfrl data check FILE``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.collect.make import make_dataset
from nfrl.data.formats import ogbench
from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class MakeOptions:
    """Make a data set and its validation data, in OGBench's format.

    The files depend on the name, the seed and the episodes, never on the number of workers. What
    interrupts the making loses nothing: the same command goes on.
    """

    name: Annotated[str, tyro.conf.Positional]
    """The data set: cube-single-play-v0."""
    episodes: int | None = None
    """Training episodes; by default as many as OGBench's. Validation gets a tenth as many."""
    seed: int = 0
    """The same seed makes the same bytes."""
    workers: int | None = None
    """Processes; by default one per processor core."""
    path: Path | None = None
    """The training file; by default in $NFRL_DATA or ~/.ogbench/data."""
    steps: int | None = None
    """Rows per episode, where other than the data set's own are wanted; needs --path."""
    force: bool = False
    """Overwrite a file that is something else."""


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Say what a data file holds, or precisely what is wrong with it."""

    file: Annotated[Path, tyro.conf.Positional]
    """An OGBench .npz file."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl data`` and do it."""
    action, *rest = arguments or [""]
    if action == "make":
        make(tyro.cli(MakeOptions, args=rest, prog="nfrl data make"))
    elif action == "check":
        check(tyro.cli(CheckOptions, args=rest, prog="nfrl data check").file)
    else:
        print("usage: nfrl data make NAME [options]\n       nfrl data check FILE")
        if action not in ("-h", "--help"):
            raise UserError(f"data takes make or check, not {action!r}")


def make(options: MakeOptions) -> None:
    """Make a data set and say where it is."""
    path = make_dataset(
        options.name,
        episodes=options.episodes,
        seed=options.seed,
        workers=options.workers,
        path=options.path,
        steps=options.steps,
        force=options.force,
    )
    check(path)


def check(path: Path) -> None:
    """Print what a data file holds."""
    summary = ogbench.summarize(path)
    low, high = summary.action_range
    print(f"{summary.path}: a sound OGBench data set")
    print(
        f"  {summary.transitions} transitions in {summary.trajectories} trajectories of "
        f"{summary.shortest} to {summary.longest} rows"
    )
    print(f"  observations of {summary.observation_size} numbers, actions of {summary.action_size}")
    print(f"  actions from {low:.3f} to {high:.3f}")
    for key, description in summary.arrays.items():
        print(f"  {key:14} {description}")
    print(f"  sha256 {summary.sha256}")
    if summary.provenance is not None:
        print(f"  {summary.provenance['origin']}, seed {summary.provenance.get('seed')}")
        for name, value in summary.provenance.get("modes", {}).items():
            print(f"  {name.replace('_', ' ')} {value}")
