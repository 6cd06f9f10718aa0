"""``nfrl demo``: the whole library in one command."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import tyro

from nfrl.cli.report import show
from nfrl.cli.train import TrainOptions, train
from nfrl.tasks import find_task
from nfrl.training.presets import find_preset


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Make data, train NF-GCBC and its Gaussian twin, evaluate both, show the comparison."""

    quick: bool = False
    """A small maze instead of a robot arm: about a minute in place of ten."""
    runs: Path = Path("runs/demo")
    """Where run folders and the report go."""
    workers: int | None = None
    """Processes that step environments; by default one per processor core."""
    seed: int = 0
    """The seed of both agents."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """What a demonstration takes on."""

    task: str
    steps: int | None
    data_episodes: int | None
    episodes: int


FULL = Scale("cube-single-play-v0", steps=None, data_episodes=150, episodes=50)
QUICK = Scale("pointmaze-medium-navigate-v0", steps=3000, data_episodes=20, episodes=5)


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl demo`` and do it."""
    options = tyro.cli(DemoOptions, args=list(arguments), prog="nfrl demo")
    scale = QUICK if options.quick else FULL
    began = time.monotonic()
    task = find_task(scale.task)
    for agent in ("nf-gcbc", "gcbc"):
        preset = find_preset("laptop", agent, task)
        train(
            agent,
            task,
            TrainOptions(
                agent=preset.agent,
                training=preset.training,
                steps=scale.steps,
                seeds=(options.seed,),
                data_episodes=scale.data_episodes,
                episodes=scale.episodes,
                workers=options.workers,
                runs=options.runs,
            ),
        )
    show([options.runs], options.runs / "report")
    print(f"all in {(time.monotonic() - began) / 60:.1f} minutes; runs: {options.runs}")
