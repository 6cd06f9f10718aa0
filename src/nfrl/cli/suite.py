"""``nfrl suite run|status|list``: many runs as one command that can be stopped and taken up."""

import dataclasses
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Annotated, Generic

import tyro
from rich.console import Console
from rich.table import Table

from nfrl.cli.finishing import describe
from nfrl.cli.launching import DEFAULT, LauncherName, LauncherT, check_jobs, parse
from nfrl.cli.train import Plan, plan
from nfrl.errors import UserError, unknown_name
from nfrl.launch.jobs import Job, find_suite, known_suites, read_suite
from nfrl.launch.launcher import Command, Launcher
from nfrl.launch.queue import work_through
from nfrl.progress import progress
from nfrl.runs.records import append_record, read_jsonl
from nfrl.runs.tracking import check_trackers

USAGE = """usage: nfrl suite run|status SUITE [options]
       nfrl suite list

  SUITE   one of: {suites}; or a text file of runs, each line what follows "nfrl train"

for example:
  nfrl suite run gcbc --record results/gcbc.jsonl
  nfrl suite run gcbc --launcher ray --cpus 2
  nfrl suite run --launcher slurm --help
  nfrl suite status gcbc"""


@dataclasses.dataclass(frozen=True)
class RunOptions(Generic[LauncherT]):
    """Work through a suite's runs, going on from wherever they stand."""

    suite: Annotated[str, tyro.conf.Positional]
    """Its name, or its file."""
    launcher: LauncherT
    """Each launcher has its own."""
    launcher_name: LauncherName = DEFAULT
    """Where runs go: local, for this machine; ray or slurm, for a cluster (docs/cluster.md); or
    package.module:Class. Each has options of its own: --launcher slurm --help lists them."""
    jobs: int | None = None
    """Runs at a time; by default one per processor core of this machine, each on cores of its own.
    A cluster is given all of them, and has a queue."""
    runs: Path = Path("runs")
    """Where run folders go; what a run prints goes to RUNS/TASK/AGENT-PRESET/seed-N.log. A line's
    own --runs wins."""
    record: Path | None = None
    """A .jsonl file that gets a line per finished run; a line's own --record wins."""
    minutes: float | None = None
    """Stop after so long, at the next checkpoint of each run that is under way; the same command
    goes on, here or wherever the folder of runs is taken. Data that are being made then are made to
    the end. By default until all is done."""
    track: tuple[str, ...] | None = None
    """What follows each run: wandb, tensorboard, mlflow, or package.module:Class, several at once.
    A line's own --track wins (docs/tracking.md)."""


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """Say how far a suite has come."""

    suite: Annotated[str, tyro.conf.Positional]
    """Its name, or its file."""
    runs: Path = Path("runs")
    """Where its run folders are."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl suite`` and do it."""
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE.format(suites=", ".join(known_suites())))
    elif command == "list":
        for name in known_suites():
            print(f"{name}: {len(read_suite(find_suite(name)))} runs")
    elif command == "run":
        options = parse(RunOptions, rest, "nfrl suite run")
        check_jobs(options.jobs)
        if options.minutes is not None and options.minutes <= 0:
            raise UserError(f"minutes must be more than 0, not {options.minutes:g}")
        jobs = read_suite(find_suite(options.suite))
        check_trackers(options.track or ())
        work(
            options.suite,
            jobs,
            options.runs,
            launcher=options.launcher,
            lanes=options.jobs,
            record=options.record,
            track=options.track,
            minutes=options.minutes,
        )
    elif command == "status":
        show(tyro.cli(StatusOptions, args=rest, prog="nfrl suite status"))
    else:
        raise unknown_name("suite command", command, ("run", "status", "list"))


