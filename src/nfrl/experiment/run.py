"""A run from whatever its folders hold to its record: offline, on online, or exploring."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from nfrl import registry
from nfrl.data.dataset import Dataset
from nfrl.data.load import Data
from nfrl.errors import UserError
from nfrl.experiment.config import Experiment
from nfrl.experiment.data import load_data
from nfrl.experiment.load import load_trained
from nfrl.experiment.pictures import draw
from nfrl.experiment.samples import draw_samples
from nfrl.experiment.scoring import (
    describe_exploration,
    describe_result,
    evaluate_on_the_way,
    score,
)
from nfrl.interfaces.agent import Agent
from nfrl.interfaces.explorer import World
from nfrl.progress import Update, progress
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record
from nfrl.runs.tracking import Trackers, Tracking
from nfrl.training.exploring import ExploreTraining, buffer_bytes, explore
from nfrl.training.loop import NonFiniteLossError
from nfrl.training.offline import train
from nfrl.training.online import OnlineTraining, check_chunk, go_online
from nfrl.training.seeds import latest_step


def run(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    *,
    data: Data | None = None,
    workers: int | None = None,
    video: bool = False,
    show: bool = True,
    trackers: Trackers | None = None,
    begin: Callable[[RunFolder], object] = lambda folder: None,
) -> list[Record]:
    """Train, evaluate and record, going on from whatever the folders hold.

    A seed that has its result already keeps it.

    Args:
        experiment: What to run.
        folders: One per seed.
        data: Its data, where they were read already.
        workers: Processes that step environments; by default one per processor core.
        video: Film one episode per goal.
        show: Show progress.
        trackers: What follows each run; None for what followed it before.
        begin: Called with each folder that is begun, once nothing more can be refused.

    Returns:
        Each seed's result, as written to its result.json.

    Raises:
        UserError: A checkpoint is cut short, the data are not there, an environment failed, the
            disk is full, or another process works on a folder. A run whose loss became non-finite
            is recorded as diverged first. A tracker is unknown; one that fails later is only
            warned of.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(folder.held())
        stack.enter_context(Tracking(folders, trackers, draw=draw))
        results = [finished_result(folder) for folder in folders]
        if None not in results:
            return [result for result in results if result is not None]
        if experiment.online_steps:
            if experiment.data.spec.has_images:
                raise UserError(
                    "going on online needs a replay buffer, which keeps no images: name vectors "
                    "with --observation-keys, or leave out --online-steps"
                )
            _run_online(experiment, folders, workers, video, show, trackers, begin)
        elif experiment.explores:
            _explore(experiment, folders, show, begin)
        else:
            _run_offline(experiment, folders, data, workers, video, show, begin)
    return [result for folder in folders if (result := folder.read_result())]


def finished_result(folder: RunFolder) -> Record | None:
    """Return a run's result; None while it has none, or if it diverged."""
    result = folder.read_result()
    return result if result is not None and result.status == "finished" else None


def _begin(
    experiment: Experiment, seed: int, folder: RunFolder, begin: Callable[[RunFolder], object]
) -> None:
    if not folder.is_begun:
        begin(folder)
        folder.write_config(experiment.to_json(seed))


def _run_offline(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    data: Data | None,
    workers: int | None,
    video: bool,
    show: bool,
    begin: Callable[[RunFolder], object],
) -> None:
    dataset, validation = load_data(experiment, data)
    for seed, folder in zip(experiment.seeds, folders, strict=True):
        _begin(experiment, seed, folder, begin)
    seeds, training = experiment.seeds, experiment.offline_training
    title = f"training {experiment.agent} on {experiment.task.name}"
    if len(seeds) > 1:
        title += f" ({len(seeds)} seeds)"
    start, began = latest_step(folders), time.perf_counter()
    with progress(title, training.steps, "steps", done=start, show=show) as update:

        def report(step: int, metrics: dict[str, float]) -> None:
            rate = (step - start) * len(seeds) / (time.perf_counter() - began)
            figures = [f"{rate:.0f} updates/s", f"loss {metrics['loss']:.3f}"]
            figures += [
                f"held-out {name.removeprefix('val_')} {value:.3f}"
                for name, value in metrics.items()
                if name.startswith("val_")
            ]
            update(step, ", ".join(figures))

        def evaluate(index: int, agent: Agent) -> dict[str, float]:
            return evaluate_on_the_way(experiment, seeds[index], agent, workers)

        try:
            agents = train(
                folders,
                seeds,
                experiment.agent_config,
                experiment.data.spec,
                training,
                dataset,
                validation,
                report,
                evaluate,
            )
        except NonFiniteLossError as error:
            folder = folders[seeds.index(error.seed)]
            folder.write_result(describe_result(experiment, error.seed, folder, None, None))
            raise
    for folder, seed, agent in zip(folders, seeds, agents, strict=True):
        if finished_result(folder) is None:
            _sample(folder, agent, validation)
            score(experiment, seed, folder, agent, workers=workers, video=video, show=show)


