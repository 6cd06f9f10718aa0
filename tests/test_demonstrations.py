"""Readers of demonstrations, each on files written by the library whose format it is."""

import json
import sys

import numpy as np
import pytest

from nfrl.agents import AGENTS
from nfrl.data.demonstrations import Demonstrations, choose, read
from nfrl.data.formats import ogbench
from nfrl.data.formats.ogbench import DataError
from nfrl.errors import UserError
from nfrl.experiment import Experiment, describe_dataset, load_data
from nfrl.training.offline import OfflineTraining

LENGTHS = (5, 1, 3)
ROWS, ENDS = sum(LENGTHS), np.cumsum(LENGTHS)


@pytest.fixture
def values():
    """Made-up demonstrations: actions, states, keypoints."""
    rng = np.random.default_rng(0)
    return {
        "action": rng.uniform(0, 512, (ROWS, 2)).astype(np.float32),
        "state": rng.uniform(0, 512, (ROWS, 5)).astype(np.float32),
        "keypoint": rng.uniform(0, 512, (ROWS, 9, 2)).astype(np.float32),
    }


def assert_are(found, observations, actions):
    np.testing.assert_array_equal(found.observations, observations)
    np.testing.assert_array_equal(found.actions, actions)
    np.testing.assert_array_equal(found.episode_ends, ENDS)
    assert found.observations.dtype == found.actions.dtype == np.float32


# What they are


def test_a_dataset_has_one_more_row_an_episode(values):
    found = Demonstrations(values["state"], values["action"], ENDS)
    arrays = found.to_arrays()
    assert arrays["terminals"].tolist() == [
        *[False] * 5, True, *[False] * 1, True, *[False] * 3, True
    ]  # fmt: skip
    kept = ~arrays["terminals"]
    np.testing.assert_array_equal(arrays["observations"][kept], values["state"])
    np.testing.assert_array_equal(arrays["actions"][kept], values["action"])
    np.testing.assert_array_equal(arrays["observations"][~kept], values["state"][ENDS - 1])
    dataset = found.to_dataset()
    np.testing.assert_array_equal(dataset.transitions, np.flatnonzero(kept))
    np.testing.assert_array_equal(dataset.first[:6], 0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"episode_ends": [5, 6]}, "9 rows"),
        ({"episode_ends": [5, 5, 9]}, "must grow"),
        ({"episode_ends": []}, "the last is 0"),
        ({"actions": np.zeros((8, 2))}, "8 rows"),
        ({"actions": np.zeros(9)}, "shape"),
        ({"observations": np.where(np.arange(18).reshape(9, 2) == 7, np.nan, 0)}, "row 3"),
    ],
)
def test_what_cannot_be_is_refused(change, word):
    sound = {"observations": np.zeros((9, 2)), "actions": np.zeros((9, 2)), "episode_ends": ENDS}
    with pytest.raises(ValueError, match=word):
        Demonstrations(**(sound | change))


def test_columns_are_chosen_in_order(values, tmp_path):
    found = choose(tmp_path, values, ("state[:2]", "keypoint[-2:]", "action"))
    expected = [values["state"][:, :2], values["keypoint"][:, 8], values["action"]]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))
    with pytest.raises(DataError, match=r"'pose'.*action, keypoint, state"):
        choose(tmp_path, values, ("pose",))


# OGBench


def test_ogbench_there_and_back(values, tmp_path):
    actions = values["action"] / 512
    made = Demonstrations(values["state"], actions, ENDS)
    np.savez(tmp_path / "a.npz", **made.to_arrays())
    ogbench.load(tmp_path / "a.npz")
    assert_are(read(tmp_path / "a.npz"), values["state"], actions)


# zarr


@pytest.fixture(params=[2, 3])
def buffer(request, values, tmp_path):
    """A replay buffer as Diffusion Policy writes it (format 2), and in today's format."""
    import zarr

    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=request.param)
    data, meta = root.create_group("data"), root.create_group("meta")
    for name, array in values.items():
        chunks = (4, *array.shape[1:])
        data.create_array(name, shape=array.shape, chunks=chunks, dtype=array.dtype)[:] = array
    meta.create_array("episode_ends", shape=ENDS.shape, dtype=np.int64)[:] = ENDS
    return tmp_path / "a.zarr"


def test_zarr_replay_buffers(buffer, values):
    keypoints = values["keypoint"].reshape(ROWS, 18)
    observations = np.concatenate([keypoints, values["state"][:, :2]], axis=1)
    assert_are(read(buffer), observations, values["action"])
    assert_are(read(buffer, ["state"]), values["state"], values["action"])
    with pytest.raises(DataError, match=r"'pose'.*keypoint"):
        read(buffer, ["pose"])


@pytest.mark.parametrize("missing", ["data/action", "meta/episode_ends", "meta"])
def test_a_zarr_of_another_kind_is_refused(buffer, missing):
    import shutil

    shutil.rmtree(buffer / missing)
    with pytest.raises(DataError, match=missing):
        read(buffer)


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