def work(
    title: str,
    jobs: Sequence[Job],
    runs: Path,
    *,
    launcher: Launcher,
    lanes: int | None,
    record: Path | None,
    track: Sequence[str] | None = None,
    minutes: float | None = None,
) -> list[Plan]:
    """Work through the runs that are not finished; each's data are made just before it begins.

    Args:
        title: What to call the whole.
        jobs: The runs.
        runs: Where run folders go.
        launcher: Where they run.
        lanes: Runs at a time; by default as many as the launcher says.
        record: A .jsonl file for the records; None for none.
        track: Names of what follows each run; None for what followed it before.
        minutes: Stop after so long, with what is done saved; None for no end.

    Returns:
        What each job asked for, with its run folders.

    Raises:
        UserError: See :func:`plan_all`; or some runs did not finish: the message names them and
            what they printed.
    """
    end = inf if minutes is None else time.monotonic() + 60 * minutes
    plans = plan_all(jobs, runs)
    todo = [i for i in range(len(jobs)) if not _finished(plans[i])]
    print(f"{title}: {len(jobs) - len(todo)} of {len(jobs)} runs are finished")
    lanes = min(lanes or launcher.lanes() or len(todo), max(len(todo), 1))
    cores = launcher.cores(max(lanes, 1))
    commands = [
        Command(
            words=tuple(_command(jobs[i], plans[i], runs, cores, track)),
            log=plans[i].folders[0].path.with_suffix(".log"),
        )
        for i in todo
    ]

    # Here, and not in the runs: files that several machines append to lose lines on NFS.
    recorded = _identities(record)

    def collect(i: int) -> None:
        if record is None or jobs[i].gives("--record"):
            return
        for folder in plans[i].folders:
            result = folder.read_result()
            if result is not None and result.identity not in recorded:
                append_record(record, result)

    for i in sorted(set(range(len(jobs))) - set(todo)):
        collect(i)  # of a suite that was killed before it could
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where a shell started us in the background, ignoring SIGINT.
        signal.signal(number, signal.default_int_handler)
    unfinished: list[str] = []
    seen = _Seen(plans)
    total = sum(plan.steps for plan in plans)
    with progress(title, total, "steps", done=seen.steps) as update:

        def begun(index: int) -> None:
            print(f"begun: {jobs[todo[index]].title}")
            with suppress(UserError):  # the run itself will say so, and the others go on
                plans[todo[index]].prepare()
            seen.under_way.add(todo[index])

        def meanwhile() -> None:
            if seen.look():
                update(seen.steps, f"{seen.finished} of {len(plans)} runs finished")
            if time.monotonic() > end:
                raise _TimeUp

        try:
            for outcome in work_through(launcher, commands, lanes, begun, meanwhile):
                i = todo[outcome.index]
                if outcome.status == 0:
                    _await_results(plans[i])
                seen.end(i)
                collect(i)
                if not _finished(plans[i]):
                    unfinished.append(f"{jobs[i].title} (see {commands[outcome.index].log})")
                print(f"{_state(plans[i])}: {jobs[i].title} ({outcome.seconds / 60:.1f} min)")
        except _TimeUp:
            done = sum(map(_finished, plans))
            print(
                f"{minutes:g} minutes are over: {done} of {len(plans)} runs are finished, what is"
            )
            print("under way is saved; the same command goes on")
    if unfinished:
        raise UserError(f"{len(unfinished)} runs did not finish: {'; '.join(unfinished)}")
    return plans


class _TimeUp(Exception):
    """The minutes that were given are over."""


class _Seen:
    """How far runs have come, as their folders tell. Of thousands only those under way are read."""

    def __init__(self, plans: Sequence[Plan]):
        self._plans = plans
        self._steps = list(map(_step, plans))
        self._done = [_finished(planned) for planned in plans]
        self._next = 0.0
        self.under_way: set[int] = set()

    @property
    def steps(self) -> int:
        """Steps that were made, of all runs."""
        return sum(self._steps)

    @property
    def finished(self) -> int:
        """How many runs are finished."""
        return sum(self._done)

    def look(self) -> bool:
        """Read the folders under way, unless that would take more than a tenth of the time."""
        began = time.monotonic()
        if began < self._next:
            return False
        for i in self.under_way:
            self._steps[i] = _step(self._plans[i])
        self._next = began + 10 * (time.monotonic() - began)
        return True

    def end(self, i: int) -> None:
        """Take it that a run has ended."""
        self.under_way.discard(i)
        self._steps[i], self._done[i] = _step(self._plans[i]), _finished(self._plans[i])