def _sample(folder: RunFolder, agent: Agent, data: Dataset) -> None:
    """Keep some of the policy's actions, and say so if they are no good."""
    samples = draw_samples(agent, data)
    samples.save(folder)
    if samples.warning:
        print(f"warning: {folder.path}: {samples.warning}", file=sys.stderr)


def _run_online(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    workers: int | None,
    video: bool,
    show: bool,
    trackers: Trackers | None,
    begin: Callable[[RunFolder], object],
) -> None:
    """Go on from the offline run, which is made first if it is not there."""
    # Imported here: it imports simulators, which agents that learn from data alone do not need.
    from nfrl.environments.rewarded import RewardedEnvironment

    task, offline = experiment.task, experiment.offline
    # Refused before the offline run, not after it.
    if task.environment is None:
        raise UserError("there is no environment to go on in: name one with --env")
    check_chunk(experiment.agent_config.capabilities.predicted or 1)
    befores = [experiment.offline_folder(folder) for folder in folders]
    for before in befores:
        _refuse_other_values(offline, before)
    steps = OnlineTraining(experiment.online_steps, experiment.offline_training.batch_size)

    def begin_both(before: RunFolder) -> None:
        # So that resuming this one goes on with whatever is left of both.
        i = befores.index(before)
        _begin(experiment, experiment.seeds[i], folders[i], begin)

    run(offline, befores, workers=workers, show=show, trackers=trackers, begin=begin_both)
    dataset, validation = load_data(experiment, on_device=True)
    for seed, folder, before in zip(experiment.seeds, folders, befores, strict=True):
        if finished_result(folder) is not None:
            continue
        _begin(experiment, seed, folder, begin)
        title = f"training {experiment.agent} on in {task.name}"
        with progress(title, experiment.online_steps, "steps", show=show) as update:

            def report(step: int, metrics: dict[str, float], update: Update = update) -> None:
                update(step, f"loss {metrics['loss']:.3f}, reward {metrics['reward']:.3f}")

            try:
                agent = go_online(
                    folder,
                    load_trained(offline, before),
                    RewardedEnvironment(
                        task.environment, task.horizon, seed, task.observation_keys
                    ),
                    dataset,
                    steps,
                    seed=seed,
                    report=report,
                )
            except NonFiniteLossError:
                folder.write_result(describe_result(experiment, seed, folder, None, None))
                raise
        _sample(folder, agent, validation)
        score(experiment, seed, folder, agent, workers=workers, video=video, show=show)


def _refuse_other_values(offline: Experiment, folder: RunFolder) -> None:
    """Refuse to go on from a run of other values; a finished one may have had more seeds."""
    if not folder.is_begun:
        return
    found = Experiment.of(folder)
    free = ["episodes", "curve_episodes"] + ["seeds"] * (finished_result(folder) is not None)
    if dataclasses.replace(found, **{name: getattr(offline, name) for name in free}) != offline:
        raise UserError(
            f"{folder.path}, where this run would go on from, holds one with other values; give "
            "this one a --variant name or another --runs folder"
        )


def _explore(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    show: bool,
    begin: Callable[[RunFolder], object],
) -> None:
    training, seeds = experiment.training, experiment.seeds
    assert isinstance(training, ExploreTraining)
    world = world_of(experiment)
    training.check(world)
    for seed, folder in zip(seeds, folders, strict=True):
        _begin(experiment, seed, folder, begin)
    if show:
        gigabytes = len(seeds) * buffer_bytes(training, world) / 1e9
        print(f"the buffers of {len(seeds)} seeds take {gigabytes:.2f} GB of memory")
    start, began = latest_step(folders), time.perf_counter()
    title = f"{experiment.agent} in {world.name}"
    with progress(title, experiment.steps, "steps", done=start, show=show) as update:

        def report(step: int, metrics: dict[str, float]) -> None:
            rate = (step - start) * len(seeds) / (time.perf_counter() - began)
            update(
                step,
                f"{rate:.0f} environment steps/s, success {metrics['success']:.2f}, "
                f"cells {metrics['coverage']:.0%}",
            )

        try:
            agents = explore(folders, seeds, experiment.agent_config, training, world, report)
        except NonFiniteLossError as error:
            folder = folders[seeds.index(error.seed)]
            folder.write_result(describe_exploration(experiment, error.seed, folder, None))
            raise
    for folder, seed, agent in zip(folders, seeds, agents, strict=True):
        if finished_result(folder) is None:
            folder.write_result(describe_exploration(experiment, seed, folder, agent))


def world_of(experiment: Experiment) -> World:
    """Return the maze that an experiment explores."""
    reference: Any = experiment.task.world
    assert reference is not None, "a task to explore names its world"
    return registry.load_reference(reference)(experiment.task.name)
