"""Runs on a cluster: their machines may be lost, and they go on, with the same bits."""

import importlib.util
import os
import shlex
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pages
import pytest

from nfrl.cli import suite
from nfrl.cli.main import main
from nfrl.launch.launcher import Command
from nfrl.launch.slurm import SlurmLauncher
from nfrl.runs import checkpoints
from nfrl.runs.records import load_records

MAZE = "pointmaze-medium-navigate-v0"
# Long enough to be stopped on the way: a checkpoint now and then, of a small network.
LONG = (
    "--steps 1500 --training.log-every 10 --training.checkpoint-every 50 --training.batch-size 16 "
    "--training.validation-batches 1 --agent.hidden 16 --episodes 0"
)


def listed(folder, data, seeds=(0,)):
    """A suite of one run for each seed."""
    path = folder / "mine.txt"
    path.write_text("".join(f"gcbc {MAZE} --data {data} {LONG} --seeds {i}\n" for i in seeds))
    return path


def run_folder(runs, seed=0):
    return runs / MAZE / "gcbc-laptop" / f"seed-{seed}"


def wait_until(true, seconds=120.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def processes(*words):
    """The processes whose command lines hold all of these, by the kernel's own files."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if all(word in text for word in words):
            found.append(int(path.parent.name))
    return found


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(process):
    """Whether it runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def uninterrupted(point_file, tmp_path_factory):
    """The last checkpoint of a run that nothing stopped."""
    runs = tmp_path_factory.mktemp("uninterrupted")
    words = ["train", "gcbc", MAZE, "--data", str(point_file), *LONG.split(), "--runs", str(runs)]
    assert main(words) == 0
    return last_checkpoint(runs)


def last_checkpoint(runs):
    """The bytes of the checkpoint at the end."""
    return checkpoints.path_of(run_folder(runs) / "checkpoints", 1500).read_bytes()


def saved(runs):
    """The steps whose checkpoints are there."""
    return checkpoints.steps_in(run_folder(runs) / "checkpoints")


@contextmanager
def meanwhile(act):
    """Do something in a thread; what goes wrong there fails the test."""
    errors = []

    def acting():
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=acting)
    thread.start()
    yield
    thread.join()
    assert not errors, errors


# Ray


@pytest.fixture(scope="module")
def cluster():
    """A head without cores, and two nodes of a core each, all on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    sizes = {"object_store_memory": 80_000_000}
    head = {"num_cpus": 0, "include_dashboard": False, **sizes}
    made = Cluster(initialize_head=True, head_node_args=head)
    nodes = [made.add_node(num_cpus=1, **sizes) for _ in range(2)]
    yield SimpleNamespace(address=made.address, nodes=nodes)
    ray.shutdown()
    made.shutdown()


def test_a_run_whose_node_is_killed_goes_on_elsewhere_with_the_same_bits(
    cluster, tmp_path, point_file, uninterrupted
):
    runs, record = tmp_path / "runs", tmp_path / "records.jsonl"
    path = listed(tmp_path, point_file, seeds=(0, 1))
    seen = {}

    def kill():
        """Kill the node of seed 0, once its run has saved."""
        wait_until(lambda: saved(runs))
        (run,) = processes("nfrl.cli.main", str(runs), "--seeds 0")
        raylet = parent(parent(run))
        os.kill(raylet, signal.SIGKILL)
        seen["step"] = max(saved(runs))
        wait_until(lambda: not is_alive(run), seconds=20)

    words = ["suite", "run", str(path), "--runs", str(runs), "--record", str(record)]
    with meanwhile(kill):
        assert main([*words, "--launcher", "ray", "--address", cluster.address]) == 0
    assert seen["step"] < 1500
    assert {each.seed for each in load_records([record])} == {0, 1}
    assert last_checkpoint(runs) == uninterrupted
    log = run_folder(runs).with_suffix(".log").read_text()
    assert log.count("trained for 1500 steps") == 1


def test_a_suite_that_is_stopped_stops_its_ray_tasks_and_they_save(
    cluster, tmp_path, point_file, capsys, monkeypatch
):
    """When the minutes are over; Ctrl-C takes the same way."""
    runs = tmp_path / "runs"
    path = listed(tmp_path, point_file, seeds=(0, 1, 2))  # on two nodes at most: one waits
    path.write_text(path.read_text().replace("--steps 1500", "--steps 1000000"))

    def clock():
        return time.monotonic() + 3600 * bool(saved(runs))

    monkeypatch.setattr(suite, "time", SimpleNamespace(monotonic=clock))
    words = ["suite", "run", str(path), "--runs", str(runs), "--minutes", "30"]
    assert main([*words, "--launcher", "ray", "--address", cluster.address]) == 0
    told = capsys.readouterr().out
    assert "30 minutes are over: 0 of 3 runs are finished" in told
    assert "interrupted; go on with" in run_folder(runs).with_suffix(".log").read_text()
    assert not run_folder(runs, seed=2).exists()
    assert not processes("nfrl.cli.main", str(runs), "train")


# Slurm


def test_a_job_that_must_make_way_goes_on_with_the_same_bits(
    tmp_path, point_file, uninterrupted, monkeypatch
):
    """With submitit's own stand-in for Slurm, which treats processes as jobs."""
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    runs, record = tmp_path / "runs", tmp_path / "records.jsonl"
    path = listed(tmp_path, point_file)
    seen = {}

    def make_way():
        """Tell the job what Slurm would."""
        wait_until(lambda: saved(runs))
        (run,) = processes("nfrl.cli.main", str(runs), "--seeds 0")
        os.kill(parent(run), signal.SIGUSR2)
        wait_until(lambda: not is_alive(run), seconds=60)
        seen["step"] = max(saved(runs))

    words = ["suite", "run", str(path), "--runs", str(runs), "--record", str(record)]
    with meanwhile(make_way):
        assert main([*words, "--launcher", "slurm", "--cluster", "local"]) == 0
    assert seen["step"] < 1500
    assert [each.seed for each in load_records([record])] == [0]
    assert last_checkpoint(runs) == uninterrupted
    log = run_folder(runs).with_suffix(".log").read_text()
    assert "interrupted; go on with" in log
    assert log.count("trained for 1500 steps") == 1


