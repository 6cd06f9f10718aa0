"""A search for an agent's values: what is searched, who goes on, and what it may cost."""

import dataclasses
import json
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pages
import pytest

from nfrl.cli.main import main
from nfrl.cli.train import plan
from nfrl.errors import UserError
from nfrl.launch.launcher import Command
from nfrl.runs.folder import RunFolder
from nfrl.tuning.search import Choice, Range, read_search
from nfrl.tuning.tune import Rules, Run, Trial, best_of, tune

# What is searched


def test_ranges_and_choices_are_read():
    words = ("a.b=0.95..0.999", "--c_d=1e-4..1e-2:log", "n=1..8", "chunk=1,5,10", "flow=x,y")
    assert read_search((*words, "on=true,false")) == {
        "a.b": Range(0.95, 0.999),
        "c-d": Range(1e-4, 1e-2, log=True),
        "n": Range(1, 8),
        "chunk": Choice((1, 5, 10)),
        "flow": Choice(("x", "y")),
        "on": Choice((True, False)),
    }


def test_a_file_says_the_same(tmp_path):
    file = tmp_path / "search.toml"
    file.write_text('steps = "1..8"\n[agent]\nchunk = [1, 5]\n[agent.flow]\nblocks = "2,4"\n')
    assert read_search([str(file)]) == {
        "steps": Range(1, 8),
        "agent.chunk": Choice((1, 5)),
        "agent.flow.blocks": Choice((2, 4)),
    }


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "nothing to search"),
        (("a=1..1",), "--search a=1..1: 1 is not below 1"),
        (("a=0..1:log",), "a logarithm needs more than 0"),
        (("a=0..1:lin",), "'lin' after the colon should be 'log'"),
        (("a=low..high",), "'low' is no number"),
        (("a=1,2", "a=3,4"), "a stands there twice"),
        (("missing.toml",), "neither NAME=VALUES nor a TOML file"),
    ],
)
def test_what_is_no_search_is_refused(words, error):
    with pytest.raises(UserError, match=error):
        read_search(words)


# Who goes on, with runs that are made up: a trial's score is its value, and grows with its steps


@dataclasses.dataclass
class MadeUp:
    """A launcher whose runs make ten updates each time they are looked at."""

    at_once: ClassVar[int] = 1
    interrupted_after: int = 10**9
    looks: int = 0

    @contextmanager
    def open(self, lanes):
        yield lambda commands: [self.begin(Path(command.words[0])) for command in commands]

    def begin(self, path):
        return _MadeUpRun(self, RunFolder(path))


class _MadeUpRun:
    def __init__(self, launcher, folder):
        self.launcher, self.folder, self.ended = launcher, folder, None

    def poll(self):
        self.launcher.looks += 1
        if self.launcher.looks > self.launcher.interrupted_after and self.ended is None:
            self.launcher.interrupted_after = 10**9
            raise KeyboardInterrupt
        if self.folder.path.name.startswith("broken"):
            return 1
        step = self.folder.last_step() + 10
        if self.ended is None and step <= 90:
            value = float((self.folder.path / "value").read_text())
            line = {"step": step, "seconds": 1.0, "score": value * step / 90}
            self.folder.append_metrics(line)
        elif self.ended is None:
            self.ended = 0
        return self.ended

    def interrupt(self):
        self.ended = 130 if self.ended is None else self.ended


def search(tmp_path, budget, launcher=None, name="trial", **options):
    def run_of(number, values):
        folder = tmp_path / f"{name}-{number}"
        folder.mkdir(exist_ok=True)
        (folder / "value").write_text(str(values["x"]))
        return Run(Command((str(folder),), folder / "log"), [RunFolder(folder)])

    rules = Rules({"x": Range(0.0, 1.0)}, ("nf-bc", "there"), steps=90, every=10)
    launcher = launcher or MadeUp()
    lanes = options.pop("lanes", 2)
    return tune(tmp_path / "study", rules, budget, run_of, launcher, lanes, **options)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr("nfrl.tuning.tune.wait_for_one", lambda running, seconds: None)


