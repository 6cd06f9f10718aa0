"""Many runs as one command: the list, the queue, and going on from wherever it stands."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import write_data

from nfrl.cli import suite
from nfrl.cli.main import main
from nfrl.cli.train import plan
from nfrl.errors import UserError
from nfrl.launch import local
from nfrl.launch.jobs import Job, find_suite, known_suites, read_suite
from nfrl.launch.launcher import Command
from nfrl.launch.local import LocalLauncher, share_cores
from nfrl.launch.queue import work_through
from nfrl.reports.scoreboard import paper_tasks
from nfrl.runs.records import Record, load_records

MAZE = "pointmaze-medium-navigate-v0"
TINY = (
    "--steps 20 --training.log-every 10 --training.checkpoint-every 10 --training.batch-size 16 "
    "--training.validation-batches 1 --agent.hidden 16 --episodes 0"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def work_here(words, logs, lanes, begun=lambda index: None):
    commands = [Command(tuple(each), log) for each, log in zip(words, logs, strict=True)]
    return work_through(LocalLauncher(), commands, lanes, begun)


# The list


def test_a_suite_is_read_line_by_line(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# all of it\ngcbc a-v0  --variant 'two words'  # why\n\nnf-gcbc a-v0\n")
    assert find_suite(str(path)) == path
    jobs = read_suite(path)
    assert jobs == [
        Job(("gcbc", "a-v0", "--variant", "two words")),
        Job(("nf-gcbc", "a-v0")),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no runs"),
        ("gcbc\n", ":1: a run is an agent and a task"),
        ("gcbc a\ngcbc a\n", ":2: stands there already"),
        ("gcbc 'a\n", ":1: No closing quotation"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path, text, words):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_suite(path)


def test_an_unknown_suite_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="gcbc"):
        find_suite("gbcb")


@pytest.mark.parametrize("name", known_suites())
def test_every_run_of_our_suites_can_be_begun_and_has_its_own_folder(name, tmp_path):
    plans = suite.plan_all(read_suite(find_suite(name)), tmp_path)
    folders = [folder.path for planned in plans for folder in planned.folders]
    assert len(set(folders)) == len(folders)


# They would run side by side, each writing over what the other wrote.
@pytest.mark.parametrize("command", ["run", "status"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("--agent.hidden 16", "--agent.hidden 32"),
        ("--seeds 0 1", "--seeds 1 2"),
        ("--runs elsewhere --steps 10", "--steps 20 --runs=./elsewhere"),
    ],
)
def test_two_lines_for_one_run_folder_are_refused(
    command, first, second, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    lines = [f"gcbc {MAZE} --dataset missing.npz {options}" for options in (first, second)]
    Path("mine.txt").write_text("\n".join(lines))
    assert main(["suite", command, "mine.txt"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert all(words in error for words in (*lines, "--variant"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"], "nothing was begun"


def test_a_line_may_go_on_from_another(tmp_path):
    offline = ("fql", "cube-single-play-singletask-task2-v0")
    lines = [offline, (*offline, "--online-steps", "10"), (*offline, "--variant", "other")]
    assert len(suite.plan_all([Job(words) for words in lines], tmp_path)) == 3


@pytest.mark.parametrize("start", [f"gcbc {MAZE} --dataset no.npz", "crl-uniform point-u-maze"])
@pytest.mark.parametrize("seeds", ["--seeds", "--seeds 1 1"])
def test_a_line_with_senseless_seeds_is_named(start, seeds, tmp_path, capsys):
    listed = tmp_path / "mine.txt"
    listed.write_text(f"{start} {seeds}\n")
    for command in ("run", "status"):
        words = ["suite", command, str(listed), "--runs", str(tmp_path / "runs")]
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"nfrl: {start} {seeds}: seeds must be distinct, at least one")
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("gcbc", MAZE), ["--workers", "1"]),
        (("gcbc", MAZE, "--workers", "3"), ["--workers", "3"]),
        (("gcbc", MAZE, "--workers=3"), ["--workers=3"]),
        (("nf-ugs", "point-u-maze"), []),
    ],
)
def test_workers_are_for_runs_with_simulators(words, expected, tmp_path):
    command = suite._command(Job(words), plan(words, tmp_path), tmp_path, cores=1)
    places = [i for i, word in enumerate(command) if word.startswith("--workers")]
    assert [word for i in places for word in command[i : i + 2]][: len(expected)] == expected
    assert len(places) == bool(expected)


@pytest.mark.parametrize("own", [("--runs", "own"), ("--runs=own",)])
def test_a_lines_own_options_win(own, tmp_path):
    words = ("gcbc", MAZE, *own, "--record", "own.jsonl")
    planned = plan(words, tmp_path)
    command = suite._command(Job(words), planned, tmp_path, cores=1)
    began = command[command.index("train") + 1 :]
    assert plan(began).folders == planned.folders
    assert planned.folders[0].path.parts[0] == "own"


def test_of_several_seeds_the_lowest_is_told(tmp_path):
    planned = plan(("crl-uniform", "point-u-maze", "--seeds", "0", "1"), tmp_path)
    first, second = planned.folders
    seen = {"success_easy": 1.0, "success_hard": 0.0, "coverage": 1.0, "environment_steps": 10}
    of = {"task": "point-u-maze", "agent": "crl-uniform", "seed": 0, "steps": 5}
    result = Record(**of, score=0.9, train_seconds=1.0, **seen)
    for folder in planned.folders:
        folder.path.mkdir(parents=True)
    first.write_result(result)
    assert suite._state(planned) == "waiting"
    second.write_result(dataclasses.replace(result, score=0.2))
    assert suite._state(planned).startswith("the lowest of 2 seeds: success 0.200")
    second.write_result(dataclasses.replace(result, status="diverged", score=None))
    assert suite._state(planned) == "the lowest of 2 seeds: diverged"


def test_of_several_seeds_the_one_furthest_behind_is_told(tmp_path):
    planned = plan(("crl-uniform", "point-u-maze", "--seeds", "0", "1"), tmp_path)
    for folder, step in zip(planned.folders, (1000, 300), strict=True):
        folder.write_config({})
        folder.append_metrics({"step": step})
    assert suite._state(planned) == f"at step 300 of {planned.steps}"


# The queue


def test_every_command_runs_once_and_its_outcome_is_told(tmp_path):
    commands = [python(f"print({i}); raise SystemExit({i})") for i in range(5)]
    logs = [tmp_path / "logs" / f"{i}.log" for i in range(5)]
    begun = []
    outcomes = list(work_here(commands, logs, 2, begun.append))
    assert begun == [0, 1, 2, 3, 4]
    assert sorted((outcome.index, outcome.status) for outcome in outcomes) == [
        (i, i) for i in range(5)
    ]
    assert [log.read_text() for log in logs] == [f"{i}\n" for i in range(5)]


def test_lanes_share_the_cores(tmp_path):
    mine = os.sched_getaffinity(0)
    for lanes in (1, 2, len(mine), 2 * len(mine) + 1):
        shares = share_cores(lanes)
        assert len(shares) == lanes
        assert set.union(*shares) == mine
        if lanes <= len(mine):
            assert sum(map(len, shares)) == len(mine), "no core twice"
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    list(work_here([python(code)] * 2, logs, 2))
    assert [log.read_text().strip() for log in logs] == [str(sorted(s)) for s in share_cores(2)]


def test_where_there_is_no_posix_a_command_is_started_as_it_is(tmp_path, monkeypatch):
    # No affinity, no SIGINT to others.
    monkeypatch.setattr(local, "os", SimpleNamespace(name="nt", getpid=os.getpid))
    assert local.share_cores(2) == [{0}, {0}]
    assert local._words(["nfrl", "train"], {0}) == ["nfrl", "train"]
    logs = [tmp_path / "short.log", tmp_path / "long.log"]
    commands = [python("print('done')"), python("import time; time.sleep(60)")]
    outcomes = work_here(commands, logs, 2)
    assert next(outcomes).status == 0
    began = time.monotonic()
    outcomes.close()  # ends the other
    assert time.monotonic() - began < 10
    assert logs[0].read_text().strip() == "done"


def test_what_runs_is_interrupted_when_the_caller_stops(tmp_path):
    code = (
        "import time\n"
        "try: print('begun', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: print('saved', flush=True)"
    )
    log = tmp_path / "long.log"
    outcomes = work_here([python("pass"), python(code)], [tmp_path / "short.log", log], 2)
    next(outcomes)
    deadline = time.monotonic() + 30
    while "begun" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    outcomes.close()
    assert log.read_text() == "begun\nsaved\n"


# The command


def test_a_suite_is_worked_through_and_taken_up(tmp_path, point_file, capsys):
    listed = tmp_path / "mine.txt"
    line = f"gcbc {MAZE} --dataset {point_file} {TINY}"
    listed.write_text(f"{line} --seeds 0\n{line} --seeds 1\n")
    runs, record = tmp_path / "runs", tmp_path / "records.jsonl"
    command = ["suite", "run", str(listed), "--runs", str(runs), "--record", str(record)]

    assert main(["suite", "status", str(listed), "--runs", str(runs)]) == 0
    assert capsys.readouterr().out.count("waiting") == 2
    assert main(command) == 0
    assert "0 of 2 runs are finished" in capsys.readouterr().out
    assert {record.seed for record in load_records([record])} == {0, 1}

    # One run's result is lost: only that one is done again.
    seeds = [runs / MAZE / "gcbc-laptop" / f"seed-{seed}" for seed in (0, 1)]
    (seeds[1] / "result.json").unlink()
    kept = (seeds[0] / "result.json").stat().st_mtime_ns
    assert main(["suite", "status", str(listed), "--runs", str(runs)]) == 0
    assert "at step 20 of 20" in capsys.readouterr().out
    assert main(command) == 0
    assert "1 of 2 runs are finished" in capsys.readouterr().out
    assert (seeds[0] / "result.json").stat().st_mtime_ns == kept
    assert (seeds[1] / "result.json").is_file()


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, point_file, capsys):
    listed = tmp_path / "mine.txt"
    line = f"gcbc {MAZE} --dataset {point_file} {TINY}"
    damaged = write_data(tmp_path / "damaged.npz")
    damaged.write_bytes(damaged.read_bytes()[:-200])
    listed.write_text(f"gcbc {MAZE} --dataset {damaged} {TINY} --variant bad\n{line}\n")
    assert main(["suite", "run", str(listed), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert "1 runs did not finish" in error
    assert "--variant bad" in error
    assert (tmp_path / "runs" / MAZE / "gcbc-laptop" / "seed-0" / "result.json").is_file()


# SIGTERM does the same.
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_runs_and_the_command(how, tmp_path, point_file):
    listed = tmp_path / "mine.txt"
    listed.write_text(f"gcbc {MAZE} --dataset {point_file} {TINY} --steps 1000000\n")
    words = ["suite", "run", str(listed), "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(
        [sys.executable, "-m", "nfrl.cli.main", *words], stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "runs" / MAZE / "gcbc-laptop" / "seed-0"
    deadline = time.monotonic() + 90
    try:
        while not (folder / "checkpoints").is_dir() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(how)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert list((folder / "checkpoints").glob("*.safetensors")), "the run saved"


def test_a_suite_stops_when_its_minutes_are_over_and_goes_on(
    tmp_path, point_file, capsys, monkeypatch
):
    listed = tmp_path / "mine.txt"
    line = f"gcbc {MAZE} --dataset {point_file} {TINY}"
    listed.write_text(f"{line} --steps 1000000\n{line} --seeds 1\n")
    folder = tmp_path / "runs" / MAZE / "gcbc-laptop" / "seed-0"

    def clock():
        """An hour passes at the first checkpoint."""
        return time.monotonic() + 3600 * (folder / "checkpoints").is_dir()

    monkeypatch.setattr(suite, "time", SimpleNamespace(monotonic=clock))
    words = ["suite", "run", str(listed), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    assert main([*words, "--minutes", "30"]) == 0
    told = capsys.readouterr().out
    assert "30 minutes are over: 0 of 2 runs are finished" in told
    assert "begun" in told
    assert list((folder / "checkpoints").glob("*.safetensors")), "the run saved"
    assert not (folder / "result.json").exists()
    assert main(["suite", "status", str(listed), "--runs", str(tmp_path / "runs")]) == 0
    assert "at step" in capsys.readouterr().out
    assert main([*words, "--minutes", "0"]) == 2
    assert "minutes must be more than 0" in capsys.readouterr().err


def test_the_papers_suite_has_a_run_for_each_of_its_tasks():
    """The five goals of a goal-conditioned data set are one run."""
    words = [job.words for job in read_suite(find_suite("paper"))]
    assert sorted(each[1] for each in words) == sorted(task.name for task in paper_tasks())
    assert all("--preset" in each and "paper" in each for each in words)
