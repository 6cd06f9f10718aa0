"""``nfrl train AGENT TASK``: data, training, evaluation, record."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import equinox as eqx
import jax.random as jr
import tyro

from nfrl.agents import AGENTS, EXPLORERS, AgentConfig, build_agent
from nfrl.benchmarks import Task, find_task
from nfrl.benchmarks.mazes import MAZES
from nfrl.benchmarks.presets import PRESETS, PresetName, find_preset
from nfrl.cli import explore
from nfrl.cli.finishing import finishing
from nfrl.collect.resolve import find_or_make
from nfrl.errors import UserError, unknown_name
from nfrl.experiment import Experiment, check_fits, describe_dataset, run_folders
from nfrl.experiment import run as run_experiment
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record, append_record
from nfrl.training.offline import OfflineTraining

# They learn from any transitions; the others need the data's next actions or have no use for more.
ONLINE = ("nf-rlbc", "fql")
AgentConfigT = TypeVar("AgentConfigT")

USAGE = """usage: nfrl train AGENT TASK [options]

  AGENT   one of: {agents}
  TASK    one that `nfrl tasks` lists; for agents that explore ({explorers}) a maze:
          {mazes}

Every value of the preset can be changed: nfrl train AGENT TASK --help lists them all.
for example:
  nfrl train nf-gcbc cube-single-play-v0
  nfrl train nf-gcbc scene-play-v0 --preset paper --seeds 0 1 2
  nfrl train nf-gcbc cube-single-play-v0 --agent.mixing none --variant no-linear"""


@dataclasses.dataclass(frozen=True)
class TrainOptions(Generic[AgentConfigT]):
    """Train an agent on a task, evaluate it on every goal, and write the result."""

    agent: AgentConfigT
    """The algorithm's own values."""
    training: OfflineTraining
    """How long, and on how much at a time."""
    preset: PresetName = "laptop"
    """Where values come from that are not given: "paper" is the paper's configuration; "laptop"
    gives its result on two processor cores in minutes; "far-sighted" goes beyond the paper: nf-rlbc
    for tasks of many subtasks, in about an hour, and goal-conditioned imitation with an arm, five
    actions at once for goals of what decides success alone, in three to twenty minutes."""
    steps: int | None = None
    """Gradient steps (the same as --training.steps)."""
    online_steps: int = 0
    """Steps in the environment that follow the offline run, each with a gradient step (nf-rlbc and
    fql)."""
    seeds: tuple[int, ...] = (0,)
    """One run each; they train together."""
    variant: str = ""
    """A word for what was changed from the preset; it is part of the run's folder."""
    dataset: Path | None = None
    """An OGBench file to learn from (its -val.npz stands beside it); or for imitation a folder of
    demonstrations (docs/demonstrations.md)."""
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


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command line asks for, before anything is loaded or made."""

    folders: list[RunFolder]
    """One per seed."""
    steps: int
    """How many steps a finished run's metrics count: of the gradient, or of environments."""
    prepare: Callable[[], object]
    """Makes the data that are missing."""
    carry_out: Callable[[], object]
    """Runs it."""
    describe: Callable[[Record], str]
    """Says a result in a line."""
    has_workers: bool
    """Whether it takes --workers: simulators outside the compiled program."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl train`` and do it."""
    if len(arguments) < 2 or arguments[0].startswith("-"):
        explorers = ", ".join(EXPLORERS)
        print(USAGE.format(agents=", ".join(AGENTS), explorers=explorers, mazes=", ".join(MAZES)))
        if not arguments or arguments[0] not in ("-h", "--help"):
            raise UserError("train takes an agent and a task")
        return
    plan(arguments).carry_out()


def plan(arguments: Sequence[str], runs: Path | None = None) -> Plan:
    """Parse the words after ``nfrl train``.

    Args:
        arguments: An agent, a task, and options.
        runs: Where run folders go, if the words do not say.
    """
    agent, name, *rest = arguments
    words = rest if runs is None else ["--runs", str(runs), *rest]
    if agent in EXPLORERS:
        exploring = explore.parse(agent, name, _preset_name(rest), words)
        exploration = explore.exploration(agent, name, exploring)
        return Plan(
            folders=exploration.run_folders(exploring.runs),
            steps=exploration.training.rounds * exploration.training.round_steps,
            prepare=lambda: None,
            carry_out=lambda: explore.train(exploration, exploring),
            describe=explore.describe,
            has_workers=False,
        )
    if agent not in AGENTS:
        raise unknown_name("agent", agent, [*AGENTS, *EXPLORERS])
    if name in MAZES:
        raise UserError(f"{name} is a maze to explore; agents for it: {', '.join(EXPLORERS)}")
    task = find_task(name)
    options = _parse(agent, task, words)
    folders = run_folders(
        options.runs,
        task.name,
        agent,
        options.preset,
        options.variant,
        options.seeds,
        options.online_steps,
    )
    return Plan(
        folders=folders,
        steps=options.online_steps or _training(options).steps,
        prepare=lambda: make_data(task, options),
        carry_out=lambda: train(agent, task, options),
        describe=describe,
        has_workers=True,
    )


