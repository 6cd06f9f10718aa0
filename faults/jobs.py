"""Jobs: commands whose work is spoilt, and gone on with."""

import dataclasses
import glob
import os
from collections.abc import Callable
from pathlib import Path

from faults.processes import Command, said
from faults.shared import POINT, point_data, shared, training_words

ONLINE = "pointmaze-medium-navigate-singletask-task1-v0"


@dataclasses.dataclass(frozen=True)
class Job:
    """Work that can be spoilt. Its folder is the working folder.

    Attributes:
        name: What is done.
        words: Makes the words of the command that does it.
        work: Does it in Python, in place of a command.
        runs: The patterns of the run folders with which ``nfrl resume`` goes on, the last that is
            begun; where there is none, the same is done again.
        prepare: What stands there already.
    """

    name: str
    words: Callable[[], list[str]] = list
    work: Callable[[], object] | None = None
    runs: tuple[str, ...] = ()
    prepare: Callable[[], object] = lambda: None

    def begin(
        self, *, log: Path = Path("output.log"), before: Callable[[], object] | None = None
    ) -> Command:
        """Begin it."""
        if self.work is not None:
            return Command(log=log, before=before, work=said(self.work))
        return Command(self.words(), log=log, before=before)

    def go_on(
        self, *, log: Path = Path("output.log"), before: Callable[[], object] | None = None
    ) -> Command:
        """Go on with it after it was spoilt, or begin."""
        begun = [path for each in self.runs for path in glob.glob(f"{each}/config.json")]
        if not begun:
            return self.begin(log=log, before=before)
        words = self.words()
        record = words[words.index("--record") :][:2] if "--record" in words else []
        return Command(["resume", str(Path(begun[-1]).parent), *record], log=log, before=before)

    def done(self) -> tuple[Path, float]:
        """Do it undisturbed, the first time that this is asked for.

        Returns:
            The folder in which it was done, and the seconds that it took.
        """

        def make(place: Path) -> None:
            # The first time compiles for all that come.
            for name in ("first", "again"):
                Path(place, name).mkdir()
                os.chdir(place / name)
                self.prepare()
                answer = self.begin().wait(300.0).succeeded()
            (place / "seconds").write_text(str(answer.seconds))

        place = shared(f"job-{self.name}", make)
        return place / "again", float((place / "seconds").read_text())


def _training() -> list[str]:
    words = training_words(point_data(), steps=4000, checkpoint=100)
    return [*words, "--seeds", "0", "1", "--runs", "runs"]


def _evaluating() -> list[str]:
    words = training_words(point_data())
    return [*words, "--episodes", "4", "--workers", "2", "--runs", "runs"]


def _data() -> list[str]:
    sizes = ("--episodes", "60", "--steps", "400", "--workers", "2")
    return ["data", "make", POINT, *sizes, "--path", "data/point.npz"]


def _suite() -> list[str]:
    line = " ".join(training_words(point_data(), steps=200)[1:])
    Path("suite.txt").write_text(f"{line} --seeds 0\n{line} --seeds 1\n")
    record = ("--record", "runs/records.jsonl")
    return ["suite", "run", "suite.txt", "--jobs", "2", "--runs", "runs", *record]


def _online() -> list[str]:
    return [
        *("train", "fql", ONLINE, "--dataset", str(point_data()), "--runs", "runs"),
        *("--agent.hidden", "8", "--agent.critic", "8", "--training.batch-size", "8"),
        *("--training.log-every", "50", "--training.checkpoint-every", "50", "--steps", "100"),
        *("--episodes", "1", "--workers", "1", "--online-steps", "1500"),
    ]


def _exploring() -> list[str]:
    values = {
        **{"environment-steps": 6400, "environments": 8, "unroll": 20, "updates": 1},
        **{"batch-size": 8, "buffer-steps": 400, "prefill": 20, "candidates": 4, "log-every": 2},
        **{"checkpoint-every": 2, "evaluation-episodes": 1},
    }
    sizes = {"encoder": 4, "representation-dim": 4, "actor-hidden": 4}
    words = [f"--training.{name}={value}" for name, value in values.items()]
    words += [f"--agent.{name}={value}" for name, value in sizes.items()]
    return ["train", "crl-uniform", "point-u-maze", *words, "--runs", "runs"]


SEED = f"runs/{POINT}/gcbc-laptop/seed-0"
_ONLINE = (f"runs/{ONLINE}/fql-laptop/seed-0", f"runs/{ONLINE}/fql-laptop-online/seed-0")
TRAINING = Job("training", _training, runs=(SEED,))
EVALUATING = Job("evaluating", _evaluating, runs=(SEED,))
DATA = Job("making data", _data)
SUITE = Job("a suite", _suite)
GOING_ONLINE = Job("going on online", _online, runs=_ONLINE)
EXPLORING = Job("exploring", _exploring, runs=("runs/point-u-maze/crl-uniform-laptop/seed-0",))