# Minari


def minari_dataset(folder, monkeypatch, space, observations, data_format):
    import gymnasium
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    actions, rng = [], np.random.default_rng(1)
    buffers = []
    for steps in LENGTHS:
        chosen = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
        actions.append(chosen)
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                observations=observations(steps + 1, len(actions)),
                actions=chosen,
                rewards=[0.0] * steps,
                terminations=[False] * steps,
                truncations=[False] * (steps - 1) + [True],
            )
        )
    minari.create_dataset_from_buffers(
        "room/test-v0",
        buffers,
        observation_space=space,
        action_space=gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        algorithm_name="none",
        author="none",
        author_email="none@example.org",
        code_permalink="https://example.org",
        data_format=data_format,
    )
    return folder / "room" / "test-v0", np.concatenate(actions)


def counted(steps, episode, width=3):
    return (100.0 * episode + np.arange(steps)[:, None] + np.arange(width) / 8).astype(np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_minari_data_sets(tmp_path, monkeypatch, data_format):
    from gymnasium import spaces

    path, actions = minari_dataset(
        tmp_path, monkeypatch, spaces.Box(-np.inf, np.inf, (3,), np.float32), counted, data_format
    )
    expected = np.concatenate([counted(n, i + 1) for i, n in enumerate(LENGTHS)])
    assert_are(read(path), expected, actions)
    assert_are(read(path / "data"), expected, actions)


@pytest.mark.filterwarnings("ignore")
def test_minari_dictionaries(tmp_path, monkeypatch):
    """As the kitchen's: an observation, and goals by the name of what is to be done."""
    from gymnasium import spaces

    box = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    space = spaces.Dict({"observation": box, "goal": spaces.Dict({"kettle": box})})

    def observations(steps, episode):
        seen = counted(steps, episode)
        return {"observation": seen, "goal": {"kettle": -seen}}

    path, actions = minari_dataset(tmp_path, monkeypatch, space, observations, "hdf5")
    seen = np.concatenate([counted(n, i + 1) for i, n in enumerate(LENGTHS)])
    assert_are(read(path), seen, actions)
    both = read(path, ["goal/kettle[:1]", "observation"])
    assert_are(both, np.concatenate([-seen[:, :1], seen], axis=1), actions)


# LeRobot


@pytest.fixture(params=["v2", "v3"])
def robot(request, values, tmp_path):
    import pyarrow
    from pyarrow import compute, parquet

    episode = np.repeat(np.arange(3), LENGTHS)
    frame = np.concatenate([np.arange(n) for n in LENGTHS])

    def vectors(array, fixed):
        flat = pyarrow.array(array.reshape(-1))
        if fixed:
            return pyarrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
        return pyarrow.array(array.tolist(), pyarrow.list_(pyarrow.float32()))

    keypoints = values["keypoint"].reshape(ROWS, 18)
    table = pyarrow.table(
        {
            "observation.state": vectors(values["state"][:, :2], request.param == "v2"),
            "observation.environment_state": vectors(keypoints, request.param == "v2"),
            "observation.note": pyarrow.array(["a picture"] * ROWS),
            "action": vectors(values["action"], request.param == "v2"),
            "episode_index": episode,
            "frame_index": frame,
        }
    )
    folder = tmp_path / "pusht"
    (folder / "meta").mkdir(parents=True)
    (folder / "data" / "chunk-000").mkdir(parents=True)
    info = {"codebase_version": request.param, "fps": 10, "total_episodes": 3}
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    if request.param == "v2":
        for index in range(3):
            part = table.filter(compute.equal(table["episode_index"], index))
            parquet.write_table(part, folder / f"data/chunk-000/episode_{index:06d}.parquet")
    else:  # in any order: episode and frame say which row is which
        order = np.random.default_rng(0).permutation(ROWS)
        parquet.write_table(table.take(order), folder / "data/chunk-000/file-000.parquet")
    return folder


def test_lerobot_data_sets(robot, values):
    keypoints = values["keypoint"].reshape(ROWS, 18)
    observations = np.concatenate([keypoints, values["state"][:, :2]], axis=1)
    assert_are(read(robot), observations, values["action"])
    assert_are(read(robot, ["observation.state"]), values["state"][:, :2], values["action"])


def test_a_damaged_lerobot_data_set_is_refused(robot):
    for file in (robot / "data").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="pyarrow"):
        read(robot)


# What is none of these


def test_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="neither a zarr"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("package", "marker"),
    [("zarr", ".zgroup"), ("minari", "metadata.json"), ("pyarrow", "meta/info.json")],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, marker):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / marker).parent.mkdir(exist_ok=True)
    (tmp_path / marker).write_text("{}")
    with pytest.raises(UserError, match=rf"{package}.*pip install 'nfrl\[imitation\]'"):
        read(tmp_path)