def test_the_better_train_on_and_the_budget_is_kept(tmp_path):
    trials = search(tmp_path, budget=1000)
    updates = sum(RunFolder(path).last_step() for path in tmp_path.glob("trial-*"))
    assert 1000 <= updates <= 1000 + 2 * 10, "as many as were given, and the looks in hand"
    finished = [trial for trial in trials if trial.state == "finished"]
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert len(trials) > 1000 / 90, "more than could be trained to their ends"
    assert {trial.step for trial in finished} == {90}
    assert {trial.step for trial in stopped} <= {10, 30}
    best = best_of(trials)
    assert best.values["x"] == max(trial.values["x"] for trial in finished)
    assert best.values["x"] > sorted(trial.values["x"] for trial in trials)[len(trials) // 2]
    lines = (tmp_path / "study" / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(len(trials)))
    assert sum(json.loads(line)["updates"] for line in lines) == updates


def test_a_search_goes_on_from_where_it_stands(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, budget=600, launcher=MadeUp(interrupted_after=40))
    written = [json.loads(line) for line in (tmp_path / "study/trials.jsonl").open()]
    assert {each["state"] for each in written} >= {"unfinished"}
    again = search(tmp_path, budget=600)
    for before, now in zip(written, again, strict=False):
        assert before["values"] == now.values, "the trials are taken up, not made anew"
    larger = search(tmp_path, budget=1200)
    assert [trial.values for trial in larger][: len(again)] == [trial.values for trial in again]
    assert len({trial.values["x"] for trial in larger}) == len(larger), "no value is tried twice"
    assert sum(trial.state == "unfinished" for trial in larger) <= 2


def test_there_are_at_most_so_many_trials(tmp_path):
    assert len(search(tmp_path, budget=10_000, most=3)) == 3


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search(tmp_path, budget=10, most=1)
    rules = Rules({"x": Range(0.0, 2.0)}, ("nf-bc", "there"), steps=90, every=10)
    with pytest.raises(UserError, match="holds a search with other search; give this one another"):
        tune(tmp_path / "study", rules, 10, None, MadeUp(), 1)


def test_trials_that_fail_one_after_the_other_end_the_search(tmp_path):
    with pytest.raises(UserError, match="3 trials in a row failed; the last: see"):
        search(tmp_path, budget=10_000, name="broken", lanes=1)


# The command


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            "nf-gcbc cube-single-play-v0 --budget 9",
            "tune on the development goals for the same data: cube-single-play-dev-v0",
        ),
        ("crl-uniform point-u-maze --budget 9", "point-u-maze has nothing to act in"),
        ("nf-gcbc cube-single-play-dev-v0 --budget 0", "budget must be at least 1"),
        ("nf-gcbc cube-single-play-dev-v0 --budget 9 --steps 1001", "must be a multiple of"),
        ("nf-gcbc cube-single-play-dev-v0 --budget 9 --partition a", "is for --launcher slurm"),
    ],
)
def test_what_cannot_be_tuned_is_said_in_a_line(words, error, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *words.split(), "--search", "agent.discount=0.9..0.99"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line
    assert not list(tmp_path.iterdir())


def test_every_command_of_the_page_can_be_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = pages.page("tune.md")
    pages.write_files(text, tmp_path)
    blocks = [block.replace("\\\n", " ") for block in pages.blocks(text, "sh")]
    commands = [shlex.split(block)[1:] for block in blocks if block.startswith("nfrl tune")]
    assert len(commands) == 2
    best = Trial(3, "finished", {"agent.discount": 0.97, "agent.chunk": 5}, 45_000, 0.9)
    monkeypatch.setattr("nfrl.cli.train.make_data", lambda task, options: None)
    monkeypatch.setattr("nfrl.cli.tune.tune", lambda *given, **options: [best])
    for words in commands:
        assert main(words) == 0
        *_, last = capsys.readouterr().out.splitlines()
        chosen = plan(shlex.split(last)[2:]).experiment.agent_config
        assert chosen.chunk == 5
        assert chosen.discount == 0.97


TASK = """
import gymnasium
import numpy as np

from nfrl.task import Task


class Near(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 20, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(0, 20, 2).astype(np.float32)
        return self.place, {}

    def step(self, action):
        self.place = np.clip(self.place + np.asarray(action, np.float32), 0, 20)
        return self.place, 0.0, False, False, {"success": bool(self.place[0] > 10)}


NEAR = Task("near-v0", "imitation", "near:Near", discount=1.0, horizon=5, goals=1)
"""


def test_a_search_on_a_task_of_ones_own(tmp_path, point_file, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near.py").write_text(TASK)
    words = "tune gaussian-bc near:NEAR --budget 30 --trials 1 --steps 30 --every 10 --jobs 1"
    small = "--training.log-every 10 --training.checkpoint-every 10 --training.batch-size 16"
    shared = f"--data {point_file} {small} --training.validation-batches 1 --curve-episodes 2"
    searched = "agent.optimizer.learning-rate=1e-4..1e-2:log"
    with pages.importable(tmp_path):
        assert main([*words.split(), "--search", searched, "--", *shared.split()]) == 0
        told = capsys.readouterr().out
        assert told.startswith("near-v0 has no development goals: what is chosen here was chosen")
        planned = plan(shlex.split(told.splitlines()[-1])[2:])
    (line,) = Path("tuning/near-v0/gaussian-bc/trials.jsonl").read_text().splitlines()
    trial = json.loads(line)
    assert (trial["state"], trial["step"], trial["updates"]) == ("finished", 30, 30)
    rate = planned.experiment.agent_config.optimizer.learning_rate
    assert rate == trial["values"]["agent.optimizer.learning-rate"]
