"""The search: trials are handed to a launcher, followed by their curves, and stopped early.

Optuna suggests the values and decides who goes on: asynchronous successive halving. Of the trials
that have come so far, the best third (say) trains on. No trial waits for others.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfrl.errors import UserError
from nfrl.files import write_bytes
from nfrl.launch.launcher import Command, Launcher, Running
from nfrl.launch.queue import interrupt_all, wait_for_one
from nfrl.progress import progress
from nfrl.runs.folder import RunFolder
from nfrl.tuning.search import Search, Value, to_json

FAILURES = 3
"""So many trials that fail in a row end the search: the cause is not their values."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is searched, and who goes on."""

    search: Search
    words: tuple[str, ...]
    """What all trials have in common, as words of ``nfrl train``."""
    steps: int
    """Updates of a trial that is never stopped."""
    every: int
    """Updates between two evaluations; the first decision comes after so many."""
    reduction: int = 3
    """One in so many goes on; the next decision comes after so many times the updates."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A trial as a run: how it begins, or goes on, and where its seeds are."""

    command: Command
    folders: Sequence[RunFolder]

    @property
    def updates(self) -> int:
        """How many updates were made, of all its seeds."""
        return sum(folder.last_step() for folder in self.folders)

    def curve(self) -> dict[int, float]:
        """Return the mean score over its seeds, by step, where all of them have one."""
        curves = [
            {int(point["step"]): point["score"] for point in folder.read_curve()}
            for folder in self.folders
        ]
        steps = set.intersection(*map(set, curves))
        return {step: float(np.mean([curve[step] for curve in curves])) for step in sorted(steps)}


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came out of a trial."""

    number: int
    state: str
    """``finished``; ``stopped``: others were better; ``failed``; or ``unfinished``: it goes on with
    a larger budget."""
    values: Mapping[str, Value]
    step: int
    """The step of its last evaluation; 0 if it has none."""
    score: float | None
    """What that said."""


def tune(
    folder: Path,
    rules: Rules,
    budget: int,
    run_of: Callable[[int, Mapping[str, Value]], Run],
    launcher: Launcher,
    lanes: int,
    *,
    most: int | None = None,
    seed: int = 0,
) -> list[Trial]:
    """Search until the budget is spent, going on from wherever the folder stands.

    Args:
        folder: Where the search is kept: ``journal.log`` is Optuna's, ``trials.jsonl`` is for all.
        rules: What is searched, and who goes on.
        budget: Updates of all trials together.
        run_of: The run of a trial, of its number and its values.
        launcher: Where trials run.
        lanes: How many trials run at a time.
        most: How many trials there are, at most; None for as many as the budget allows.
        seed: The seed of what is suggested.

    Returns:
        The trials, in their order.

    Raises:
        UserError: The folder holds another search, or trials fail one after the other.
        KeyboardInterrupt: After the trials that ran were saved.
    """
    study = _Study(folder, rules, run_of, seed)
    running: list[_Running] = []
    failures = 0
    with (
        contextlib.ExitStack() as at_the_end,
        launcher.open(lanes) as start,
        progress("tuning", budget, "updates", done=study.used()) as update,
    ):
        at_the_end.callback(study.write)
        try:
            while True:
                # Less than up to the first decision is not worth a trial.
                while len(running) < lanes and budget - study.used() >= rules.every:
                    taken = study.take(most)
                    if taken is None:
                        break
                    trial, run = taken
                    running.append(_Running(study, trial, run, start([run.command])[0]))
                if not running:
                    break
                wait_for_one([each.running for each in running], seconds=1.0)
                for each in running:
                    each.report()
                for each in [each for each in running if each.has_ended()]:
                    running.remove(each)
                    study.end(each.trial.number)
                    failures = failures + 1 if each.failed else 0
                    if failures == FAILURES:
                        raise UserError(
                            f"{failures} trials in a row failed; the last: see "
                            f"{each.run.command.log}"
                        )
                update(min(study.used(), budget), study.describe())
                if study.used() >= budget:
                    break
        finally:
            interrupt_all([each.running for each in running])
            for each in running:
                each.report()
    return study.trials()


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that trained longest; None if none was evaluated."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda trial: (trial.step, trial.score), default=None)


class _Running:
    """A trial that was handed out."""

    def __init__(self, study: "_Study", trial: Any, run: Run, running: Running):
        self.trial, self.run, self.running = trial, run, running
        self.failed = False
        self._study, self._step, self._is_told = study, study.last_step(trial), False

    def report(self) -> None:
        """Tell Optuna the scores that are new; the trial is stopped there, if it says so."""
        for step, score in self.run.curve().items():
            if step <= self._step or self._is_told:
                continue
            self._step = step
            self.trial.report(score, step)
            if step >= self._study.rules.steps:
                self._tell("COMPLETE")
            elif self.trial.should_prune():
                self._tell("PRUNED")
                self.running.interrupt()

    def has_ended(self) -> bool:
        """Whether its run has ended; one that did so on its way has failed."""
        if self.running.poll() is None:
            return False
        self.report()
        if not self._is_told:
            self._tell("FAIL")
            self.failed = True
        return True

    def _tell(self, state: str) -> None:
        self._study.tell(self.trial, state)
        self._is_told = True


_STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}


class _Study:
    """A study of Optuna's in a folder, whose trials are runs."""

    def __init__(
        self,
        folder: Path,
        rules: Rules,
        run_of: Callable[[int, Mapping[str, Value]], Run],
        seed: int,
    ):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self.rules = rules
        self._folder, self._run_of = folder, run_of
        self._study = optuna.create_study(
            study_name="nfrl",
            storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=rules.every, reduction_factor=rules.reduction
            ),
            load_if_exists=True,
        )
        self._check(rules)
        before = self._study.get_trials(deepcopy=False)
        # A sampler begins anew with each command. With the same seed it would suggest the same.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(before), constant_liar=True
        )
        self._runs = {each.number: run_of(each.number, each.params) for each in before}
        self._ended = {
            each.number: self._runs[each.number].updates
            for each in before
            if each.state.is_finished()
        }
        self._unfinished = [
            optuna.trial.Trial(self._study, each._trial_id)
            for each in before
            if not each.state.is_finished()
        ]

    def _check(self, rules: Rules) -> None:
        """Refuse to go on with other rules than the folder's."""
        own = {**dataclasses.asdict(rules), "search": to_json(rules.search)}
        own = json.loads(json.dumps(own))
        found = self._study.user_attrs.get("rules", own)
        if found != own:
            other = next(name for name in own if own[name] != found.get(name))
            raise UserError(
                f"{self._folder} holds a search with other {other}; give this one another --folder"
            )
        self._study.set_user_attr("rules", own)

    def take(self, most: int | None) -> tuple[Any, Run] | None:
        """Return the next trial to run, an unfinished one or a new one; None if there is none."""
        if self._unfinished:
            trial = self._unfinished.pop(0)
        elif most is not None and len(self._runs) >= most:
            return None
        else:
            trial = self._study.ask()
            values = {name: each.suggest(name, trial) for name, each in self.rules.search.items()}
            self._runs[trial.number] = self._run_of(trial.number, values)
        return trial, self._runs[trial.number]

    def tell(self, trial: Any, state: str) -> None:
        """Tell Optuna how a trial ended: COMPLETE, with its last score, PRUNED or FAIL."""
        from optuna.trial import TrialState

        scores = self._frozen(trial).intermediate_values
        score = scores[max(scores)] if state == "COMPLETE" else None
        self._study.tell(trial, score, state=TrialState[state])

    def last_step(self, trial: Any) -> int:
        """Return the step of the last score that Optuna was told of a trial; 0 for none."""
        return max(self._frozen(trial).intermediate_values, default=0)

    def _frozen(self, trial: Any) -> Any:
        return self._study.get_trials(deepcopy=False)[trial.number]

    def end(self, number: int) -> None:
        """Take it that the run of a trial has ended."""
        self._ended[number] = self._runs[number].updates
        self.write()

    def used(self) -> int:
        """Count the updates of all trials."""
        return sum(map(self._updates, self._runs))

    def _updates(self, number: int) -> int:
        ended = self._ended.get(number)
        return self._runs[number].updates if ended is None else ended

    def describe(self) -> str:
        """Say in a few words how far it is."""
        trials = self.trials()
        best = best_of(trials)
        score = "" if best is None else f", the best {best.score:.3f} at step {best.step}"
        return f"{len(trials)} trials{score}"

    def trials(self) -> list[Trial]:
        """Return what came out of each trial so far."""
        found = []
        for each in self._study.get_trials(deepcopy=False):
            scores = each.intermediate_values
            step = max(scores, default=0)
            state = _STATES.get(each.state.name, "unfinished")
            found.append(Trial(each.number, state, each.params, step, scores.get(step)))
        return found

    def write(self) -> None:
        """Write trials.jsonl."""
        lines = [
            json.dumps({**dataclasses.asdict(each), "updates": self._updates(each.number)}) + "\n"
            for each in self.trials()
        ]
        write_bytes(self._folder / "trials.jsonl", "".join(lines).encode())
