"""``nfrl data make NAME``, ``nfrl data check DATA`` and ``nfrl data join FOLDER DATA ...``."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from nfrl.data.formats import ogbench
from nfrl.errors import UserError

if TYPE_CHECKING:
    from nfrl.data.load import Data


USAGE = """usage: nfrl data make NAME [options]
       nfrl data check DATA [options]
       nfrl data join FOLDER DATA [DATA ...] [options]"""


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
    """The same seed makes the same bytes on one kind of processor (docs/data.md)."""
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
    """Say what data hold, or precisely what is wrong with them."""

    data: Annotated[str, tyro.conf.Positional]
    """A file or folder, or NAME:REST: minari:D4RL/door/human-v2, lerobot:lerobot/pusht."""
    observation_keys: tuple[str, ...] = ()
    """What makes an observation: names in the data, with columns where not all are wanted:
    keypoint state[:2]."""
    action_key: str = ""
    """The action's name in the data, where it is not the format's own."""
    tasks: tuple[str, ...] = ()
    """Of LeRobot's data of several tasks those wanted: numbers or words."""


@dataclasses.dataclass(frozen=True)
class JoinOptions:
    """Join data of any format into one folder, which training maps into memory.

    So data may be larger than the memory, and parts may be made on many machines.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Where to; it must not exist."""
    data: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files or folders, or NAME:REST, in order; each brings its validation data, or has a part of
    its trajectories held out."""
    observation_keys: tuple[str, ...] = ()
    """What makes an observation: names in the data, with columns where not all are wanted."""
    action_key: str = ""
    """The action's name in the data, where it is not the format's own."""
    tasks: tuple[str, ...] = ()
    """Of LeRobot's data of several tasks those wanted: numbers or words."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl data`` and do it."""
    action, *rest = arguments or [""]
    if action == "make":
        make(tyro.cli(MakeOptions, args=rest, prog="nfrl data make"))
    elif action == "check":
        options = tyro.cli(CheckOptions, args=rest, prog="nfrl data check")
        check(
            options.data,
            observation_keys=options.observation_keys,
            action_key=options.action_key,
            tasks=options.tasks,
        )
    elif action == "join":
        join(tyro.cli(JoinOptions, args=rest, prog="nfrl data join"))
    else:
        print(USAGE)
        if action not in ("-h", "--help"):
            raise UserError(f"data takes make, check or join, not {action!r}")


def make(options: MakeOptions) -> None:
    """Make a data set and say where it is."""
    from nfrl.collect.make import make_dataset

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


def join(options: JoinOptions) -> None:
    """Join data sets and say what they are together."""
    from nfrl.data.join import join as join_data

    join_data(
        options.folder,
        options.data,
        observation_keys=options.observation_keys,
        action_key=options.action_key,
        tasks=options.tasks,
    )
    check(options.folder)


def check(uri: str | Path, **selection: Any) -> None:
    """Print what data hold.

    Args:
        uri: As for :func:`nfrl.data.load.load`.
        selection: What is wanted of them, as for the same.

    Raises:
        UserError: Something is wrong with them.
    """
    # Imported here: loading imports readers, which making does not need.
    from nfrl.data.load import load

    data = load(uri, **selection)
    print(f"{data.path}: sound data of the format {data.format}")
    print(f"  {data.uri}")
    for name, part in (("to train on", data.training), ("held out", data.validation)):
        lengths = part.lengths
        print(
            f"  {name}: {part.transitions} transitions in {len(lengths)} trajectories of "
            f"{lengths.min()} to {lengths.max()}"
        )
    print(f"  observations of {data.spec.width} numbers, actions of {data.spec.action_dim}")
    for name, array in data.spec.observation.items():
        print(f"    {name:24} {array.dtype} {array.shape}")
    for line in _actions(data):
        print(f"    {line}")
    print(f"  {_rewards(data)}")
    for name, extra in data.training.extras.items():
        print(f"    {name:24} {extra.dtype} {extra.shape}")
    for note in data.notes:
        print(f"  note: {note}")
    print(f"  sha256 {data.sha256}")
    print(f"  from: {data.origin}")
    if data.format == "npz" and data.path is not None:
        for name, value in (ogbench.provenance(data.path) or {}).get("modes", {}).items():
            print(f"  {name.replace('_', ' ')} {value}")


def _actions(data: "Data") -> Iterator[str]:
    """Describe the columns of actions: those that are constant or take few values by themselves."""
    parts = [part.actions for part in (data.training, data.validation)]
    least = np.min([part.min(axis=0) for part in parts], axis=0)
    largest = np.max([part.max(axis=0) for part in parts], axis=0)
    yield f"actions from {least.min():.3f} to {largest.max():.3f}"
    beyond = not all((low, high) == (-1, 1) for low, high in zip(*_bounds(data), strict=True))
    for column, values in enumerate(data.spec.action.values):
        name = f"action {column}:"
        if values is None and beyond:
            yield f"{name} from {least[column]:g} to {largest[column]:g}"
        elif values is not None and len(values) == 1:
            yield f"{name} always {values[0]:g}"
        elif values is not None:
            yield f"{name} only {', '.join(f'{value:g}' for value in values)}"


def _bounds(data: "Data") -> tuple[tuple[float, ...], tuple[float, ...]]:
    return data.spec.action.low, data.spec.action.high


def _rewards(data: "Data") -> str:
    """Describe rewards, and how many trajectories end all reward."""
    training = data.training
    if training.rewards is None or training.masks is None:
        return "no rewards"
    over = int((training.masks[training.ends - 1] == 0).sum())
    return (
        f"rewards from {training.rewards.min():g} to {training.rewards.max():g}; {over} of "
        f"{len(training.ends)} trajectories end for good, the others are cut off"
    )
