"""``nfrl eval RUN``: evaluate a run's agent again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.agents import EXPLORERS
from nfrl.cli.train import describe
from nfrl.errors import UserError
from nfrl.experiment import Experiment, load_trained, score
from nfrl.training.offline import latest_step
from nfrl.training.run import RunFolder


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Evaluate a run's agent on every goal of its task."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder: runs/TASK/AGENT-PRESET/seed-N."""
    episodes: int = 50
    """Episodes per goal."""
    step: int | None = None
    """The checkpoint's step; by default the latest. The run's result is written anew only where
    none is given and the run is finished."""
    video: bool = False
    """Film one episode per goal (slow without a graphics card)."""
    workers: int | None = None
    """Processes that step environments; by default one per processor core."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl eval`` and do it."""
    options = tyro.cli(EvalOptions, args=list(arguments), prog="nfrl eval")
    if options.episodes < 1:
        raise UserError(f"episodes must be at least 1, not {options.episodes}")
    folder = RunFolder(options.run)
    config = folder.read_config()
    if config.get("agent") in EXPLORERS:
        raise UserError(
            f"{folder.path} explored a maze, and was evaluated as it did: see its metrics.jsonl "
            "and figures"
        )
    experiment = dataclasses.replace(Experiment.from_json(config), episodes=options.episodes)
    last = experiment.online_steps or experiment.training.steps
    agent = load_trained(experiment, folder, options.step)
    result = score(
        experiment,
        config["seed"],
        folder,
        agent,
        workers=options.workers,
        video=options.video,
        keep=options.step is None and latest_step([folder]) == last,
    )
    print(f"{folder.path}: {describe(result)}")
