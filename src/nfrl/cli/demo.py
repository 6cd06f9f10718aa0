"""``nfrl demo``: the whole library in one command."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import tyro

from nfrl.cli.play import watch
from nfrl.cli.report import show
from nfrl.cli.suite import work
from nfrl.experiment.load import load_policy
from nfrl.launch.jobs import Job
from nfrl.launch.local import LocalLauncher
from nfrl.task import find_task


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Make data, train NF-GCBC and its Gaussian twin, evaluate both, show the comparison."""

    quick: bool = False
    """A small maze instead of a robot arm: a minute or two in place of eight."""
    runs: Path = Path("runs/demo")
    """Where run folders and the report go."""
    seed: int = 0
    """The seed of both agents."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """What a demonstration takes on."""

    task: str
    changed: tuple[str, ...]
    """What is changed of the preset."""
    steps: int
    data_episodes: int
    episodes: int


# Less than the preset's data and steps: both agents, side by side, in about eight minutes. With one
# action at a time that is too little to be sure of the paper's score (docs/goals.md).
FULL = Scale(
    "cube-single-play-v0",
    ("--agent.chunk", "5", "--variant", "chunk-5"),
    steps=36_000,
    data_episodes=250,
    episodes=50,
)
QUICK = Scale("pointmaze-medium-navigate-v0", (), steps=3000, data_episodes=20, episodes=5)


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl demo`` and do it."""
    options = tyro.cli(DemoOptions, args=list(arguments), prog="nfrl demo")
    scale = QUICK if options.quick else FULL
    began = time.monotonic()
    values = {
        "--steps": scale.steps,
        "--data-episodes": scale.data_episodes,
        "--episodes": scale.episodes,
        "--seeds": options.seed,
    }
    words = [str(word) for pair in values.items() for word in pair]
    jobs = [Job((agent, scale.task, *scale.changed, *words)) for agent in ("nf-gcbc", "gcbc")]
    work("the demonstration", jobs, options.runs, launcher=LocalLauncher(), lanes=None, record=None)
    show([options.runs], options.runs / "report")
    _watch(options, scale)
    print(f"all in {(time.monotonic() - began) / 60:.1f} minutes; runs: {options.runs}")


def _watch(options: DemoOptions, scale: Scale) -> None:
    """Film the flow that was just trained, where pictures can be drawn."""
    # Imported here: it needs what draws pictures.
    from nfrl.evaluation.video import VideoUnavailable

    (folder,) = options.runs.glob(f"{scale.task}/nf-gcbc-*/seed-{options.seed}")
    try:
        print(watch(load_policy(folder), find_task(scale.task), folder / "video.mp4"))
    except (VideoUnavailable, ModuleNotFoundError) as error:
        print(error)
