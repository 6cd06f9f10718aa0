"""``nfrl resume RUN``: go on with a run that was interrupted."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.cli.finishing import finish
from nfrl.cli.train import check_workers
from nfrl.data.load import locate
from nfrl.errors import UserError
from nfrl.experiment.config import Experiment
from nfrl.runs.folder import RunFolder
from nfrl.runs.tracking import check_trackers


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run, and with the seeds that train together with it."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder: runs/TASK/AGENT-PRESET/seed-N."""
    data: str | None = None
    """Where its data are now, if they or the run have moved; their hash must be the same."""
    workers: int | None = None
    """Processes that step environments; by default one per processor core."""
    record: Path | None = None
    """A .jsonl file that gets a line per finished run."""
    track: tuple[str, ...] | None = None
    """What follows the run: wandb, tensorboard, mlflow, or package.module:Class, several
    at once. By default what followed it before. With no name: nothing (docs/tracking.md)."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl resume`` and do it."""
    options = tyro.cli(ResumeOptions, args=list(arguments), prog="nfrl resume")
    check_workers(options.workers)
    check_trackers(options.track or ())
    run = RunFolder(options.run.resolve())
    experiment = Experiment.of(run)
    folders = _siblings(run, experiment.seeds)
    for folder in folders:
        if folder.is_begun and Experiment.of(folder) != experiment:
            raise UserError(f"{folder.path} and {options.run} did not train together")
    if options.data is not None:
        experiment = with_data(experiment, options.data)
    finish(
        experiment, folders, workers=options.workers, record=options.record, trackers=options.track
    )


def with_data(experiment: Experiment, uri: str) -> Experiment:
    """Return an experiment whose data lie elsewhere; they are checked where they are loaded."""
    if experiment.dataset is None:
        raise UserError("this run explored a maze: it has no data")
    path = locate(uri)
    return dataclasses.replace(
        experiment, dataset=dataclasses.replace(experiment.dataset, path=str(path))
    )


def _siblings(run: RunFolder, seeds: Sequence[int]) -> list[RunFolder]:
    """Return the folders of all seeds that train together, of which one is given."""
    folders = [RunFolder(run.path.parent / f"seed-{seed}") for seed in seeds]
    if run not in folders:
        names = ", ".join(folder.path.name for folder in folders)
        raise UserError(f"{run.path} was renamed or copied: its run goes on only in {names}")
    return folders
