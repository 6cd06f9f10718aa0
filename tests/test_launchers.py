"""Runs on a cluster: their machines may be lost, and they go on, with the same bits."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from nfrl import registry
from nfrl.cli import suite
from nfrl.cli.main import main
from nfrl.launch.launcher import Command
from nfrl.launch.local import LocalLauncher, Process
from nfrl.launch.queue import work_through
from nfrl.launch.ray_cluster import RayLauncher
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
