"""From a task and an agent to a scored run: data, training, evaluation, result."""

import dataclasses
import datetime
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import cattrs
import jax
import numpy as np

from nfrl.acting.acting import Policy, batched_policy
from nfrl.agents import (
    AGENTS,
    GOAL_CONDITIONED,
    Agent,
    AgentConfig,
    build_agent,
)
from nfrl.analysis import sampling_milliseconds
from nfrl.benchmarks import find_task
from nfrl.benchmarks.ogbench import rewards
from nfrl.benchmarks.presets import BEYOND_PAPER
from nfrl.collect import resolve
from nfrl.data.dataset import Dataset
from nfrl.data.formats import ogbench
from nfrl.data.load import load
from nfrl.environments.rewarded import RewardedEnvironment
from nfrl.environments.slots import make_environment
from nfrl.errors import UserError
from nfrl.evaluation.result import Evaluation
from nfrl.evaluation.rollout import evaluate
from nfrl.evaluation.video import VideoUnavailable, record_video
from nfrl.files import write_atomically
from nfrl.networks import count_parameters
from nfrl.progress import Update, progress
from nfrl.runs.folder import RunFolder, is_exploration
from nfrl.runs.provenance import device, provenance, provenance_of
from nfrl.task import Task
from nfrl.training.offline import (
    NonFiniteLossError,
    OfflineTraining,
    latest_step,
    load_agent,
    train,
)
from nfrl.training.online import OnlineSteps, check_chunk, go_online, load_online

SAMPLED_STATES, SAMPLES_PER_STATE = 12, 200

