"""``nfrl train AGENT [TASK]``: data, training, evaluation, record."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import equinox as eqx
import jax.random as jr
import tomli_w
import tyro

from nfrl import registry
from nfrl.agents import configs
from nfrl.agents.configs import agents_that, find_config
from nfrl.cli.finishing import finish
from nfrl.cli.words import early, errors_in_a_line, from_file, with_slots, without
from nfrl.collect.resolve import find_or_make
from nfrl.data.load import Data, is_uri
from nfrl.errors import UserError, unknown_name
from nfrl.experiment.config import Experiment
from nfrl.experiment.data import describe, read
from nfrl.experiment.own import own_task
from nfrl.files import write_atomically
from nfrl.interfaces.agent import AgentConfig, Capabilities
from nfrl.presets import DEFAULT, find_preset, preset_names
from nfrl.runs.folder import RunFolder
from nfrl.runs.tracking import check_trackers
from nfrl.spec import Spec
from nfrl.task import Task, find_task

AgentConfigT = TypeVar("AgentConfigT")
TrainingT = TypeVar("TrainingT")

USAGE = """usage: nfrl train AGENT TASK [options]
       nfrl train AGENT --data URI [--env ENVIRONMENT] [options]
       nfrl train --config FILE [options]

  AGENT   one of: {agents};
          or package.module:MyAgentConfig
  TASK    one that `nfrl tasks` lists, mazes for agents that explore ({explorers});
          or an environment, with --data
  URI     minari:D4RL/door/human-v2, lerobot:lerobot/pusht, a file or folder of another format

Every value of the preset can be changed: nfrl train AGENT TASK --help lists them all.
for example:
  nfrl train nf-gcbc cube-single-play-v0
  nfrl train nf-gcbc scene-play-v0 --preset paper --seeds 0 1 2
  nfrl train nf-bc --data demonstrations.zarr
  nfrl train nf-rlbc --data hdf5:hopper_medium.hdf5 --env Hopper-v5"""


@dataclasses.dataclass(frozen=True)
class TrainOptions(Generic[AgentConfigT, TrainingT]):
    """Train an agent on a task, evaluate it on every goal, and write the result."""

    agent: AgentConfigT
    """The algorithm's own values."""
    training: TrainingT
    """How long, and on how much at a time."""
    preset: str = DEFAULT
    """Where values come from that are not given: "paper" is the paper's configuration; "laptop"
    gives its result on two processor cores in minutes; "far-sighted" goes beyond the paper: nf-rlbc
    for tasks of many subtasks, in about an hour, and goal-conditioned imitation with an arm, five
    actions at once for goals of what decides success alone, in three to twenty minutes."""
    steps: int | None = None
    """Gradient steps; of an agent that explores, environment steps."""
    online_steps: int = 0
    """Steps in the environment that follow the offline run, each with a gradient step (nf-rlbc and
    fql)."""
    seeds: tuple[int, ...] = (0,)
    """One run each; they train together."""
    variant: str = ""
    """A word for what was changed from the preset; it is part of the run's folder."""
    env: str | None = None
    """What to act in: a Gymnasium id, module:id, or package.module:Class. Without one there is no
    evaluation; `nfrl eval RUN --env` can follow."""
    horizon: int | None = None
    """Steps of an episode in --env; by default its own limit."""
    name: str = ""
    """What to call a task of your own; by default as its environment or its data."""
    data: Annotated[str | None, tyro.conf.arg(aliases=["--dataset"])] = None
    """What to learn from: a file or folder of any format, or NAME:REST (docs/data.md)."""
    observation_keys: tuple[str, ...] = ()
    """What makes an observation, by name and in this order: of the data, and of --env."""
    action_key: str = ""
    """The name of the action in the data, where it is not the format's own."""
    tasks: tuple[str, ...] = ()
    """Of a LeRobot data set of several tasks those wanted: numbers or words."""
    data_episodes: int | None = None
    """Episodes of the data set, made here if there is no file; by default the preset's number."""
    data_seed: int = 0
    """The seed of data made here."""
    download: bool = False
    """Ask OGBench's server for the full data set when there is no file."""
    episodes: int = 50
    """Evaluation episodes per goal; 0 for none."""
    curve_episodes: int = 10
    """Episodes per goal of each evaluation on the way (--training.evaluate-every)."""
    workers: int | None = None
    """Processes that step environments; by default one per processor core."""
    runs: Path = Path("runs")
    """Where run folders go: RUNS/TASK/AGENT-PRESET/seed-N."""
    record: Path | None = None
    """A .jsonl file that gets a line per finished run."""
    video: bool = False
    """Film one episode per goal (slow without a graphics card)."""
    track: tuple[str, ...] | None = None
    """What follows the run: wandb, tensorboard, mlflow, or package.module:Class, several
    at once. By default what followed it before. With no name: nothing (docs/tracking.md)."""


