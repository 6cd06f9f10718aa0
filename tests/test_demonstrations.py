"""Demonstrations in another format than OGBench's, as ``nfrl train --dataset`` takes them."""

import dataclasses

import numpy as np
import pytest

from nfrl.agents import find_config
from nfrl.errors import UserError
from nfrl.experiment import Experiment
from nfrl.experiment.data import describe, load_data, read
from nfrl.task import find_task
from nfrl.training.offline import OfflineTraining

LENGTHS = (5, 1, 3)


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    shapes = {"action": (2,), "state": (5,), "keypoint": (9, 2)}
    return {
        name: rng.uniform(0, 512, (sum(LENGTHS), *shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture
def buffer(values, tmp_path):
    """A replay buffer as Diffusion Policy's of PushT."""
    import zarr

    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    for name, array in values.items():
        root.create_array(f"data/{name}", data=array)
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))
    return tmp_path / "a.zarr"


def load(path, task):
    """Load demonstrations as `nfrl train AGENT TASK --data PATH` does."""
    config = find_config("nf-bc")
    data = read(task, path, rewards=task.rewards)
    info = describe(task, data, check=True)
    experiment = Experiment(task, "nf-bc", "laptop", "", (0,), config, OfflineTraining(10), info)
    return load_data(experiment)


def test_pushts_published_actions_are_pixels(buffer, values):
    training, held_out = load(buffer, find_task("pusht"))
    actions = np.concatenate([part.actions[part.transitions] for part in (training, held_out)])
    np.testing.assert_allclose(actions, values["action"] / 256 - 1, atol=1e-6)


PIXELS = dataclasses.replace(find_task("pusht"), adapt=None)
REWARDED = dataclasses.replace(find_task("pusht"), rewards=True)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (find_task("two-blocks"), "numbers and actions of 2; two-blocks has 37 and 5"),
        (PIXELS, r"outside the environment's bounds \[-1, 1\]"),
        (find_task("cube-single-play-singletask-task2-v0"), "cannot be given rewards"),
        (REWARDED, "no rewards"),
    ],
    ids=["other sizes", "other units", "other joints", "no rewards"],
)
def test_demonstrations_that_do_not_fit_the_task_are_refused(buffer, task, says):
    with pytest.raises(UserError, match=says):
        load(buffer, task)
