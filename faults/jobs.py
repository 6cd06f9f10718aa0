"""Jobs: commands whose work is spoilt, and gone on with."""

import dataclasses
import glob
import os
from collections.abc import Callable
from pathlib import Path

from faults.processes import nfrl
from faults.shared import POINT, point_data, shared, training_words

ONLINE = "pointmaze-medium-navigate-singletask-task1-v0"


@dataclasses.dataclass(frozen=True)
class Job:
    """A command whose work can be spoilt.

    Attributes:
        name: What it does.
        words: Makes the words of the command, whose folder is the working folder.
        runs: The patterns of the run folders with which ``nfrl resume`` goes on, the last that is
            begun; where there is none, the command is given again.
    """

    name: str
    words: Callable[[], list[str]]
    runs: tuple[str, ...] = ()

    def again(self) -> list[str]:
        """Return the words of the command that goes on."""
        begun = [path for each in self.runs for path in glob.glob(f"{each}/config.json")]
        return ["resume", str(Path(begun[-1]).parent)] if begun else self.words()

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
                answer = nfrl(*self.words()).succeeded()
            (place / "seconds").write_text(str(answer.seconds))

        place = shared(f"job-{self.name}", make)
        return place / "again", float((place / "seconds").read_text())


def _training() -> list[str]:
    words = training_words("nf-gcbc", point_data(), steps=6000, checkpoint=200)
    return [*words, "--seeds", "0", "1", "--runs", "runs"]


def _evaluating() -> list[str]:
    words = training_words("gcbc", point_data())
    return [*words, "--episodes", "4", "--workers", "2", "--runs", "runs"]


def _data() -> list[str]:
    sizes = ("--episodes", "60", "--steps", "400", "--workers", "2")
    return ["data", "make", POINT, *sizes, "--path", "data/point.npz"]


def _suite() -> list[str]:
    line = " ".join(training_words("gcbc", point_data(), steps=200)[1:])
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
    sizes = {"blocks": 1, "channels": 4, "encoder": 4, "actor-hidden": 4}
    words = [f"--training.{name}={value}" for name, value in values.items()]
    words += [f"--agent.{name}={value}" for name, value in sizes.items()]
    return ["train", "nf-ugs", "point-u-maze", *words, "--runs", "runs"]


SEED = f"runs/{POINT}/gcbc-laptop/seed-0"
_FLOW = f"runs/{POINT}/nf-gcbc-laptop/seed-0"
_ONLINE = (f"runs/{ONLINE}/fql-laptop/seed-0", f"runs/{ONLINE}/fql-laptop-online/seed-0")
TRAINING = Job("training", _training, (_FLOW,))
EVALUATING = Job("evaluating", _evaluating, (SEED,))
DATA = Job("making data", _data)
SUITE = Job("a suite", _suite)
GOING_ONLINE = Job("going on online", _online, _ONLINE)
EXPLORING = Job("exploring", _exploring, ("runs/point-u-maze/nf-ugs-laptop/seed-0",))
