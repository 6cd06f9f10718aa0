"""What every run's end has in common, good or bad."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nfrl import registry
from nfrl.data.load import Data
from nfrl.experiment.config import Experiment
from nfrl.experiment.run import run as run_experiment
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record, append_record
from nfrl.runs.tracking import Trackers
from nfrl.training.loop import NonFiniteLossError


def finish(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    *,
    data: Data | None = None,
    workers: int | None = None,
    record: Path | None = None,
    video: bool = False,
    trackers: Trackers | None = None,
    begin: Callable[[RunFolder], object] = lambda folder: None,
) -> None:
    """Run an experiment to its end, from wherever it stands, and say what came out.

    A run that diverges is recorded as such; of one that is interrupted it is said how to go on.

    Args:
        experiment: What to run.
        folders: One per seed.
        data: Its data, where they were read already.
        workers: Processes that step environments; by default one per processor core.
        record: A .jsonl file that gets a line for each run; None for none.
        video: Film one episode per goal.
        trackers: What follows each run; None for what followed it before.
        begin: Called with each folder that is begun, once nothing more can be refused.
    """
    seeds = experiment.seeds
    try:
        results = run_experiment(
            experiment,
            folders,
            data=data,
            workers=workers,
            video=video,
            trackers=trackers,
            begin=begin,
        )
    except NonFiniteLossError as error:
        diverged = folders[list(seeds).index(error.seed)].read_result()
        if record is not None and diverged is not None:
            append_record(record, diverged)
        if len(seeds) > 1:
            print(
                "the seeds that trained with it end at their last checkpoints as well; to train "
                "them without it, give them a --variant name",
                file=sys.stderr,
            )
        raise
    except KeyboardInterrupt:
        print(f"interrupted; go on with: nfrl resume {folders[0].path}", file=sys.stderr)
        raise
    for folder, result in zip(folders, results, strict=True):
        if record is not None:
            append_record(record, result)
        drawn = ""
        if experiment.explores:
            # Imported here: it draws, which the other agents' runs do not need.
            from nfrl.reports.mazes import draw_maze_figures

            figures = folder.path / "figures"
            draw_maze_figures(folder.path, figures)
            drawn = f"; maps in {figures}"
        print(f"{folder.path}: {describe(result)}{drawn}")


def describe(result: Record) -> str:
    """Say a result in a line."""
    if result.score is None:
        return f"trained for {result.steps} steps in {result.train_seconds or 0:.0f} s" + (
            "" if result.environment else "; nothing to act in, so no score"
        )
    task = registry.mappings("tasks").get(result.task)
    paper = task and task.published.get(result.agent)
    beside = f"; the paper: {paper:.3f}" if paper is not None else ""
    if result.environment_steps is not None:
        return (
            f"success {result.score:.3f} (within 2 units {result.success_easy:.3f}, far goals "
            f"{result.success_hard:.3f}); {result.coverage:.0%} of the cells seen after "
            f"{result.environment_steps:,} steps"
        )
    low, high = result.interval or (result.score, result.score)
    if result.scored_by_return:
        success = f", success {result.success:.3f}" if result.success else ""
        return f"return {result.score:.1f} (95% interval {low:.1f} to {high:.1f}){success}{beside}"
    if result.max_score is not None:
        return (
            f"score {result.score:.3f} at the end (95% interval {low:.2f} to {high:.2f}), "
            f"{result.max_score:.3f} at best on the way, success {result.success:.3f}{beside}"
        )
    goals = ", ".join(f"{score:.2f}" for score in result.scores)
    return (
        f"success {result.score:.3f} (95% interval {low:.2f} to {high:.2f}; by goal {goals})"
        f"{beside}"
    )
