"""A run's data: found, described, checked against its environment, put on the device."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nfrl import registry
from nfrl.data.actions import action_spec
from nfrl.data.dataset import Dataset
from nfrl.data.load import Data, load, locate
from nfrl.data.trajectories import Trajectories
from nfrl.errors import UserError
from nfrl.experiment.config import DatasetInfo, Experiment
from nfrl.spec import Spec
from nfrl.task import Task
from nfrl.training.offline import to_datasets

# Transitions that are given rewards at a time: data may be larger than the memory.
_PIECE = 1_000_000


def read(
    task: Task,
    uri: str | Path,
    *,
    observation_keys: Sequence[str] = (),
    action_key: str = "",
    tasks: Sequence[str] = (),
    rewards: bool = False,
) -> Data:
    """Read data for a task: translated as it asks, and with its rewards.

    Args:
        task: The task.
        uri: What :func:`nfrl.load` takes.
        observation_keys: What makes an observation, where it is chosen.
        action_key: The name of the action, where it is chosen.
        tasks: Which of the data's tasks, where they are chosen.
        rewards: Whether rewards are needed.

    Raises:
        UserError: Something is wrong with the data, or they have no rewards and need some.
    """
    data = load(
        uri,
        observation_keys=observation_keys or task.observation_keys,
        action_key=action_key,
        tasks=tasks,
    )
    return prepared(task, data, rewards=rewards)


def prepared(task: Task, data: Data, *, rewards: bool = False) -> Data:
    """Return data as a task asks: translated, and with its rewards."""
    training, validation = (
        _labelled(task, _adapted(task, part)) if rewards else _adapted(task, part)
        for part in (data.training, data.validation)
    )
    if rewards and training.rewards is None:
        raise UserError(
            f"{data.uri}: there are no rewards, which the agent learns from; data with rewards "
            "have an array of that name for each step"
        )
    if task.adapt is not None:
        action = action_spec(training.actions, validation.actions, where=data.uri)
        spec = dataclasses.replace(training.spec, action=action)
        training = dataclasses.replace(training, spec=spec)
        validation = dataclasses.replace(validation, spec=spec)
    return dataclasses.replace(data, training=training, validation=validation)


def describe(
    task: Task,
    data: Data,
    *,
    name: str = "",
    observation_keys: Sequence[str] = (),
    action_key: str = "",
    tasks: Sequence[str] = (),
    check: bool = False,
) -> DatasetInfo:
    """Say what data are; their hash names them for good.

    Args:
        task: What they are for.
        data: The data, as :func:`read` gives them.
        name: The data set's name; by default the task's.
        observation_keys: As they were chosen.
        action_key: As it was chosen.
        tasks: As they were chosen.
        check: Whether to hold them against the task's environment, whose bounds then are the
            actions'.

    Raises:
        UserError: Observations or actions are not as wide as the environment's, or an action lies
            outside its bounds.
    """
    spec = dataclasses.replace(data.spec, goal_columns=task.goal_columns)
    if check and task.environment is not None:
        spec = _checked_against(task, spec, data)
    return DatasetInfo(
        name=name or task.dataset,
        path="" if data.path is None else str(data.path),
        origin=data.origin,
        transitions=data.transitions,
        sha256=data.sha256,
        spec=spec,
        uri=data.uri,
        observation_keys=tuple(observation_keys),
        action_key=action_key,
        tasks=tuple(tasks),
    )


def load_data(
    experiment: Experiment, data: Data | None = None, *, on_device: bool = False
) -> tuple[Dataset, Dataset]:
    """Put an experiment's data and its held-out data on the device, or leave them on the host.

    Args:
        experiment: Whose.
        data: The data, where :func:`read` gave them already; else they are read.
        on_device: Whether they are put on the device even where the experiment streams them.

    Raises:
        UserError: A file is missing or damaged, or not the one the run was begun with.
    """
    info = experiment.data
    if data is None:
        data = read(
            experiment.task,
            _where(info),
            observation_keys=info.observation_keys,
            action_key=info.action_key,
            tasks=info.tasks,
            rewards=experiment.agent_config.capabilities.rewards,
        )
    if not data.matches(info.sha256):
        raise UserError(f"{info.path} is not the data this run was begun with: its sha256 differs")
    return to_datasets(data, False if on_device else experiment.offline_training.stream)


def _where(info: DatasetInfo) -> str:
    """Return where a run's data lie: at their place, or wherever their name leads here."""
    if Path(info.path).exists():
        return info.path
    try:
        found = locate(info.uri)
    except UserError:
        found = Path(info.path)
    if not found.exists():
        raise UserError(
            f"{info.path}, the data of this run, are not there; say where they are with --data"
        )
    return str(found)


def _adapted(task: Task, part: Trajectories) -> Trajectories:
    return part if task.adapt is None else registry.load_reference(task.adapt)(part)


def _labelled(task: Task, part: Trajectories) -> Trajectories:
    if task.label is None:
        return part
    label = registry.load_reference(task.label)
    found = [label(task.environment, piece.to_arrays()) for piece in part.pieces(_PIECE)]
    rewards, masks = (np.concatenate(each) for each in zip(*found, strict=True))
    return part.with_rewards(rewards, masks)


def _cure(theirs: Spec) -> str:
    """Say what can be done where data do not fit an environment that observes several arrays."""
    if len(theirs.observation) == 1:
        return ""
    names = ", ".join(
        f"{name} (an image)" if array.is_image else name
        for name, array in theirs.observation.items()
    )
    return f": of {names} choose what the data have, too, with --observation-keys"


def _checked_against(task: Task, spec: Spec, data: Data) -> Spec:
    """Return the spec with the environment's bounds of actions."""
    # Imported here: it imports simulators, and training alone needs none.
    from nfrl.environments.make import environment_spec

    assert task.environment is not None
    theirs = environment_spec(task.environment, task.observation_keys).spec
    ours = (spec.width, spec.action_dim)
    if ours != (theirs.width, theirs.action_dim):
        raise UserError(
            f"{data.uri} has observations of {ours[0]} numbers and actions of {ours[1]}; "
            f"{task.name} has {theirs.width} and {theirs.action_dim}{_cure(theirs)}"
        )
    action = action_spec(
        data.training.actions,
        data.validation.actions,
        bounds=(theirs.action.low, theirs.action.high),
        where=data.uri,
    )
    return dataclasses.replace(spec, action=action)
