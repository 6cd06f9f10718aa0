"""``nfrl tune AGENT TASK``: search for an agent's values, on goals that it is not scored by."""

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Generic

import tyro
from rich.console import Console
from rich.table import Table

from nfrl import registry
from nfrl.cli.launching import DEFAULT, LauncherName, LauncherT, check_jobs, parse
from nfrl.cli.train import Plan, plan
from nfrl.cli.words import options_of
from nfrl.errors import UserError
from nfrl.experiment.config import file_name
from nfrl.launch.launcher import Command
from nfrl.task import Task
from nfrl.training.offline import OfflineTraining
from nfrl.tuning.search import Search, Value, read_search
from nfrl.tuning.tune import Rules, Run, Trial, best_of, tune


@dataclasses.dataclass(frozen=True)
class TuneOptions(Generic[LauncherT]):
    """Search for an agent's values: many trials begin, and the best of them train on.

    What stands after -- is what all trials have in common, options of nfrl train. For example:
    nfrl tune nf-gcbc cube-single-play-dev-v0 --budget 300000 --search agent.discount=0.95..0.999
    agent.optimizer.learning-rate=1e-4..1e-2:log agent.chunk=1,5 -- --data-episodes 250
    """

    agent: Annotated[str, tyro.conf.Positional]
    """The algorithm."""
    task: Annotated[str, tyro.conf.Positional]
    """The task: one of development goals, if there are such for its data."""
    budget: int
    """Updates of all trials together. A larger budget goes on with the same search."""
    search: tuple[str, ...]
    """What is searched: NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C, of options of nfrl train;
    or a TOML file of the same."""
    launcher: LauncherT
    """Each launcher has its own."""
    trials: int | None = None
    """At most so many trials; by default as many as the budget allows."""
    steps: int | None = None
    """Updates of a trial that is never stopped; by default the preset's."""
    every: int | None = None
    """Updates between two evaluations, and up to the first decision; by default a 27th of the
    steps."""
    reduction: int = 3
    """One trial in so many goes on at each decision, to so many times the updates."""
    seed: int = 0
    """The seed of what is suggested; that of the trials is among the words: -- --seeds 1."""
    folder: Path | None = None
    """Where the search is kept, and goes on from; by default tuning/TASK/AGENT."""
    launcher_name: LauncherName = DEFAULT
    """Where trials run; see nfrl suite run --help."""
    jobs: int | None = None
    """Trials at a time; by default one per processor core of this machine, on a cluster 16."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl tune`` and do it."""
    words = list(arguments) or ["--help"]
    own = words[: words.index("--")] if "--" in words else words
    options = parse(TuneOptions, own, "nfrl tune")
    _check(options)
    search = read_search(options.search)
    shared = [options.agent, options.task, *words[len(own) + 1 :]]
    base = plan(shared)
    note = _refuse_what_is_scored(base.experiment.task)
    rules = _rules(options, search, shared, base)
    names = map(file_name, (base.experiment.task.name, options.agent))
    folder = options.folder or Path("tuning", *names)
    runs = _Runs(rules, folder, options.launcher.cores(options.jobs or 1))
    runs.of(0, {name: each.first for name, each in search.items()})  # refuses what cannot be
    if note:
        print(note)
    base.prepare()
    lanes = options.jobs or options.launcher.lanes() or 16
    trials = tune(
        folder,
        rules,
        options.budget,
        runs.of,
        options.launcher,
        lanes,
        most=options.trials,
        seed=options.seed,
    )
    _show(trials)
    best = best_of(trials)
    if best is None:
        raise UserError(f"no trial was evaluated; {folder}/trials.jsonl says how far they came")
    print(f"trials: {folder / 'trials.jsonl'}; the best of those that trained longest:")
    print(shlex.join(["nfrl", "train", *rules.words, *options_of("", best.values)]))


def _check(options: TuneOptions) -> None:
    check_jobs(options.jobs)
    least = {"budget": 1, "trials": 1, "steps": 1, "every": 1, "reduction": 2, "seed": 0}
    for name, number in least.items():
        value = getattr(options, name)
        if value is not None and value < number:
            raise UserError(f"{name} must be at least {number}, not {value}")


def _refuse_what_is_scored(task: Task) -> str:
    """Refuse a task whose data have development goals; of another say what its scores are.

    Raises:
        UserError: Values would be chosen on the goals by which agents are compared.
    """
    if task.environment is None:
        raise UserError(f"{task.name} has nothing to act in, so there is no score to tune by")
    if "development" in task.tags:
        return ""
    twins = [
        each.name
        for each in registry.mappings("tasks").values()
        if "development" in each.tags and (each.dataset, each.family) == (task.dataset, task.family)
    ]
    if twins:
        raise UserError(
            f"{task.name} has the goals that agents are compared by; tune on the development "
            f"goals for the same data: {' or '.join(twins)}"
        )
    return (
        f"{task.name} has no development goals: what is chosen here was chosen on what it is "
        "scored by; say so beside the result"
    )


def _rules(options: TuneOptions, search: Search, shared: Sequence[str], base: Plan) -> Rules:
    training = base.experiment.training
    if not isinstance(training, OfflineTraining):
        raise UserError(f"{options.agent} explores; tune is for agents that learn from data")
    steps, line = options.steps or training.steps, training.log_every
    multiples = range(line, max(steps // options.reduction**3, line) + 1, line)
    every = options.every or max((n for n in multiples if steps % n == 0), default=0)
    if not every or steps % every:
        raise UserError(
            f"a trial's {steps} steps must be a multiple of --every, a multiple of "
            f"--training.log-every ({line})"
        )
    words = (*shared, "--steps", str(steps))
    return Rules(search, words, steps, every, options.reduction)


@dataclasses.dataclass(frozen=True)
class _Runs:
    """Makes trials into runs."""

    rules: Rules
    folder: Path
    cores: int

    def of(self, number: int, values: Mapping[str, Value]) -> Run:
        """Return the run of a trial."""
        own = {
            "training.evaluate-every": self.rules.every,
            "episodes": 0,
            "variant": f"trial-{number}",
            "runs": self.folder,
            "workers": self.cores,
        }
        words = [*self.rules.words, *options_of("", {**own, **values})]
        folders = plan(words).folders
        command = (sys.executable, "-m", "nfrl.cli.main", "train", *words)
        return Run(Command(command, folders[0].path.with_suffix(".log")), folders)


def _show(trials: Sequence[Trial]) -> None:
    """Print a table of the trials, the best first."""
    table = Table("trial", "state", "step", "score", "values")
    order = sorted(trials, key=lambda trial: (trial.step, trial.score or 0), reverse=True)
    for trial in order:
        table.add_row(
            str(trial.number),
            trial.state,
            str(trial.step),
            "" if trial.score is None else f"{trial.score:.3f}",
            " ".join(f"{name}={_short(value)}" for name, value in trial.values.items()),
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