# Options


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--partition gpu", "--partition is for --launcher slurm, not for local"),
        ("--launcher ray --time-min 9", "--time-min is for --launcher slurm, not for ray"),
        ("--cpus=2", "--cpus is for --launcher ray and slurm, not for local"),
        ("--launcher slurm --address auto", "--address is for --launcher ray, not for slurm"),
        ("--launcher slrum", "unknown launcher 'slrum'; did you mean slurm"),
        ("--launcher nfrl.launch.jobs:Job", "nfrl.launch.jobs:Job is no launcher: it has no"),
        ("--launcher slurm --cpus 0", "cpus must be at least 1"),
        ("--launcher ray --memory-gb -1", "memory-gb must not be negative"),
        ("--launcher ray --jobs 0", "jobs must be at least 1"),
    ],
)
def test_a_wrong_option_is_answered_in_a_line(words, error, capsys):
    assert main(["suite", "run", "gcbc", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nfrl: {error}")


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_must_be_installed_is_said(launcher, package, monkeypatch, capsys):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else known(name)
    )
    assert main(["suite", "run", "gcbc", "--launcher", launcher]) == 2
    assert capsys.readouterr().err == (
        f"nfrl: nfrl suite needs the package {package}: pip install 'nfrl[cluster]'\n"
    )


def test_what_slurm_is_asked_for(tmp_path, monkeypatch):
    """Slurm's own commands are stood in for: sbatch keeps what it is given."""
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "srun": "exit 0",
        "sbatch": f'cp "$1" {tmp_path}/script; echo Submitted batch job 7',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    launcher = SlurmLauncher(cpus=2, gpus=1, memory_gb=6, time_min=90, partition="gpu")
    commands = [Command(("true",), tmp_path / f"{i}.log") for i in range(3)]
    with launcher.open(lanes=2) as start:
        assert len(start(commands)) == 3
    script = (tmp_path / "script").read_text()
    for line in (
        *("cpus-per-task=2", "gpus-per-node=1", "mem=6GB", "time=90", "partition=gpu"),
        "array=0-2%2",
    ):
        assert f"#SBATCH --{line}\n" in script
    assert "account" not in script


def test_where_there_is_no_cluster_it_is_said_in_a_line(tmp_path, point_file, capsys):
    path = listed(tmp_path, point_file)
    words = ["suite", "run", str(path), "--runs", str(tmp_path / "runs"), "--launcher"]
    assert main([*words, "slurm"]) == 2
    assert "there is no Slurm here" in capsys.readouterr().err


# The page


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The files of docs/cluster.md in a folder, which is the working one."""
    monkeypatch.chdir(tmp_path)
    text = pages.page("cluster.md")
    pages.write_files(text, tmp_path)
    with pages.importable(tmp_path):
        yield text


def commands_of(text, word):
    lines = (line for block in pages.blocks(text, "sh") for line in block.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"nfrl {word}")]


def test_every_command_of_the_page_can_be_given(page, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(suite, "work", lambda *words, **options: given.append(options["launcher"]))
    for words in commands_of(page, "suite run"):
        assert main(words) == 0
    assert {type(each).__name__ for each in given} == {
        *("LocalLauncher", "RayLauncher", "SlurmLauncher", "Told")
    }
    assert [main(words) for words in commands_of(page, "suite status")] == [0]
    assert capsys.readouterr().out.count("waiting") == 4


def test_the_launcher_of_the_page_hands_out_commands(page, tmp_path, capsys, monkeypatch):
    failing = (sys.executable, "-c", "raise SystemExit(1)")
    monkeypatch.setattr(suite, "_command", lambda *given: failing)
    (words,) = (words for words in commands_of(page, "suite run") if "my_cluster:Told" in words)
    monkeypatch.setattr("nfrl.cli.train.make_data", lambda task, options: None)
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out.count("starts runs/cube-single-play-v0/") == 4
    assert "4 runs did not finish" in told.err