def train(agent: str, task: Task, options: TrainOptions) -> list[RunFolder]:
    """Train, evaluate and record as asked; return the run folders."""
    training = _training(options)
    if len(set(options.seeds)) < len(options.seeds) or min(options.seeds, default=-1) < 0:
        raise UserError("seeds must be distinct, at least one, and none negative")
    if options.episodes < 0:
        raise UserError(f"episodes must be at least 0, not {options.episodes}")
    if options.curve_episodes < 1:
        raise UserError(f"curve-episodes must be at least 1, not {options.curve_episodes}")
    check_workers(options.workers)
    check_variant(options.variant)
    if options.online_steps and agent not in ONLINE:
        raise UserError(f"--online-steps is for {' and '.join(ONLINE)}, not for {agent}")
    _refuse_unbuildable(options.agent, training.steps)
    data_file = make_data(task, options)
    dataset = describe_dataset(task.dataset, data_file)
    if options.dataset is not None:
        check_fits(dataset, task)
    experiment = Experiment(
        task=task.name,
        agent=agent,
        preset=options.preset,
        variant=options.variant,
        seeds=options.seeds,
        agent_config=options.agent,
        training=training,
        dataset=dataset,
        episodes=options.episodes,
        curve_episodes=options.curve_episodes,
        online_steps=options.online_steps,
    )
    folders = experiment.run_folders(options.runs)
    _refuse_other_runs(experiment, folders)
    finish(
        experiment,
        folders,
        workers=options.workers,
        record=options.record,
        video=options.video,
    )
    return folders


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


def make_data(task: Task, options: TrainOptions) -> Path:
    """Find the file to learn from, or make it; see :func:`nfrl.collect.resolve.find_or_make`."""
    return find_or_make(
        task.dataset,
        path=options.dataset,
        episodes=options.data_episodes,
        seed=options.data_seed,
        download=options.download,
        workers=options.workers,
    )


def finish(
    experiment: Experiment,
    folders: Sequence[RunFolder],
    *,
    workers: int | None,
    record: Path | None,
    video: bool = False,
) -> None:
    """Run an experiment to its end, from wherever it stands, and say what came out."""
    with finishing(folders, experiment.seeds, record):
        results = run_experiment(experiment, folders, workers=workers, video=video)
    for folder, result in zip(folders, results, strict=True):
        if record is not None:
            append_record(record, result)
        print(f"{folder.path}: {describe(result)}")


def describe(result: Record) -> str:
    """Say a result in a line."""
    if result.score is None:
        return f"trained for {result.steps} steps in {result.train_seconds or 0:.0f} s"
    goals = ", ".join(f"{score:.2f}" for score in result.scores)
    low, high = result.interval or (result.score, result.score)
    paper = find_task(result.task).published.get(result.agent)
    if result.max_score is not None:
        return (
            f"score {result.score:.3f} at the end (95% interval {low:.2f} to {high:.2f}), "
            f"{result.max_score:.3f} at best on the way, success {result.success:.3f}"
            + (f"; the paper: {paper:.3f}" if paper is not None else "")
        )
    return f"success {result.score:.3f} (95% interval {low:.2f} to {high:.2f}; by goal {goals})" + (
        f"; the paper: {paper:.3f}" if paper is not None else ""
    )


def _training(options: TrainOptions) -> OfflineTraining:
    if options.steps is None:
        return options.training
    return dataclasses.replace(options.training, steps=options.steps)


def _parse(agent: str, task: Task, arguments: Sequence[str]) -> TrainOptions:
    preset_name = _preset_name(arguments)
    preset = find_preset(preset_name, agent, task)
    config = AGENTS[agent]
    return tyro.cli(
        TrainOptions[config],  # type: ignore[valid-type]
        args=list(arguments),
        prog=f"nfrl train {agent} {task.name}",
        default=TrainOptions(
            agent=preset.agent,
            training=preset.training,
            preset=preset_name,
            data_episodes=preset.episodes,
        ),
        config=(tyro.conf.AvoidSubcommands,),
    )


def _preset_name(arguments: Sequence[str]) -> PresetName:
    """Find the preset among the words, since every other value's default depends on it."""
    name = "laptop"
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if word == "--preset":
            name = following
        elif word.startswith("--preset="):
            name = word.partition("=")[2]
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return name


def _refuse_unbuildable(config: AgentConfig, steps: int) -> None:
    """Find out before data are made whether networks of these sizes can be, for so long a run."""
    try:
        # As wide as any task's: what a value must not exceed there, the real build tells.
        eqx.filter_eval_shape(lambda: build_agent(config, jr.key(0), 1000, 2, steps))
    except ValueError as error:
        raise UserError(str(error)) from error


def _refuse_other_runs(experiment: Experiment, folders: Sequence[RunFolder]) -> None:
    """Let a run go on in its own folder, but never in that of another."""
    for folder in folders:
        if folder.is_begun and Experiment.from_json(folder.read_config()) != experiment:
            raise UserError(
                f"{folder.path} holds a run with other values; give this one a --variant name or "
                "another --runs folder"
            )
