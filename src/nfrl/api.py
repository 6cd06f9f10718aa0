"""From Python: fit an agent to data, evaluate it, with no command line and no run folders."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from nfrl.acting.policy import Policy
from nfrl.agents import configs
from nfrl.agents.configs import find_config
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.data.load import Data, load
from nfrl.errors import UserError
from nfrl.evaluation.result import Evaluation
from nfrl.experiment.config import file_name
from nfrl.experiment.data import describe, prepared
from nfrl.experiment.own import own_task, task_for
from nfrl.experiment.pictures import draw
from nfrl.experiment.samples import draw_samples
from nfrl.files import temporary_folder
from nfrl.interfaces.agent import AgentConfig
from nfrl.interfaces.tracker import RunDescription
from nfrl.presets import DEFAULT, find_preset
from nfrl.progress import progress as show_progress
from nfrl.registry import name_of
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record
from nfrl.runs.tracking import Trackers, Tracking, check_trackers
from nfrl.task import Task, find_task
from nfrl.training.offline import OfflineTraining, to_datasets, train


def fit(
    agent: str | AgentConfig,
    data: Data | str | Path | Mapping[str, ArrayLike],
    *,
    steps: int | None = None,
    task: str | Task | None = None,
    env: str | None = None,
    preset: str = DEFAULT,
    seed: int = 0,
    batch_size: int | None = None,
    folder: Path | str | None = None,
    progress: bool = True,
    trackers: Trackers | None = None,
    **values: Any,
) -> Policy:
    """Train an agent on data and return its policy.

    Args:
        agent: Its name (``nf-bc``, ``package.module:MyConfig``), or a configuration.
        data: What :func:`nfrl.load` returns or takes.
        steps: Gradient steps; by default the preset's.
        task: A task that is known by name, whose preset counts; by default one of the data's own.
        env: The environment that the data are of, whose bounds are the actions'. None for none:
            then the data's range is.
        preset: Where values come from that are not given, of an agent by its name.
        seed: Of the initial weights, the batches and the policy.
        batch_size: Transitions a step; by default the preset's.
        folder: Where metrics and checkpoints go, so that the same call goes on from there; by
            default they are dropped.
        progress: Show progress on standard error.
        trackers: What follows the training: names (``wandb``, ``tensorboard``, ``mlflow``,
            ``package.module:Class``), or objects as :mod:`nfrl.interfaces.tracker` tells. By
            default what followed it before in ``folder``.
        values: The agent's own values: ``chunk=5``.

    Returns:
        The policy: ``policy(observation)``, ``policy.log_prob``, ``policy.save``.

    Raises:
        UserError: Something is wrong with the data or the values, or a tracker is unknown; the
            message says what. A tracker that fails later is only warned of.
        ModuleNotFoundError: A tracker's package is not installed.
    """
    check_trackers(trackers or ())
    config = find_config(agent) if isinstance(agent, str) else agent
    name = agent if isinstance(agent, str) else name_of("agents", type(agent))
    can = config.capabilities
    if can.explores:
        raise UserError(f"{name} explores and learns from no data: nfrl train {name} MAZE")
    known = find_task(task) if isinstance(task, str) else task
    known = known or own_task(can, env)
    training: Any = OfflineTraining(steps=30_000, checkpoint_every=10_000)
    if isinstance(agent, str):
        found = find_preset(preset, name, known)
        config, training = found.agent, found.training
    config = with_values(name, config, values)
    changes = {"steps": steps, "batch_size": batch_size, "epochs": None if steps is None else 0}
    training = dataclasses.replace(training, **{k: v for k, v in changes.items() if v is not None})
    loaded = data if isinstance(data, Data) else load(data, observation_keys=known.observation_keys)
    loaded = prepared(known, loaded, rewards=can.rewards)
    info = describe(known, loaded, check=known.environment is not None)
    spec, training = info.spec, training.on(info.transitions)
    with _folder(folder) as place:
        group = "/".join(map(file_name, filter(None, (known.name, name))))
        description = RunDescription(
            name=f"{group}/seed-{seed}",
            group=group,
            config={
                **{"task": known.name, "agent": name, "seed": seed, "data": loaded.uri},
                "agent_config": configs.to_json(config),
                "training": dataclasses.asdict(training),
            },
            folder=None if folder is None else place.path,
        )
        outcome: list[Record] = []
        with Tracking(
            [place],
            trackers,
            describe=lambda _: description,
            record=lambda _: next(iter(outcome), None),
            draw=draw,
            cure="" if folder is None else "the same call sends what is missing",
        ):
            trained, warning = _train(place, name, config, spec, training, loaded, seed, progress)
            outcome.append(
                Record(task=known.name, agent=name, seed=seed, steps=training.steps, score=None)
            )
    if warning:
        warnings.warn(warning, stacklevel=2)
    return Policy(without_optimizer(trained), config, name, spec, steps=training.steps, seed=seed)


def with_values(name: str, config: Any, values: Mapping[str, Any]) -> Any:
    """Return a configuration with other values.

    Raises:
        UserError: It has no such values.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(values.keys() - fields):
        raise UserError(f"{name} has no {unknown[0]}; it has {', '.join(sorted(fields))}")
    return dataclasses.replace(config, **values)