def plan_all(jobs: Sequence[Job], runs: Path) -> list[Plan]:
    """Return what each job asks for, before anything is begun.

    Args:
        jobs: The runs.
        runs: Where run folders go, unless a job says.

    Raises:
        UserError: A job makes no sense, or has a run folder of another's, with which it would run
            side by side.
    """
    plans: list[Plan] = []
    owners: dict[Path, Job] = {}
    for job in jobs:
        try:
            planned = plan(job.words, runs)
        except UserError as error:
            raise UserError(f"{job.title}: {error}") from error
        folders = [folder.path.resolve() for folder in planned.folders]
        if not folders or len(set(folders)) < len(folders):
            raise UserError(f"{job.title}: seeds must be distinct, at least one, and none negative")
        for folder in folders:
            if folder in owners:
                raise UserError(
                    f"these have one run folder, {folder}: {owners[folder].title}; and: "
                    f"{job.title}; give one of them a --variant name, or other --seeds"
                )
            owners[folder] = job
        plans.append(planned)
    return plans


def show(options: StatusOptions) -> None:
    """Print a table of the runs and how far each has come."""
    table = Table("run", "state")
    jobs = read_suite(find_suite(options.suite))
    for job, planned in zip(jobs, plan_all(jobs, options.runs), strict=True):
        table.add_row(job.title, _state(planned))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _command(
    job: Job,
    planned: Plan,
    runs: Path,
    cores: int,
    track: Sequence[str] | None = None,
) -> list[str]:
    words = list(job.words)
    if not job.gives("--runs"):
        words += ["--runs", str(runs)]
    if track is not None and not job.gives("--track"):
        words += ["--track", *track]
    if planned.has_workers and not job.gives("--workers"):
        words += ["--workers", str(cores)]
    return [sys.executable, "-m", "nfrl.cli.main", "train", *words]


def _finished(planned: Plan) -> bool:
    return all(folder.has_result for folder in planned.folders)


def _identities(record: Path | None) -> set[tuple[object, ...]]:
    """Return what tells the records of a file apart, which may be missing."""
    if record is None or not record.is_file():
        return set()
    return {each.identity for each in read_jsonl(record)}


def _await_results(planned: Plan, seconds: float = 60) -> None:
    """Wait until the results of a run that has ended are seen here, too.

    A network file system shows files of another machine up to a minute later.
    """
    until = time.monotonic() + seconds
    while not _finished(planned) and time.monotonic() < until:
        time.sleep(0.5)


def _step(planned: Plan) -> int:
    """Return how many steps were made, of the seed furthest behind."""
    return min(folder.last_step() for folder in planned.folders)


def _state(planned: Plan) -> str:
    """Say how far the seed that is furthest behind has come; of finished ones, the lowest score."""
    states: list[tuple[int, float, str]] = []
    for folder in planned.folders:
        result = folder.read_result()
        if result is not None:
            score = -1 if result.score is None else result.score
            diverged = result.status == "diverged"
            states.append((1, score, "diverged" if diverged else describe(result)))
        elif folder.is_begun:
            step = folder.last_step()
            states.append((0, step, f"at step {step} of {planned.steps}"))
        else:
            states.append((0, -1, "waiting"))
    done, _, state = min(states)
    several = done and len({value for _, value, _ in states}) > 1
    return f"the lowest of {len(states)} seeds: {state}" if several else state
