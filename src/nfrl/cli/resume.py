"""``nfrl resume RUN``: go on with a run that was interrupted."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.cli import explore
from nfrl.cli.train import check_workers, finish
from nfrl.errors import UserError
from nfrl.experiment import Experiment
from nfrl.exploration import Exploration
from nfrl.runs.folder import RunFolder, is_exploration


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run, and with the seeds that train together with it."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder: runs/TASK/AGENT-PRESET/seed-N."""
    workers: int | None = None
    """Processes that step environments; by default one per processor core."""
    record: Path | None = None
    """A .jsonl file that gets a line per finished run."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl resume`` and do it."""
    options = tyro.cli(ResumeOptions, args=list(arguments), prog="nfrl resume")
    check_workers(options.workers)
    run = RunFolder(options.run.resolve())
    config = run.read_config()
    if is_exploration(config):
        exploration = Exploration.from_json(config)
        explore.finish(exploration, _siblings(run, exploration.seeds), record=options.record)
        return
    experiment = Experiment.from_json(config)
    folders = _siblings(run, experiment.seeds)
    for folder in folders:
        if folder.is_begun and Experiment.from_json(folder.read_config()) != experiment:
            raise UserError(f"{folder.path} and {options.run} did not train together")
    finish(experiment, folders, workers=options.workers, record=options.record)


def _siblings(run: RunFolder, seeds: Sequence[int]) -> list[RunFolder]:
    """Return the folders of all seeds that train together, of which one is given."""
    folders = [RunFolder(run.path.parent / f"seed-{seed}") for seed in seeds]
    if run not in folders:
        names = ", ".join(folder.path.name for folder in folders)
        raise UserError(f"{run.path} was renamed or copied: its run goes on only in {names}")
    return folders
