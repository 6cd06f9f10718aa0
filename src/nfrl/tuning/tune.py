"""The search: trials are handed to a launcher, followed by their curves, and stopped early.

Optuna suggests the values and decides who goes on: asynchronous successive halving. Of the trials
that have come so far, the best third (say) trains on. No trial waits for others.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """``finished``; ``stopped``, since others were better; ``failed``; or ``unfinished``: the budget
    was spent."""
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
    try:
        with (
            launcher.open(lanes) as start,
            progress("tuning", budget, "updates", done=study.used()) as update,
        ):
            try:
                while True:
                    # Less than up to the first decision is not worth a trial.
                    while len(running) < lanes and budget - study.used() >= rules.every:
                        trial = study.take(most)
                        if trial is None:
                            break
                        running.append(_Running(trial, start([trial.run.command])[0]))
                    if not running or study.used() >= budget:
                        break
                    wait_for_one([each.running for each in running], seconds=1.0)
                    for each in list(running):
                        if each.follow():
                            running.remove(each)
                            study.write()
                            failures = failures + 1 if each.failed else 0
                    update(min(study.used(), budget), study.describe())
                    if failures == FAILURES:
                        log = each.trial.run.command.log
                        raise UserError(f"{failures} trials in a row failed; the last: see {log}")
            finally:
                interrupt_all([each.running for each in running])
    finally:
        study.write()
    return study.trials()


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that trained longest; None if none was evaluated."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda trial: (trial.step, trial.score), default=None)


class _Taken:
    """A trial of Optuna's, and its run."""

    def __init__(self, study: Any, trial: Any, run: Run):
        self.study, self.trial, self.run = study, trial, run


class _Running:
    """A trial that was handed out."""

    def __init__(self, trial: _Taken, running: Running):
        self.trial, self.running = trial, running
        self.failed = False
        self._stopped = False

    def follow(self) -> bool:
        """Tell Optuna what is new, stop the trial if it says so, and return whether it has ended."""
        # Asked first, so that of one that has ended everything is read.
        status = self.running.poll()
        trial, study = self.trial.trial, self.trial.study
        for step, score in self.trial.run.curve().items():
            if self._stopped or step <= max(_reported(trial), default=0):
                continue
            trial.report(score, step)
            if trial.should_prune() and status is None:
                study.tell(trial, state=_states().PRUNED)
                self._stopped = True
                self.running.interrupt()
        if status is None:
            return False
        if not self._stopped:
            reported = _reported(trial)
            self.failed = status != 0 or not reported
            if self.failed:
                study.tell(trial, state=_states().FAIL)
            else:
                study.tell(trial, reported[max(reported)])
        return True


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
        self._folder, self._rules, self._run_of = folder, rules, run_of
        self._study = optuna.create_study(
            study_name="nfrl",
            storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=rules.every, reduction_factor=rules.reduction
            ),
            load_if_exists=True,
        )
        before = self._study.get_trials(deepcopy=False)
        # A sampler begins anew with the command. The same seed would suggest the same again.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(before), constant_liar=True
        )
        self._check(rules)
        self._runs = {each.number: run_of(each.number, each.params) for each in before}
        self._ended: dict[int, int] = {}
        self._unfinished: Iterator[Any] = iter(
            [
                optuna.trial.Trial(self._study, each._trial_id)
                for each in before
                if not each.state.is_finished()
            ]
        )

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

    def take(self, most: int | None) -> _Taken | None:
        """Return the next trial to run: an unfinished one, or a new one; None if there are none."""
        trial = next(self._unfinished, None)
        if trial is None:
            if most is not None and len(self._runs) >= most:
                return None
            trial = self._study.ask()
            values = {name: each.suggest(name, trial) for name, each in self._rules.search.items()}
            self._runs[trial.number] = self._run_of(trial.number, values)
        return _Taken(self._study, trial, self._runs[trial.number])

    def used(self) -> int:
        """Count the updates of all trials."""
        return sum(map(self._updates, self._runs))

    def _updates(self, number: int) -> int:
        if number not in self._ended:
            return self._runs[number].updates
        return self._ended[number]

    def describe(self) -> str:
        """Say in a few words how far it is."""
        trials = self.trials()
        best = best_of(trials)
        score = "" if best is None else f", the best {best.score:.3f} at step {best.step}"
        return f"{len(trials)} trials{score}"

    def trials(self) -> list[Trial]:
        """Return what came out of each trial so far."""
        return [
            Trial(
                each.number,
                {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}.get(
                    each.state.name, "unfinished"
                ),
                each.params,
                step := max(each.intermediate_values, default=0),
                each.intermediate_values.get(step),
            )
            for each in self._study.get_trials(deepcopy=False)
        ]

    def write(self) -> None:
        """Write trials.jsonl."""
        lines = [
            json.dumps({**dataclasses.asdict(each), "updates": self._updates(each.number)}) + "\n"
            for each in self.trials()
        ]
        write_bytes(self._folder / "trials.jsonl", "".join(lines).encode())


def _reported(trial: Any) -> dict[int, float]:
    return trial.storage.get_trial(trial._trial_id).intermediate_values


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState
