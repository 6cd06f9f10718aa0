"""Demonstrations in another format than OGBench's, as ``nfrl train --dataset`` takes them."""

import numpy as np
import pytest

from nfrl.agents import AGENTS
from nfrl.errors import UserError
from nfrl.experiment import Experiment, describe_dataset, load_data
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
    """Load demonstrations as `nfrl train AGENT TASK --dataset PATH` does."""
    info = describe_dataset(task, path)
    config, training = AGENTS["nf-bc"](), OfflineTraining(10)
    return load_data(Experiment(task, "nf-bc", "laptop", "", (0,), config, training, info))


def test_pushts_published_actions_are_pixels(buffer, values):
    training, held_out = load(buffer, "pusht")
    actions = np.concatenate([part.actions[part.transitions] for part in (training, held_out)])
    np.testing.assert_allclose(actions, values["action"] / 256 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "says"),
    [("two-blocks", r"\[-1, 1\]"), ("cube-single-play-singletask-task2-v0", "no rewards")],
)
def test_demonstrations_that_do_not_fit_the_task_are_refused(buffer, task, says):
    with pytest.raises(UserError, match=says):
        load(buffer, task)