# What decides nothing of a run's outcome, or is of this machine.
_NOT_IN_FILE = (
    *("agent", "training", "steps", "runs", "record", "workers", "video", "track", "download"),
)
_OF_DATA = ("data", "env", "horizon", "online_steps", "observation_keys", "action_key", "tasks")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command line asks for, before anything is loaded or made."""

    experiment: Experiment
    """What is to be run; without its data, which may have to be made."""
    folders: list[RunFolder]
    """One per seed."""
    prepare: Callable[[], object]
    """Makes the data that are missing."""
    carry_out: Callable[[], object]
    """Runs it."""

    @property
    def steps(self) -> int:
        """How many steps a finished run's metrics count: of the gradient, or of environments."""
        return self.experiment.steps

    @property
    def has_workers(self) -> bool:
        """Whether it uses processes of simulators."""
        return self.experiment.task.environment is not None


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl train`` and do it."""
    words = list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        if not words:
            raise UserError("train takes an agent, and a task or --data")
        return
    plan(words).carry_out()


def usage() -> str:
    """Return what `nfrl train` takes."""
    explorers = agents_that(explores=True)
    others = [name for name in registry.names("agents") if name not in explorers]
    return USAGE.format(agents=", ".join(others), explorers=", ".join(explorers))


def plan(arguments: Sequence[str], runs: Path | None = None) -> Plan:
    """Parse the words after ``nfrl train``.

    Args:
        arguments: An agent, a task, and options; or ``--config FILE`` and options.
        runs: Where run folders go, if the words do not say.
    """
    words = list(arguments)
    file = early(words, config={"type": Path}).config
    if file is not None:
        words = [*from_file(file), *without(words, "--config")]
        with errors_in_a_line(file):
            return _plan(words, runs)
    return _plan(words, runs)


def _plan(words: Sequence[str], runs: Path | None) -> Plan:
    agent, *rest = words
    if agent.startswith("-"):
        raise UserError("train takes an agent first; `nfrl train --help` lists them")
    name = None if not rest or rest[0].startswith("-") else rest.pop(0)
    if runs is not None:
        rest = ["--runs", str(runs), *rest]
    config = find_config(agent)
    task = _find_task(name, config.capabilities, rest)
    options = _parse(agent, task, rest)
    experiment = _experiment(agent, task, options)
    folders = experiment.run_folders(options.runs)
    if experiment.explores:
        return Plan(
            experiment, folders, lambda: None, lambda: train(experiment, None, options, name)
        )
    return Plan(
        experiment,
        folders,
        prepare=lambda: make_data(task, options),
        carry_out=lambda: train(experiment, read_data(experiment, options), options, name),
    )


def train(
    experiment: Experiment, data: Data | None, options: TrainOptions, name: str | None = None
) -> list[RunFolder]:
    """Train, evaluate and record as asked; return the run folders.

    Args:
        experiment: What to run; without its data.
        data: Its data; None for an explorer.
        options: As they were given.
        name: The task, as it was named; None for one of data alone.
    """
    if data is not None:
        chosen = ("observation_keys", "action_key", "tasks")
        info = describe(
            experiment.task,
            data,
            **{name: getattr(options, name) for name in chosen},
            check=options.data is not None or is_uri(experiment.task.dataset),
        )
        training = experiment.offline_training.on(info.transitions)
        experiment = dataclasses.replace(experiment, dataset=info, training=training)
        for note in data.notes:
            print(f"{data.uri}: {note}")
    folders = experiment.run_folders(options.runs)
    for folder in folders:
        if folder.is_begun and Experiment.of(folder) != experiment:
            raise UserError(
                f"{folder.path} holds a run with other values; give this one a --variant name or "
                "another --runs folder"
            )
    finish(
        experiment,
        folders,
        data=data,
        workers=options.workers,
        record=options.record,
        video=options.video,
        trackers=options.track,
        begin=lambda folder: _write_file(experiment, options, folder, name),
    )
    return folders


def read_data(experiment: Experiment, options: TrainOptions) -> Data:
    """Find, or make, and read what to learn from."""
    return read(
        experiment.task,
        make_data(experiment.task, options),
        observation_keys=options.observation_keys,
        action_key=options.action_key,
        tasks=options.tasks,
        rewards=experiment.agent_config.capabilities.rewards,
    )


def make_data(task: Task, options: TrainOptions) -> str | Path:
    """Name the data to learn from, and make them if they are not there.

    See :func:`nfrl.collect.resolve.find_or_make`.
    """
    if options.data is not None:
        return options.data
    if is_uri(task.dataset):
        return task.dataset
    return find_or_make(
        task.dataset,
        episodes=options.data_episodes,
        seed=options.data_seed,
        download=options.download,
        workers=options.workers,
    )


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes that is none."""
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")


