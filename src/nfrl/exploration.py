"""From a maze and an agent to a scored run without any data: exploration, evaluation, result."""

import dataclasses
import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import cattrs

from nfrl.agents import EXPLORERS
from nfrl.benchmarks.mazes import find_maze
from nfrl.errors import UserError
from nfrl.experiment import CONVERTER, finished_result, run_folders
from nfrl.interfaces.explorer import Explorer, ExplorerConfig
from nfrl.networks import count_parameters
from nfrl.progress import progress
from nfrl.runs.folder import RunFolder
from nfrl.runs.provenance import provenance, provenance_of
from nfrl.runs.records import Record
from nfrl.training.exploring import ExploreTraining, buffer_bytes, explore, load_explorer
from nfrl.training.offline import NonFiniteLossError, latest_step


@dataclasses.dataclass(frozen=True)
class Exploration:
    """Everything that decides a run's outcome."""

    task: str
    """The maze: ``point-u-maze``."""
    agent: str
    preset: str
    variant: str
    """What was changed from the preset, in a word; empty for nothing."""
    seeds: tuple[int, ...]
    agent_config: ExplorerConfig
    training: ExploreTraining

    def run_folders(self, root: Path) -> list[RunFolder]:
        """Return the folder of each seed below a root."""
        return run_folders(root, self.task, self.agent, self.preset, self.variant, self.seeds)

    def to_json(self, seed: int) -> dict[str, Any]:
        """Return config.json of one of the seeds."""
        return {"seed": seed, **dataclasses.asdict(self), **provenance()}

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Exploration":
        """Read config.json back.

        Raises:
            UserError: It is of another program's making, or an older version's.
        """
        try:
            return cls(
                **{name: config[name] for name in ("task", "agent", "preset", "variant")},
                seeds=tuple(config["seeds"]),
                agent_config=CONVERTER.structure(
                    config["agent_config"], EXPLORERS[config["agent"]]
                ),
                training=CONVERTER.structure(config["training"], ExploreTraining),
            )
        except (KeyError, TypeError, ValueError, cattrs.BaseValidationError) as error:
            raise UserError(
                f"config.json does not describe a run of this version: {error!r}"
            ) from error


def run(
    exploration: Exploration, folders: Sequence[RunFolder], *, show: bool = True
) -> list[Record]:
    """Explore and record, going on from whatever the folders hold.

    Returns:
        Each seed's result, as written to its result.json.

    Raises:
        UserError: See :func:`nfrl.training.exploring.explore`. A run whose loss became non-finite
            is recorded as diverged first.
    """
    results = [finished_result(folder) for folder in folders]
    if None not in results:
        return [result for result in results if result is not None]
    training, seeds = exploration.training, exploration.seeds
    maze = find_maze(exploration.task)
    training.check(maze)
    for folder, seed in zip(folders, seeds, strict=True):
        if not folder.is_begun:
            folder.write_config(exploration.to_json(seed))
    if show:
        gigabytes = len(seeds) * buffer_bytes(training, maze) / 1e9
        print(f"the buffers of {len(seeds)} seeds take {gigabytes:.2f} GB of memory")
    title = f"{exploration.agent} in {maze.name}"
    start, began = latest_step(folders), time.perf_counter()
    total = training.rounds * training.round_steps
    with progress(title, total, "steps", done=start, show=show) as update:

        def report(step: int, metrics: dict[str, float]) -> None:
            rate = (step - start) * len(seeds) / (time.perf_counter() - began)
            update(
                step,
                f"{rate:.0f} environment steps/s, success {metrics['success']:.2f}, "
                f"cells {metrics['coverage']:.0%}",
            )

        try:
            agents = explore(folders, seeds, exploration.agent_config, training, maze, report)
        except NonFiniteLossError as error:
            folder = folders[seeds.index(error.seed)]
            folder.write_result(describe_result(exploration, error.seed, folder, None))
            raise
    for folder, seed, agent in zip(folders, seeds, agents, strict=True):
        if finished_result(folder) is None:
            folder.write_result(describe_result(exploration, seed, folder, agent))
    return [result for folder in folders if (result := folder.read_result())]


def load_trained(exploration: Exploration, folder: RunFolder, step: int | None = None) -> Explorer:
    """Load a run's agent from its latest checkpoint, or that of a step."""
    return load_explorer(folder, exploration.agent_config, find_maze(exploration.task), step)


def describe_result(
    exploration: Exploration, seed: int, folder: RunFolder, agent: Explorer | None
) -> Record:
    """Return the record of a run: what was run, with what, and what came out.

    ``score`` is the success of the last evaluation; ``steps`` counts gradient steps, and
    ``train_seconds`` is the wall-clock time of all seeds that explored together.
    """
    training, together = exploration.training, len(exploration.seeds)
    lines = folder.read_metrics()
    last = lines[-1] if lines else {}
    seconds = float(last.get("seconds", 0.0))
    updates = int(last.get("updates", 0))
    environment_steps = int(last.get("environment_steps", 0))
    scored = agent is not None
    return Record(
        task=exploration.task,
        family="exploration",
        agent=exploration.agent,
        preset=exploration.preset,
        variant=exploration.variant,
        seed=seed,
        steps=updates,
        environment_steps=environment_steps,
        status="finished" if scored else "diverged",
        measure="success rate",
        score=round(last["success"], 4) if scored else None,
        scores=tuple(round(value, 4) for value in last["successes"]) if scored else (),
        success_easy=round(last["success_easy"], 4) if scored else None,
        success_hard=round(last["success_hard"], 4) if scored else None,
        coverage=round(last["coverage"], 4) if scored else None,
        episodes=training.evaluation_episodes,
        parameters=count_parameters(agent.policy) if agent is not None else None,
        config={
            "agent": dataclasses.asdict(cast(Any, exploration.agent_config)),
            "training": dataclasses.asdict(training),
        },
        **provenance_of(folder.read_config()),
        seeds_together=together,
        train_seconds=round(seconds, 1),
        steps_per_second=round(updates * together / seconds, 1) if seconds else None,
        environment_steps_per_second=(
            round(environment_steps * together / seconds, 1) if seconds else None
        ),
        curve=tuple(
            {
                "step": line["updates"],
                "seconds": line["seconds"],
                "score": line["success"],
                "coverage": line["coverage"],
            }
            for line in lines
        ),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