# A value that this version does not know must not be dropped in silence.
CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a run was trained on."""

    name: str
    path: str
    origin: str
    transitions: int
    observation_dim: int
    action_dim: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run's outcome."""

    task: str
    agent: str
    preset: str
    variant: str
    """What was changed from the preset, in a word: "no-linear"; empty for nothing."""
    seeds: tuple[int, ...]
    agent_config: AgentConfig
    training: OfflineTraining
    dataset: DatasetInfo
    episodes: int = 50
    """Evaluation episodes per goal; 0 for no evaluation."""
    curve_episodes: int = 10
    """Episodes per goal of each evaluation on the way, where ``training`` asks for some."""
    online_steps: int = 0
    """Steps in the environment that follow the offline run; 0 for an offline run alone."""

    @property
    def offline(self) -> "Experiment":
        """The offline run that this one begins with: itself, if nothing follows."""
        return dataclasses.replace(self, online_steps=0)

    def run_folders(self, root: Path) -> list[RunFolder]:
        """Return the folder of each seed below a root."""
        return run_folders(
            root, self.task, self.agent, self.preset, self.variant, self.seeds, self.online_steps
        )

    def to_json(self, seed: int) -> dict[str, Any]:
        """Return config.json of one of the seeds."""
        return {"seed": seed, **dataclasses.asdict(self), **provenance()}

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Experiment":
        """Read config.json back.

        Raises:
            UserError: It is of another program's making, or an older version's.
        """
        try:
            names = {field.name for field in dataclasses.fields(cls)}
            values = {name: value for name, value in config.items() if name in names}
            values["agent_config"] = CONVERTER.structure(
                config["agent_config"], AGENTS[config["agent"]]
            )
            values["training"] = CONVERTER.structure(config["training"], OfflineTraining)
            values["dataset"] = CONVERTER.structure(config["dataset"], DatasetInfo)
            values["seeds"] = tuple(config["seeds"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, cattrs.BaseValidationError) as error:
            raise UserError(
                f"config.json does not describe a run of this version: {error!r}"
            ) from (error)


def run_folders(
    root: Path,
    task: str,
    agent: str,
    preset: str,
    variant: str,
    seeds: Sequence[int],
    online_steps: int = 0,
) -> list[RunFolder]:
    """Return the run folder of each seed: ROOT/TASK/AGENT-PRESET[-VARIANT][-online]/seed-N."""
    name = f"{agent}-{preset}" + (f"-{variant}" if variant else "")
    name += "-online" if online_steps else ""
    return [RunFolder(root / task / name / f"seed-{seed}") for seed in seeds]


def describe_dataset(name: str, path: Path) -> DatasetInfo:
    """Say what a data set is; its hash names it for good.

    Args:
        name: The task's data set.
        path: An OGBench file, or demonstrations in a folder of another format.
    """
    if path.is_dir():
        found = load(path)
        return DatasetInfo(
            name=name,
            path=str(path),
            origin="file",
            transitions=found.training.transitions + found.validation.transitions,
            observation_dim=found.spec.observation_dim,
            action_dim=found.spec.action_dim,
            sha256=found.sha256,
        )
    summary = ogbench.summarize(path)
    return DatasetInfo(
        name=name,
        path=str(path),
        origin=resolve.origin(path),
        transitions=summary.transitions,
        observation_dim=summary.observation_size,
        action_dim=summary.action_size,
        sha256=summary.sha256,
    )


def check_fits(dataset: DatasetInfo, task: Task) -> None:
    """Refuse a data set whose numbers are not as many as the task's environment has.

    Raises:
        UserError: It is such a one.
    """
    environment = make_environment(task.environment)
    theirs = (environment.observation_space.shape[0], environment.action_space.shape[0])
    environment.close()
    ours = (dataset.observation_dim, dataset.action_dim)
    if ours != theirs:
        raise UserError(
            f"{dataset.path} has observations of {ours[0]} numbers and actions of {ours[1]}; "
            f"{task.name} has {theirs[0]} and {theirs[1]}"
        )


def run(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    *,
    workers: int | None = None,
    video: bool = False,
    show: bool = True,
) -> list[dict[str, Any]]:
    """Train, evaluate and record, going on from whatever the folders hold.

    A seed that has its result already keeps it.

    Args:
        experiment: What to run.
        folders: One per seed.
        workers: Processes that step environments; by default one per processor core.
        video: Film one episode per goal.
        show: Show progress.

    Returns:
        Each seed's result, as written to its result.json.

    Raises:
        UserError: See :func:`nfrl.training.offline.train`. A run whose loss became non-finite is
            recorded as diverged first.
    """
    results = [finished_result(folder) for folder in folders]
    if None not in results:
        return [result for result in results if result is not None]
    if experiment.online_steps:
        return _run_online(experiment, folders, workers=workers, video=video, show=show)
    dataset, validation = load_data(experiment)
    for folder, seed in zip(folders, experiment.seeds, strict=True):
        if not folder.is_begun:
            folder.write_config(experiment.to_json(seed))
    try:
        agents = _train(experiment, folders, dataset, validation, workers, show)
    except NonFiniteLossError as error:
        folder = folders[experiment.seeds.index(error.seed)]
        folder.write_result(describe_result(experiment, error.seed, folder, None, None))
        raise
    for folder, seed, agent in zip(folders, experiment.seeds, agents, strict=True):
        if finished_result(folder) is None:
            save_samples(folder, agent, validation)
            score(experiment, seed, folder, agent, workers=workers, video=video, show=show)
    return [result for folder in folders if (result := folder.read_result())]


def _run_online(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    *,
    workers: int | None,
    video: bool,
    show: bool,
) -> list[dict[str, Any]]:
    """Go on from the offline run, which is made first if it is not there."""
    # Refused before the offline run, not after it.
    check_chunk(experiment.agent_config.chunk)
    befores = [
        _offline_folder(experiment, folder, seed)
        for folder, seed in zip(folders, experiment.seeds, strict=True)
    ]
    for before in befores:
        _refuse_other_values(experiment.offline, before)
    steps = OnlineSteps(experiment.online_steps, experiment.training.batch_size)
    task, offline = find_task(experiment.task), experiment.offline
    run(offline, befores, workers=workers, show=show)
    dataset, validation = load_data(experiment)
    results = []
    for seed, folder, before in zip(experiment.seeds, folders, befores, strict=True):
        if (finished := finished_result(folder)) is not None:
            results.append(finished)
            continue
        if not folder.is_begun:
            folder.write_config(experiment.to_json(seed))
        title = f"training {experiment.agent} on in {experiment.task}"
        with progress(title, experiment.online_steps, "steps", show=show) as update:

            def report(step: int, metrics: dict[str, float], update: Update = update) -> None:
                update(step, f"loss {metrics['loss']:.3f}, reward {metrics['reward']:.3f}")

            try:
                agent = go_online(
                    folder,
                    load_trained(offline, before),
                    RewardedEnvironment(task.environment, task.horizon, seed),
                    dataset,
                    steps,
                    seed=seed,
                    report=report,
                )
            except NonFiniteLossError:
                folder.write_result(describe_result(experiment, seed, folder, None, None))
                raise
        save_samples(folder, agent, validation)
        results.append(
            score(experiment, seed, folder, agent, workers=workers, video=video, show=show)
        )
    return results


def _offline_folder(experiment: Experiment, folder: RunFolder, seed: int) -> RunFolder:
    """Return where the run is, or will be, that a seed goes on from online."""
    root = folder.path.parent.parent.parent
    return experiment.offline.run_folders(root)[experiment.seeds.index(seed)]


def _refuse_other_values(offline: Experiment, folder: RunFolder) -> None:
    """Refuse to go on from a run of other values; a finished one may have had more seeds."""
    if not folder.is_begun:
        return
    found = Experiment.from_json(folder.read_config())
    free = ["episodes", "curve_episodes"] + ["seeds"] * (finished_result(folder) is not None)
    if dataclasses.replace(found, **{name: getattr(offline, name) for name in free}) != offline:
        raise UserError(
            f"{folder.path}, where this run would go on from, holds one with other values; give "
            "this one a --variant name or another --runs folder"
        )


def score(
    experiment: Experiment,
    seed: int,
    folder: RunFolder,
    agent: Agent,
    *,
    workers: int | None = None,
    video: bool = False,
    keep: bool = True,
    show: bool = True,
) -> dict[str, Any]:
    """Evaluate a trained agent; return the result.

    Args:
        experiment: What it was trained in; with its number of evaluation episodes.
        seed: The run's seed.
        folder: The run's folder.
        agent: The agent.
        workers: Processes that step environments; by default one per processor core.
        video: Film one episode per goal, into the run's folder.
        keep: Write evaluation.npz and result.json.
        show: Show progress.
    """
    task, policy = find_task(experiment.task), batched_policy(agent, seed)
    evaluation = None
    if experiment.episodes:
        evaluation = evaluate(
            task,
            policy,
            episodes=experiment.episodes,
            seed=seed,
            workers=workers,
            progress=show,
        )
    if video:
        try:
            record_video(task, policy, folder.path / "video.mp4", seed=seed, progress=show)
        except VideoUnavailable as error:
            print(error)  # The score stands without it.
    result = describe_result(experiment, seed, folder, agent, evaluation)
    if keep:
        if evaluation is not None:
            evaluation.save(folder.evaluation_file)
        folder.write_result(result)
    return result


def finished_result(folder: RunFolder) -> dict[str, Any] | None:
    """Return a run's result; None while it has none, or if it diverged."""
    result = folder.read_result()
    return result if result is not None and result["status"] == "finished" else None


def load_data(experiment: Experiment) -> tuple[Dataset, Dataset]:
    """Load an experiment's data and its held-out data.

    Raises:
        UserError: A file is missing or damaged, or not the one the run was begun with.
    """
    path = Path(experiment.dataset.path)
    if path.is_dir():
        return _load_demonstrations(experiment, path)
    task = find_task(experiment.task)
    label = partial(rewards.label, task.environment) if task.rewards else None
    dataset = Dataset.from_file(path, label)
    if ogbench.sha256(path) != experiment.dataset.sha256:
        raise UserError(f"{path} is not the data this run was begun with: its sha256 differs")
    held_out = ogbench.validation_path(path)
    validation = Dataset.from_file(held_out, label)
    for kind in ("observations", "actions"):
        ours, theirs = (getattr(data, kind).shape[1] for data in (dataset, validation))
        if ours != theirs:
            raise UserError(f"{held_out}: {kind} are {theirs} wide, but those of {path} {ours}")
    return dataset, validation


def _load_demonstrations(experiment: Experiment, path: Path) -> tuple[Dataset, Dataset]:
    """Load demonstrations in another format than OGBench's; a tenth of the episodes is held out."""
    found = load(path)
    if not found.matches(experiment.dataset.sha256):
        raise UserError(f"{path} is not the data this run was begun with: its numbers differ")
    parts = (found.training, found.validation)
    if find_task(experiment.task).rewards and found.training.rewards is None:
        raise UserError(
            f"{path}: demonstrations have no rewards, which {experiment.task} needs; give an "
            "OGBench .npz file of its environment"
        )
    actions = [part.actions for part in parts]
    if experiment.task == "pusht":
        # Published demonstrations say where the disc is to go in pixels.
        from nfrl.benchmarks.imitation.pusht import actions_of

        actions = [actions_of(each) for each in actions]
    largest = max(float(np.abs(each).max()) for each in actions)
    if largest > 1 + ogbench.ACTION_TOLERANCE:
        raise UserError(
            f"{path}: actions must lie in [-1, 1], as the environments take them; the largest "
            f"here is {largest:g}"
        )
    training, validation = (
        dataclasses.replace(part, actions=each).to_dataset()
        for part, each in zip(parts, actions, strict=True)
    )
    return training, validation


def load_trained(experiment: Experiment, folder: RunFolder, step: int | None = None) -> Agent:
    """Load a run's agent from its latest checkpoint, or that of a step; the data are not needed.

    Raises:
        UserError: There is no such checkpoint, or it is cut short.
    """
    if experiment.online_steps:
        sizes = (experiment.dataset.observation_dim, experiment.dataset.action_dim)
        key, steps = jax.random.key(0), experiment.training.steps
        return load_online(folder, build_agent(experiment.agent_config, key, *sizes, steps), step)
    return load_agent(
        folder,
        experiment.agent_config,
        experiment.dataset.observation_dim,
        experiment.dataset.action_dim,
        experiment.training.steps,
        step,
    )


def load_policy(run: Path | str, *, step: int | None = None, seed: int = 0) -> Policy:
    """Load a run's agent, ready to act in an environment.

    Args:
        run: The run's folder, runs/TASK/AGENT-PRESET/seed-N.
        step: The checkpoint's step; by default the latest.
        seed: Of the policy's own random numbers.

    Raises:
        UserError: It is no run's folder, or one that explored a maze; there is no such checkpoint,
            or it is cut short.
    """
    folder = RunFolder(Path(run).resolve())
    config = folder.read_config()
    if is_exploration(config):
        raise UserError(
            f"{folder.path} explored a maze: its agent is not made for other simulators"
        )
    experiment = Experiment.from_json(config)
    agent = load_trained(experiment, folder, step)
    seeks_goals = experiment.agent in GOAL_CONDITIONED
    return Policy(agent, experiment.dataset.observation_dim, seeks_goals=seeks_goals, seed=seed)


def _train(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    dataset: Dataset,
    validation: Dataset,
    workers: int | None,
    show: bool,
) -> list[Agent]:
    seeds = experiment.seeds
    task = find_task(experiment.task)
    title = f"training {experiment.agent} on {experiment.task}"
    if len(seeds) > 1:
        title += f" ({len(seeds)} seeds)"
    start = latest_step(folders)
    began = time.perf_counter()
    with progress(title, experiment.training.steps, "steps", done=start, show=show) as update:

        def report(step: int, metrics: dict[str, float]) -> None:
            rate = (step - start) * len(seeds) / (time.perf_counter() - began)
            figures = [f"{rate:.0f} updates/s", f"loss {metrics['loss']:.3f}"]
            figures += [
                f"held-out {name.removeprefix('val_')} {value:.3f}"
                for name, value in metrics.items()
                if name.startswith("val_")
            ]
            update(step, ", ".join(figures))

        def evaluate_on_the_way(index: int, agent: Agent) -> dict[str, float]:
            found = evaluate(
                task,
                batched_policy(agent, seeds[index]),
                episodes=experiment.curve_episodes,
                seed=seeds[index],
                workers=workers,
                progress=False,
            )
            return {"score": found.score}

        return train(
            folders,
            seeds,
            experiment.agent_config,
            experiment.training,
            dataset,
            validation,
            report,
            evaluate_on_the_way,
        )


def save_samples(folder: RunFolder, agent: Agent, data: Dataset) -> None:
    """Save actions of the policy beside the data's, at a few states of held-out data."""
    rows = np.random.default_rng(0).choice(np.asarray(data.transitions), SAMPLED_STATES)
    goals = np.minimum(rows + 20, np.asarray(data.last)[rows])
    observations = np.asarray(data.observations)
    states = np.repeat(observations[rows], SAMPLES_PER_STATE, axis=0)
    targets = np.repeat(observations[goals], SAMPLES_PER_STATE, axis=0)
    count = len(states)
    actions = batched_policy(agent)(states, targets, np.arange(count), np.zeros(count, np.int64))
    arrays = {
        "actions": actions.reshape(SAMPLED_STATES, SAMPLES_PER_STATE, -1),
        "data_actions": np.asarray(data.actions)[rows],
    }
    write_atomically(folder.samples_file, lambda file: np.savez(file, **arrays))


def describe_result(
    experiment: Experiment,
    seed: int,
    folder: RunFolder,
    agent: Agent | None,
    evaluation: Evaluation | None,
) -> dict[str, Any]:
    """Return the record of a run: what was run, on what, with what, and what came out.

    ``train_seconds`` is the wall-clock time of all seeds that trained together, and
    ``steps_per_second`` the rate of gradient steps summed over them. ``curve`` holds the steps,
    seconds and scores of the evaluations on the way. Of a run that went on online these are of
    what came then, when seeds take turns; ``steps`` stays the length of the offline run.
    ``versions``, ``commit`` and ``device`` are what trained; ``evaluated_on`` is there if another
    device evaluated, and then ``sample_ms`` is of that one.
    """
    steps, together = experiment.training.steps, len(experiment.seeds)
    if experiment.online_steps:
        steps, together = experiment.online_steps, 1
    seconds = folder.seconds_until(steps)
    begun, here = provenance_of(folder.read_config()), device()
    dataset = {
        key: value for key, value in dataclasses.asdict(experiment.dataset).items() if key != "path"
    }
    return {
        "task": experiment.task,
        "agent": experiment.agent,
        "preset": experiment.preset,
        # Runs that went on are no repetitions of those that did not.
        "variant": _variant(experiment),
        "seed": seed,
        "steps": experiment.training.steps,
        "status": "diverged" if agent is None else "finished",
        **_scores(evaluation),
        **_online(experiment, folder, seed),
        "episodes": experiment.episodes,
        "dataset": dataset,
        "parameters": agent and count_parameters(agent.policy),
        "config": {
            "agent": dataclasses.asdict(cast(Any, experiment.agent_config)),
            "training": dataclasses.asdict(experiment.training),
        },
        **begun,
        **({} if here == begun["device"] else {"evaluated_on": here}),
        "seeds_together": together,
        "train_seconds": round(seconds, 1),
        "steps_per_second": round(steps * together / seconds, 1) if agent and seconds else None,
        "curve": folder.read_curve(),
        "sample_ms": agent
        and round(sampling_milliseconds(agent, experiment.dataset.observation_dim), 3),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _scores(evaluation: Evaluation | None) -> dict[str, Any]:
    """Return the score: how far episodes came at their end, where their task says; or success."""
    if evaluation is None:
        return {"score": None, "scores": None, "interval": None}

    def rounded(values: Any) -> list[float]:
        return [round(float(value), 4) for value in values]

    if evaluation.final_scores is None or evaluation.max_scores is None:
        return {
            "score": round(evaluation.score, 4),
            "scores": rounded(evaluation.scores),
            "interval": rounded(evaluation.interval),
        }
    entropy = evaluation.mode_entropy
    return {
        "score": rounded([evaluation.final_scores.mean()])[0],
        "scores": rounded(evaluation.final_scores.mean(axis=1)),
        "interval": rounded(evaluation.final_score_interval),
        "max_score": rounded([evaluation.max_scores.mean()])[0],
        "success": round(evaluation.score, 4),
        "mode_entropy": None if entropy is None else round(entropy, 4),
    }


def _online(experiment: Experiment, folder: RunFolder, seed: int) -> dict[str, Any]:
    """Return what an online run's record says beside: its steps, and the score before them."""
    if not experiment.online_steps:
        return {}
    before = _offline_folder(experiment, folder, seed).read_result()
    return {
        "online_steps": experiment.online_steps,
        "offline_score": before and before["score"],
    }


def _variant(experiment: Experiment) -> str:
    words = (
        experiment.preset if experiment.preset in BEYOND_PAPER else "",
        experiment.variant,
        "online" if experiment.online_steps else "",
    )
    return "-".join(filter(None, words))