def check_variant(variant: str) -> None:
    """Refuse a word that no folder can be called."""
    if variant and not re.fullmatch(r"\w[\w.+-]*", variant):
        raise UserError(
            f"variant {variant!r} is no name of a folder: letters, digits, and . _ + - after them"
        )


def _find_task(name: str | None, can: Capabilities, words: Sequence[str]) -> Task:
    """Return the task of a name; or one of the user's own, in an environment or of data alone."""
    own = early(
        words,
        env={},
        data={},
        dataset={},
        name={},
        horizon={"type": int},
        observation_keys={"nargs": "*", "default": ()},
    )
    data = own.data or own.dataset
    if name is not None and own.env is None:
        known = registry.mappings("tasks")
        if name in known or (registry.is_reference(name) and data is None):
            return find_task(name)
        if data is None:
            raise unknown_name("task", name, known)
    elif name is not None:
        raise UserError(f"{name} and --env {own.env}: name one of them, --name gives it a name")
    environment = own.env or name
    if environment is None and data is None:
        raise UserError("train takes a task, or data of your own: --data URI")
    if data is None and not {"-h", "--help"} & set(words):
        raise UserError(f"{environment} needs data to learn from: --data URI")
    if name is not None:
        found = _task_of_reference(name)
        if found is not None:
            return found
    title = own.name or environment or Path(str(data).rstrip("/").rpartition(":")[2]).stem
    return own_task(
        can,
        environment,
        name=title,
        horizon=own.horizon,
        observation_keys=own.observation_keys,
    )


def _task_of_reference(name: str) -> Task | None:
    """Return the task that ``package.module:name`` leads to, if it leads to one."""
    if not registry.is_reference(name):
        return None
    try:
        value = registry.load_reference(name)
    except UserError:
        return None
    return value if isinstance(value, Task) else None


