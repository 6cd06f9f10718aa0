"""``nfrl train AGENT MAZE`` for the agents that explore: no data, a maze of our own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from nfrl.agents import EXPLORERS
from nfrl.agents.parts.soft_actor import ActorKind
from nfrl.benchmarks.mazes import find_maze
from nfrl.benchmarks.presets import PresetName, find_exploration
from nfrl.cli.finishing import finishing
from nfrl.errors import UserError
from nfrl.exploration import Exploration
from nfrl.exploration import run as run_exploration
from nfrl.reports.mazes import draw_maze_figures
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record, append_record
from nfrl.training.exploring import ExploreTraining

AgentConfigT = TypeVar("AgentConfigT")


@dataclasses.dataclass(frozen=True)
class ExploreOptions(Generic[AgentConfigT]):
    """Explore a maze with no goals given, and write the result."""

    agent: AgentConfigT
    """The algorithm's own values."""
    training: ExploreTraining
    """How long, and on how much at a time."""
    preset: PresetName = "laptop"
    """Where values come from that are not given: "paper" is the paper's configuration; "laptop" one
    for two processor cores and some minutes."""
    steps: int | None = None
    """Environment steps (the same as --training.environment-steps)."""
    actor: ActorKind | None = None
    """What nf-ugs samples actions from (the same as --agent.actor)."""
    seeds: tuple[int, ...] = (0,)
    """One run each; they explore together."""
    variant: str = ""
    """A word for what was changed from the preset; it is part of the run's folder."""
    runs: Path = Path("runs")
    """Where run folders go: RUNS/MAZE/AGENT-PRESET/seed-N."""
    record: Path | None = None
    """A .jsonl file that gets a line per finished run."""


def parse(agent: str, maze: str, preset: PresetName, arguments: Sequence[str]) -> ExploreOptions:
    """Parse the options after agent and maze."""
    find_maze(maze)
    values, training = find_exploration(preset, agent)
    config: Any = EXPLORERS[agent]
    options = tyro.cli(
        ExploreOptions[config],
        args=list(arguments),
        prog=f"nfrl train {agent} {maze}",
        default=ExploreOptions(agent=values, training=training, preset=preset),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if len(set(options.seeds)) < len(options.seeds) or min(options.seeds, default=-1) < 0:
        raise UserError("seeds must be distinct, at least one, and none negative")
    if options.steps is not None:
        training = dataclasses.replace(options.training, environment_steps=options.steps)
        options = dataclasses.replace(options, training=training)
    if options.actor is not None:
        if agent != "nf-ugs":
            raise UserError(f"{agent} has a Gaussian actor; --actor is for nf-ugs")
        values = dataclasses.replace(options.agent, actor=options.actor)
        options = dataclasses.replace(options, agent=values)
    return options


def exploration(agent: str, maze: str, options: ExploreOptions) -> Exploration:
    """Return what the options ask for."""
    return Exploration(
        task=maze,
        agent=agent,
        preset=options.preset,
        variant=options.variant,
        seeds=options.seeds,
        agent_config=options.agent,
        training=options.training,
    )


def train(exploration: Exploration, options: ExploreOptions) -> None:
    """Explore and record as asked."""
    folders = exploration.run_folders(options.runs)
    for folder in folders:
        if folder.is_begun and Exploration.from_json(folder.read_config()) != exploration:
            raise UserError(
                f"{folder.path} holds a run with other values; name this one with --variant, or "
                "choose another folder with --runs"
            )
    finish(exploration, folders, record=options.record)


def finish(exploration: Exploration, folders: Sequence[RunFolder], *, record: Path | None) -> None:
    """Run an exploration to its end, from wherever it stands; draw it, and say what came out."""
    with finishing(folders, exploration.seeds, record):
        results = run_exploration(exploration, folders)
    for folder, result in zip(folders, results, strict=True):
        if record is not None:
            append_record(record, result)
        figures = folder.path / "figures"
        draw_maze_figures(folder.path, figures)
        print(f"{folder.path}: {describe(result)}; maps in {figures}")


def describe(result: Record) -> str:
    """Say a result in a line."""
    return (
        f"success {result.score:.3f} (within 2 units {result.success_easy:.3f}, far goals "
        f"{result.success_hard:.3f}); {result.coverage:.0%} of the cells seen after "
        f"{result.environment_steps:,} steps"
    )