def evaluate(
    policy: Policy,
    env: str | Task,
    *,
    episodes: int = 50,
    seed: int = 0,
    workers: int | None = None,
    horizon: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Let a policy act, and say how it did.

    Args:
        policy: From :func:`fit` or :func:`nfrl.load_policy`.
        env: A task's name, a Gymnasium id, ``module:id`` or ``package.module:Class``.
        episodes: Episodes for each goal.
        seed: Of the episodes and of the policy's random numbers.
        workers: Processes that step environments; by default one per processor core.
        horizon: Steps of an episode; by default the environment's own limit.
        progress: Show progress on standard error.

    Returns:
        Returns, lengths and, where the environment says so, successes, for each goal and episode.

    Raises:
        UserError: There is no such environment, or it does not fit the policy.
    """
    # Imported here: it starts simulators.
    from nfrl.evaluation.rollout import evaluate as play

    can = policy.agent.capabilities
    task = env if isinstance(env, Task) else task_or_environment(env, can, horizon, policy)
    return play(
        task,
        policy.batched(seed),
        episodes=episodes,
        seed=seed,
        workers=workers,
        progress=progress,
    )


def task_or_environment(name: str, can: Any, horizon: int | None, policy: Policy) -> Task:
    """Return the task of a name, or a task of one's own in the environment of that name."""
    with contextlib.suppress(UserError):
        return find_task(name)
    return task_for(can, policy.spec, name, horizon=horizon)


@contextlib.contextmanager
def _folder(folder: Path | str | None) -> Iterator[RunFolder]:
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(temporary_folder("nfrl-fit-")) / "run"
        run = RunFolder(Path(folder).expanduser())
        stack.enter_context(run.held())
        yield run


def _train(
    folder: RunFolder,
    name: str,
    config: AgentConfig,
    spec: Any,
    training: OfflineTraining,
    data: Data,
    seed: int,
    show: bool,
) -> tuple[Any, str]:
    """Return the agent, and what is to be said of what it draws."""
    dataset, validation = to_datasets(data, training.stream)
    with show_progress(f"training {name}", training.steps, "steps", show=show) as update:

        def report(step: int, metrics: dict[str, float]) -> None:
            figures = [f"{key} {value:.3f}" for key, value in metrics.items() if key == "loss"]
            figures += [
                f"held-out {key.removeprefix('val_')} {value:.3f}"
                for key, value in metrics.items()
                if key.startswith("val_")
            ]
            update(step, ", ".join(figures))

        (agent,) = train(
            [folder],
            [seed],
            config,
            spec,
            training,
            dataset,
            validation,
            report,
        )
    return agent, draw_samples(agent, validation).warning