def _experiment(agent: str, task: Task, options: TrainOptions) -> Experiment:
    """Return what the options ask for, without its data."""
    seeds, can = options.seeds, options.agent.capabilities
    if len(set(seeds)) < len(seeds) or min(seeds, default=-1) < 0:
        raise UserError("seeds must be distinct, at least one, and none negative")
    if options.episodes < 0:
        raise UserError(f"episodes must be at least 0, not {options.episodes}")
    if options.curve_episodes < 1:
        raise UserError(f"curve-episodes must be at least 1, not {options.curve_episodes}")
    check_workers(options.workers)
    check_variant(options.variant)
    check_trackers(options.track or ())
    if options.online_steps and not can.online:
        online = " and ".join(agents_that(online=True))
        raise UserError(f"--online-steps is for {online}, not for {agent}")
    training = options.training
    if can.explores:
        given = [name for name in _OF_DATA if getattr(options, name)]
        if given:
            raise UserError(f"--{given[0].replace('_', '-')} is not for agents that explore")
        if options.steps is not None:
            training = dataclasses.replace(training, environment_steps=options.steps)
    else:
        if options.steps is not None:
            training = dataclasses.replace(training, steps=options.steps, epochs=0)
        _refuse_unbuildable(options.agent, training.steps)
    return Experiment(
        task=task,
        agent=agent,
        preset=options.preset,
        variant=options.variant,
        seeds=seeds,
        agent_config=options.agent,
        training=training,
        episodes=options.episodes,
        curve_episodes=options.curve_episodes,
        online_steps=options.online_steps,
    )


def _parse(agent: str, task: Task, arguments: Sequence[str]) -> TrainOptions:
    found = early(arguments, preset={"default": DEFAULT}, actor={})
    if found.preset not in preset_names():
        raise unknown_name("preset", found.preset, preset_names())
    preset = find_preset(found.preset, agent, task)
    config, words = with_slots(preset.agent, arguments)
    if found.actor is not None:
        if not hasattr(config, "actor"):
            raise UserError(f"{agent} has a Gaussian actor; --actor is for nf-ugs")
        words = [word.replace("--actor", "--agent.actor", 1) for word in words]
    kind: Any = TrainOptions[type(config), type(preset.training)]  # type: ignore[misc]
    return tyro.cli(
        kind,
        args=words,
        prog=f"nfrl train {agent} {task.name}",
        default=TrainOptions(
            agent=config,
            training=preset.training,
            preset=found.preset,
            data_episodes=preset.episodes,
        ),
        config=(tyro.conf.AvoidSubcommands,),
    )


def _refuse_unbuildable(config: AgentConfig, steps: int) -> None:
    """Find out before data are made whether networks of these sizes can be, for so long a run."""
    try:
        hash(config)
        build = _build_shapes_once
    except TypeError:  # one of a user's, with a list in it, say
        build = _build_shapes
    try:
        build(config, steps)
    except ValueError as error:
        raise UserError(str(error)) from error


def _build_shapes(config: AgentConfig, steps: int) -> None:
    # As wide as any task's: what a value must not exceed there, the real build tells.
    eqx.filter_eval_shape(lambda: config.build(jr.key(0), Spec.vectors(1000, 2), steps))


# A suite of thousands of runs has few configurations.
_build_shapes_once: Any = functools.lru_cache(_build_shapes)


def _write_file(
    experiment: Experiment, options: TrainOptions, folder: RunFolder, name: str | None
) -> None:
    """Write the file that makes this run again: ``nfrl train --config run.toml``."""
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in _NOT_IN_FILE
    }
    task = experiment.task
    if options.data is not None and experiment.dataset is not None:
        given["data"] = experiment.dataset.uri
    if task.name in registry.mappings("tasks"):
        given["task"] = task.name
    elif name is not None and _task_of_reference(name) == task:
        given["task"] = name
    else:
        given |= {"name": task.name, "env": task.environment, "horizon": task.horizon}
    values = {
        **given,
        "agent": {"name": experiment.agent, **configs.to_json(experiment.agent_config)},
        "training": dataclasses.asdict(experiment.training),
    }
    text = "# Makes this run again: nfrl train --config run.toml --runs ELSEWHERE\n"
    text += tomli_w.dumps(_plain(values))
    write_atomically(folder.path / "run.toml", lambda file: file.write(text.encode()))


def _plain(value: Any) -> Any:
    """Return a value as TOML can say it: it knows no None."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
