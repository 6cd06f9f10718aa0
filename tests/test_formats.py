"""Readers of data, each on files written by the library whose format it is."""

import dataclasses
import json
import shutil
import sys
import tracemalloc
import zipfile
from pathlib import Path

import data_sets
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfrl.data.dataset import Dataset
from nfrl.data.errors import DataError
from nfrl.data.formats import hdf5, lerobot, minari_files, npz, ogbench, zarr_buffer
from nfrl.data.formats.reading import VIDEO, Selection, lay_out, require
from nfrl.data.packed import unpack
from nfrl.data.trajectories import Trajectories
from nfrl.errors import UserError
from nfrl.spec import ActionSpec, Spec

LENGTHS = (5, 1, 3)
ROWS, ENDS = sum(LENGTHS), np.cumsum(LENGTHS)
ALL = Selection()


def of(*keys, **further):
    return Selection(observation_keys=keys, **further)


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
    np.testing.assert_array_equal(found.ends, ENDS)
    assert found.observations.dtype == found.actions.dtype == np.float32


def test_columns_are_chosen_in_order(values, tmp_path):
    found, specs = lay_out(tmp_path, values, ("state[:2]", "keypoint[-2:]", "action"))
    expected = [values["state"][:, :2], values["keypoint"][:, 8], values["action"]]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))
    assert {name: spec.shape for name, spec in specs.items()} == {
        "state[:2]": (2,),
        "keypoint[-2:]": (2,),
        "action": (2,),
    }
    with pytest.raises(DataError, match=r"'pose'.*action, keypoint, state"):
        lay_out(tmp_path, values, ("pose",))


# .npz


def trial() -> dict[str, np.ndarray]:
    """What a new user began with."""
    r = np.random.default_rng(0)
    o, a = r.normal(size=(400, 6)).astype("f"), r.uniform(-1, 1, (400, 3)).astype("f")
    return {"observations": o, "actions": a, "terminals": np.arange(400) % 40 == 39}


def read_npz(folder, selection=ALL, **changes):
    arrays = {k: v for k, v in (trial() | changes).items() if v is not None}
    np.savez(folder / "s.npz", **arrays)
    return npz.FORMAT.read(folder / "s.npz", selection)


def test_an_ogbench_file_has_its_bits_on_the_device(tmp_path):
    """All rows, with final observations and the actions that are stored beside them."""
    found = read_npz(tmp_path, qpos=np.random.default_rng(1).normal(size=(400, 7)))
    path = tmp_path / "s.npz"
    jax.tree.map(np.testing.assert_array_equal, found.to_dataset(), Dataset.from_file(path))

    def label(arrays):
        """Of every row's state, by what a simulator needs of it."""
        return arrays["qpos"][:, 0] - 1, arrays["qpos"][:, 0] < 0

    labelled = found.with_rewards(*label(found.to_arrays())).to_dataset()
    jax.tree.map(np.testing.assert_array_equal, labelled, Dataset.from_file(path, label))
    stored = ogbench.load(path)
    assert found.to_arrays().keys() == stored.keys()
    for key, array in found.to_arrays().items():
        np.testing.assert_array_equal(array, stored[key])
    assert found.spec.action.is_unit


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.booleans())
def test_flat_rows_are_parted_where_they_say(lengths, every_row_acts):
    """Each row's number is its observation and its action: none gets into another trajectory."""
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1], dtype=np.float32)[:, None]
    over = np.isin(np.arange(ends[-1]), ends - 1)
    arrays = {"observations": rows, "actions": rows + 0.5}
    arrays |= {"timeouts": over} if every_row_acts else {"terminals": over}
    kept = [(begin, end) for begin, end in zip([0, *ends], ends, strict=False) if end - begin > 1]
    if not kept:
        with pytest.raises(DataError, match="no trajectory of two rows"):
            npz.from_arrays(Path("a"), arrays, ALL)
        return
    found = npz.from_arrays(Path("a"), arrays, ALL)
    expected = [np.arange(begin, end - 1) for begin, end in kept]
    assert found.lengths.tolist() == [len(each) for each in expected]
    np.testing.assert_array_equal(found.observations[:, 0], np.concatenate(expected))
    np.testing.assert_array_equal(found.actions, found.observations + 0.5)
    np.testing.assert_array_equal(found.final_observations[:, 0], [end - 1 for _, end in kept])
    assert len(found.notes) == (len(kept) < len(lengths))


@pytest.mark.parametrize("key", ["timeouts", "truncations", "truncateds"])
def test_time_outs_end_trajectories(tmp_path, key):
    """Trial 2: `terminals` true only in the last row of all."""
    arrays = trial()
    last = np.arange(400) == 399
    found = read_npz(tmp_path, terminals=last, **{key: arrays["terminals"]})
    # A time-out's last row is its final observation; what ended for good needs none.
    assert found.lengths.tolist() == [39] * 9 + [40]
    np.testing.assert_array_equal(found.final_observations, arrays["observations"][39::40])
    first_of_second = found.observations[39]
    np.testing.assert_array_equal(first_of_second, arrays["observations"][40])


def test_rewards_with_time_outs(tmp_path):
    rewards = np.arange(400.0)
    last = np.arange(400) == 399
    found = read_npz(tmp_path, terminals=last, timeouts=trial()["terminals"], rewards=rewards)
    np.testing.assert_array_equal(found.rewards, np.delete(rewards, np.arange(39, 399, 40)))
    assert found.masks.tolist() == [1.0] * (39 * 9 + 39) + [0.0]


def test_rewards_with_masks_and_without(tmp_path):
    rewards, masks = np.arange(400.0), np.arange(400) % 3 > 0
    found = read_npz(tmp_path, rewards=rewards, masks=masks)
    dataset = found.to_dataset()
    np.testing.assert_array_equal(dataset.rewards, rewards)
    np.testing.assert_array_equal(dataset.masks, masks)
    without = read_npz(tmp_path, rewards=rewards)
    assert without.rewards is None
    assert "masks or timeouts" in without.notes[0]


def test_any_range_of_actions_is_taken(tmp_path):
    """Trial 7."""
    found = read_npz(tmp_path, actions=trial()["actions"] * 2)
    assert not found.spec.action.is_unit
    assert found.spec.action.low == tuple(found.to_arrays()["actions"][:, :].min(axis=0))


def test_a_user_s_own_file(tmp_path):
    """Trial 11: a trajectory of one row, an extra key of strings, objects, a lone number."""
    terminals = trial()["terminals"]
    terminals[40] = True
    extra = {"by": np.full(400, "me"), "info": np.array([None] * 400), "fps": np.float32(30)}
    extra["depth"] = np.where(np.arange(400) == 7, np.nan, 0)
    found = read_npz(tmp_path, terminals=terminals, **extra)
    assert found.lengths.tolist() == [39, 38, *[39] * 8]
    assert not found.extras
    notes = "\n".join(found.notes)
    for words in (
        "1 trajectory of one row was skipped",
        "by was",
        "info was",
        "fps was",
        "depth was",
    ):
        assert words in notes
    assert "Python objects" in notes
    np.testing.assert_array_equal(found.observations[39], trial()["observations"][41])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"actions": np.zeros(400, int)}, "actions: discrete actions"),
        ({"actions": None}, "'actions' is missing"),
        ({"terminals": None}, "'terminals' is missing"),
        ({"actions": np.full((400, 2), "up")}, "actions: .*not numbers"),
        ({"actions": np.array([None] * 400)}, "actions: .*Python objects"),
        ({"qpos": np.zeros((3, 2))}, "qpos: 3 rows, but observations have 400"),
        ({"observations": np.zeros((400, 0))}, "observations: shape"),
        ({"terminals": np.arange(400)}, "terminals: must be 0 or 1, found 2"),
        ({"terminals": np.ones(400)}, "no trajectory of two rows"),
        ({"terminals": np.arange(400) < 300}, "terminals: the last row is not terminal"),
        ({"observations": np.full((400, 2), np.nan)}, "observations: 800 of 800.*row 0"),
        ({"observations": np.full((400, 2), 1e300)}, "observations: NaN or inf.*row 0"),
    ],
)
def test_bad_arrays_are_refused_in_a_line(tmp_path, changes, says):
    with pytest.raises(DataError, match=says) as caught:
        read_npz(tmp_path, **changes)
    assert str(tmp_path / "s.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 10, 200, -30])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "s.npz"
    np.savez(path, **trial())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"truncated|empty"):
        npz.FORMAT.read(path, ALL)


# zarr


def write_buffer(path, values, zarr_format):
    import zarr

    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    for name, array in values.items():
        root.create_array(f"data/{name}", data=array, chunks=(4, *array.shape[1:]))
    root.create_array("meta/episode_ends", data=ENDS)
    return path


def zipped(folder, path, root):
    """Zip a folder; its contents stand below ``root`` in the archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(root) / file.relative_to(folder))
    return path


@pytest.fixture(params=["2", "3", "2, zip", "3, zip", "2, zip of the folder", "3, zip of two"])
def buffer(request, values, tmp_path):
    """A replay buffer as Diffusion Policy writes it (format 2), and in today's format."""
    kind = request.param
    folder = write_buffer(tmp_path / "a.zarr", values, int(kind[0]))
    inside = {"zip": "", "zip of the folder": "pusht_cchi_v7_replay.zarr", "zip of two": "pusht/a"}
    if ", " not in kind:
        return folder
    return zipped(folder, tmp_path / "a.zarr.zip", inside[kind.partition(", ")[2]])


def test_zarr_replay_buffers(buffer, values):
    assert zarr_buffer.matches(buffer)
    keypoints = values["keypoint"].reshape(ROWS, 18)
    observations = np.concatenate([keypoints, values["state"][:, :2]], axis=1)
    found = zarr_buffer.read(buffer, ALL)
    assert_are(found, observations, values["action"])
    assert found.spec.observation["keypoint"].shape == (9, 2)
    # What earlier versions' runs are matched by.
    assert found.sha256 == Trajectories.from_arrays(observations, values["action"], ENDS).sha256
    assert_are(zarr_buffer.read(buffer, of("state")), values["state"], values["action"])
    with pytest.raises(DataError, match=r"'pose'.*keypoint"):
        zarr_buffer.read(buffer, of("pose"))


@pytest.mark.parametrize("missing", ["data/action", "meta/episode_ends", "meta"])
def test_a_zarr_of_another_kind_is_refused(values, tmp_path, missing):
    buffer = write_buffer(tmp_path / "a.zarr", values, 2)
    shutil.rmtree(buffer / missing)
    with pytest.raises(DataError, match=missing):
        zarr_buffer.read(buffer, ALL)


def test_pictures_beside_vectors_are_passed_over_and_kept_where_named(values, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (ROWS, 8, 8, 3), np.uint8)
    buffer = write_buffer(tmp_path / "a.zarr", values | {"img": pixels}, 2)
    (note,) = zarr_buffer.read(buffer, ALL).notes
    assert note.startswith("the images img were passed over: name them with --observation-keys")
    named = zarr_buffer.read(buffer, of("img"))
    assert named.observations.dtype == np.uint8
    np.testing.assert_array_equal(named.observations, pixels.reshape(ROWS, -1))
    both = zarr_buffer.read(buffer, of("state", "img"))
    parts = unpack(both.observations, both.spec)
    np.testing.assert_array_equal(parts["img"], pixels)
    np.testing.assert_array_equal(parts["state"], values["state"].astype(np.float32))
    assert both.observations.nbytes == pixels.nbytes + 4 * values["state"].size


def test_pictures_stored_as_floats_are_bytes(values, tmp_path):
    """As in Diffusion Policy's published file of PushT."""
    pixels = np.random.default_rng(0).integers(0, 255, (ROWS, 8, 8, 3), np.uint8)
    floats = write_buffer(tmp_path / "f.zarr", values | {"img": pixels.astype("f")}, 2)
    found = zarr_buffer.read(floats, of("img"))
    np.testing.assert_array_equal(found.observations, pixels.reshape(ROWS, -1))
    other = write_buffer(tmp_path / "g.zarr", values | {"img": pixels.astype("f") - 300}, 2)
    with pytest.raises(DataError, match=r"img is an array \(8, 8, 3\) of float32"):
        zarr_buffer.read(other, of("img"))


def test_a_buffer_of_pictures_alone_is_of_them(values, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (ROWS, 8, 8, 3), np.uint8)
    buffer = write_buffer(tmp_path / "a.zarr", {"action": values["action"], "img": pixels}, 2)
    found = zarr_buffer.read(buffer, ALL)
    assert found.spec.observation["img"].is_image
    np.testing.assert_array_equal(found.observations, pixels.reshape(ROWS, -1))


# HDF5


@pytest.fixture
def robomimic(tmp_path):
    """Twelve demonstrations, so that demo_10 stands before demo_2 by name."""
    episodes = data_sets.episodes_of(range(1, 13))
    data_sets.robomimic_hdf5(episodes, tmp_path)
    return tmp_path / "robomimic.hdf5"


def change(path, edit):
    import h5py

    with h5py.File(path, "a") as file:
        edit(file)


def test_robomimics_demonstrations_are_in_numeric_order(robomimic):
    found = hdf5.read(robomimic, ALL)
    assert found.lengths.tolist() == list(range(1, 13))
    assert {k: v.shape for k, v in found.spec.observation.items()} == {"low": (1,), "top": (2,)}
    assert hdf5.read(robomimic, of("top", "low[:1]")).observations.shape[1] == 3
    assert hdf5.FORMAT.read_validation(robomimic, ALL) is None


def test_robomimics_filters_part_training_from_validation(robomimic):
    def edit(file):
        file["mask/train"] = np.array([b"demo_0", b"demo_10", b"demo_2"])
        file["mask/valid"] = np.array([b"demo_11", b"demo_3"])

    change(robomimic, edit)
    assert hdf5.read(robomimic, ALL).lengths.tolist() == [1, 3, 11]
    assert hdf5.FORMAT.read_validation(robomimic, ALL).lengths.tolist() == [4, 12]


def test_robomimics_pictures_are_passed_over(robomimic):
    def edit(file):
        for name, demo in file["data"].items():
            steps = int(name.split("_")[1]) + 1
            for group in ("obs", "next_obs"):
                demo[f"{group}/camera"] = np.zeros((steps, 8, 8, 3), np.uint8)

    change(robomimic, edit)
    (note,) = hdf5.read(robomimic, ALL).notes
    assert note.startswith("the images camera were passed over")
    seen = hdf5.read(robomimic, of("camera", "low"))
    assert seen.spec.observation["camera"].is_image


def without(name):
    return lambda file: file.__delitem__(name)


def with_nan(file):
    file["data/demo_4/actions"][...] = np.nan


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (without("data/demo_4/actions"), "data/demo_4 has no 'actions'"),
        (without("data/demo_4/obs/top"), r"demo_4: no 'top'.*low"),
        (without("data/demo_4/rewards"), "demo_4: there are no rewards"),
        (with_nan, "actions, column 0: NaN or infinite, first in row 10"),
        (without("data"), r"neither robomimic's.*\(the file has nothing\)"),
    ],
)
def test_bad_robomimic_files_are_refused(robomimic, edit, says):
    change(robomimic, edit)
    with pytest.raises(DataError, match=says):
        hdf5.read(robomimic, ALL)


def test_d4rl_without_what_followed(tmp_path):
    """Its old files: time-outs lose their last action, as in its own qlearning_dataset."""
    episodes = data_sets.episodes_of((4, 5, 6))
    path = Path(data_sets.d4rl_hdf5(episodes, tmp_path))
    change(path, lambda file: file.__delitem__("next_observations"))
    found = hdf5.read(path, ALL)
    assert found.lengths.tolist() == [4, 4, 6]
    np.testing.assert_array_equal(found.final_observations[1], episodes[1].observations[4])
    assert found.masks[found.ends - 1].tolist() == [0, 1, 0]


def test_d4rl_that_is_cut_off(tmp_path):
    """hopper-medium ends in the middle of a trajectory."""
    path = Path(data_sets.d4rl_hdf5(data_sets.episodes_of((4, 6)), tmp_path))
    change(path, lambda file: file["timeouts"].write_direct(np.zeros(10, bool)))
    found = hdf5.read(path, ALL)
    assert found.lengths.tolist() == [4, 6]
    assert "cut off" in found.notes[0]


def test_a_damaged_hdf5_file_is_refused(robomimic):
    robomimic.write_bytes(robomimic.read_bytes()[:900])
    assert hdf5.matches(robomimic)
    with pytest.raises(DataError, match=r"HDF5|damaged"):
        hdf5.read(robomimic, ALL)


# Minari


def minari_dataset(folder, monkeypatch, space, observations, action_space=None, **further):
    import gymnasium
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    rng, actions, buffers = np.random.default_rng(1), [], []
    for steps in LENGTHS:
        chosen = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
        if action_space is not None:
            chosen = rng.integers(0, 2, steps)
        actions.append(chosen)
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                observations=observations(steps + 1, len(actions)),
                actions=chosen,
                rewards=[0.5] * steps,
                terminations=[False] * (steps - 1) + [steps == 3],
                truncations=[False] * (steps - 1) + [steps != 3],
            )
        )
    minari.create_dataset_from_buffers(
        "room/test-v0",
        buffers,
        observation_space=space,
        action_space=action_space or box,
        algorithm_name="none",
        author="none",
        author_email="none@example.org",
        code_permalink="https://example.org",
        **further,
    )
    return folder / "room" / "test-v0", np.concatenate(actions)


def counted(steps, episode, width=3):
    return (100.0 * episode + np.arange(steps)[:, None] + np.arange(width) / 8).astype(np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_minari_data_sets(tmp_path, monkeypatch, data_format):
    from gymnasium import spaces

    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    path, actions = minari_dataset(tmp_path, monkeypatch, space, counted, data_format=data_format)
    expected = np.concatenate([counted(n, i + 1) for i, n in enumerate(LENGTHS)])
    found = minari_files.read(path, ALL)
    assert_are(found, expected, actions)
    finals = np.concatenate([counted(n + 1, i + 1)[-1:] for i, n in enumerate(LENGTHS)])
    np.testing.assert_array_equal(found.final_observations, finals)
    assert found.masks.tolist() == [1.0] * 8 + [0.0]
    assert found.rewards.tolist() == [0.5] * 9
    assert_are(minari_files.read(path / "data", ALL), expected, actions)
    # Runs of earlier versions, which read no rewards, are matched by this.
    before = dataclasses.replace(found, rewards=None, masks=None).sha256
    assert before == Trajectories.from_arrays(expected, actions, ENDS).sha256


@pytest.mark.filterwarnings("ignore")
def test_minari_dictionaries(tmp_path, monkeypatch):
    """As the kitchen's: an observation, and goals by the name of what is to be done."""
    from gymnasium import spaces

    box = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    space = spaces.Dict({"observation": box, "goal": spaces.Dict({"kettle": box})})

    def observations(steps, episode):
        seen = counted(steps, episode)
        return {"observation": seen, "goal": {"kettle": -seen}}

    path, actions = minari_dataset(tmp_path, monkeypatch, space, observations)
    seen = np.concatenate([counted(n, i + 1) for i, n in enumerate(LENGTHS)])
    assert_are(minari_files.read(path, ALL), seen, actions)
    both = minari_files.read(path, of("goal/kettle[:1]", "observation"))
    assert_are(both, np.concatenate([-seen[:, :1], seen], axis=1), actions)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["discrete", "pixels", "image and state"])
def test_spaces_that_are_no_vectors(tmp_path, monkeypatch, case):
    """Trial 8."""
    from gymnasium import spaces

    pixels = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    box = spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def image(steps, episode):
        return np.zeros((steps, 64, 64, 3), np.uint8)

    if case == "discrete":
        space = spaces.Discrete(2)
        path, _ = minari_dataset(tmp_path, monkeypatch, box, counted, action_space=space)
        with pytest.raises(DataError, match=r"actions: discrete actions \(int64\)"):
            minari_files.read(path, ALL)
    elif case == "pixels":
        path, _ = minari_dataset(tmp_path, monkeypatch, pixels, image)
        assert minari_files.read(path, ALL).spec.observation["observation"].is_image
    else:
        space = spaces.Dict({"image": pixels, "state": box})
        path, actions = minari_dataset(
            tmp_path,
            monkeypatch,
            space,
            lambda n, i: {"image": image(n, i), "state": counted(n, i)},
        )
        found = minari_files.read(path, ALL)
        seen = np.concatenate([counted(n, i + 1) for i, n in enumerate(LENGTHS)])
        assert_are(found, seen, actions)
        assert list(found.spec.observation) == ["state"]
        assert found.notes[0].startswith("the images image were passed over")


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
    found = lerobot.read(robot, ALL)
    assert_are(found, observations, values["action"])
    assert found.sha256 == Trajectories.from_arrays(observations, values["action"], ENDS).sha256
    state = lerobot.read(robot, of("observation.state"))
    assert_are(state, values["state"][:, :2], values["action"])


def test_a_damaged_lerobot_data_set_is_refused(robot):
    for file in (robot / "data").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="pyarrow"):
        lerobot.read(robot, ALL)


def test_a_file_that_is_missing_is_noticed(tmp_path):
    """Trial 5: one of ten files deleted."""
    path = Path(data_sets.lerobot(data_sets.episodes_of([4] * 10), tmp_path, "v2.1"))
    (path / "data/chunk-000/episode_000003.parquet").unlink()
    with pytest.raises(DataError, match=r"promises 10 episodes, but data/ holds 9.*missing is 3"):
        lerobot.read(path, ALL)


def test_frames_that_are_missing_are_noticed(tmp_path):
    path = Path(data_sets.lerobot(data_sets.episodes_of([4] * 10), tmp_path))
    info = json.loads((path / "meta/info.json").read_text()) | {"total_frames": 41}
    (path / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="promises 41 frames, but data/ holds 40"):
        lerobot.read(path, ALL)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_several_tasks_are_chosen_from(tmp_path, version):
    """Trial 5: two values of `task_index`."""
    episodes = data_sets.episodes_of(range(3, 9))
    tasks = [0, 1, 0, 0, 1, 0]
    path = Path(data_sets.lerobot(episodes, tmp_path, version, tasks))
    with pytest.raises(DataError, match=r"2 tasks.*--tasks.*0 \(push\), 1 \(pull\)") as caught:
        lerobot.read(path, ALL)
    assert "\n" not in str(caught.value)
    for wanted in ("1", "pull"):
        found = lerobot.read(path, Selection(tasks=(wanted,)))
        assert found.lengths.tolist() == [4, 7]
        np.testing.assert_array_equal(found.actions[:4], episodes[1].actions)
        assert found.notes[0] == "2 of 6 episodes are of the tasks chosen"
    assert len(lerobot.read(path, Selection(tasks=("0", "pull"))).ends) == 6
    with pytest.raises(DataError, match=r"no task 'lift'.*push"):
        lerobot.read(path, Selection(tasks=("lift",)))


def rewrite(path, **columns):
    """Replace columns of a data set's only file."""
    import pyarrow
    from pyarrow import parquet

    file = next((path / "data").rglob("*.parquet"))
    for other in list((path / "data").rglob("*.parquet"))[1:]:
        other.unlink()
    table = parquet.read_table(file)
    for name, values in columns.items():
        index = table.column_names.index(name)
        table = table.set_column(index, name, pyarrow.array(values))
    parquet.write_table(table, file)


@pytest.mark.parametrize(
    ("column", "row", "value", "says"),
    [
        ("observation.state", 3, None, "'observation.state': a value is missing in row 3"),
        ("observation.state", 5, [1.0, None, 2.0], "'observation.state': .* missing in row 5"),
        ("action", 2, [1.0], "'action': 1 values in row 2 of the data, but 2 in row 0"),
        ("next.reward", 4, None, "'next.reward': a value is missing in row 4"),
    ],
)
def test_missing_and_ragged_values_are_named(tmp_path, column, row, value, says):
    """Trial 6."""
    episodes = data_sets.episodes_of([8])
    path = Path(data_sets.lerobot(episodes, tmp_path, "v2.1"))
    values = {
        "observation.state": episodes[0].observations[:-1].tolist(),
        "action": episodes[0].actions.tolist(),
        "next.reward": episodes[0].rewards.tolist(),
    }[column]
    values[row] = value
    rewrite(path, **{column: values})
    with pytest.raises(DataError, match=says) as caught:
        lerobot.read(path, ALL)
    assert "\n" not in str(caught.value)


def test_many_rows_are_read_in_parts(tmp_path, monkeypatch):
    episodes = data_sets.episodes_of([40, 3, 50])
    path = Path(data_sets.lerobot(episodes, tmp_path, "v2.1"))
    whole = lerobot.read(path, ALL)
    monkeypatch.setattr(lerobot, "BATCH", 7)
    assert lerobot.read(path, ALL).sha256 == whole.sha256


def layouts(flat):
    """The arrow arrays that hold 24 numbers in rows of one, of four, or of two by two."""
    import pyarrow

    def lists(values, width, kind):
        if kind == "fixed":
            return pyarrow.FixedSizeListArray.from_arrays(values, width)
        made, offset = {
            "list": (pyarrow.ListArray, np.int32),
            "large": (pyarrow.LargeListArray, np.int64),
        }[kind]
        offsets = np.arange(len(values) // width + 1, dtype=offset) * width
        return made.from_arrays(pyarrow.array(offsets), values)

    found = {"scalar": flat}
    for kind in ("fixed", "list", "large"):
        found[kind] = lists(flat, 4, kind)
        found[f"list of {kind}"] = lists(lists(flat, 2, kind), 2, "list")
    found["fixed of fixed"] = lists(lists(flat, 2, "fixed"), 2, "fixed")
    return found


NUMBERS = ("float64", "float32", "int64", "int32", "uint8", "bool")


@pytest.mark.parametrize("numbers", NUMBERS)
def test_buffers_hold_what_lists_of_python_hold(numbers):
    """Of whole arrays and of slices, whose buffers begin before them; nothing else is read."""
    import pyarrow

    flat = pyarrow.array((np.arange(24) - 3).astype(numbers))
    for name, column in layouts(flat).items():
        for part in (column, column[2:], column[1:-1], column[3:4], column[2:][1:]):
            found = lerobot._values(Path("a file"), name, part, 0)
            np.testing.assert_array_equal(found, np.array(part.to_pylist()), name)
            assert found.dtype == numbers, name


def test_what_is_missing_or_ragged_outside_a_slice_does_not_matter():
    import pyarrow

    rows = [None, [1.0], [1.0, 2.0], [3.0, 4.0], [5.0, None], [6.0, 7.0]]
    column = pyarrow.array(rows, pyarrow.list_(pyarrow.float64()))
    found = lerobot._values(Path("a file"), "action", column[2:4], 2)
    assert found.tolist() == [[1, 2], [3, 4]]
    for first, last, says in (
        (0, 3, "missing in row 0"),
        (1, 3, "2 values in row 2 of the data, but 1 in row 1"),
        (3, 6, "missing in row 4"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            lerobot._values(Path("a file"), "action", column[first:last], first)
        assert "\n" not in str(caught.value)
    fixed = pyarrow.array(rows[2:], pyarrow.list_(pyarrow.float64(), 2))
    assert lerobot._values(Path("a file"), "action", fixed[:2], 0).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match="missing in row 2"):
        lerobot._values(Path("a file"), "action", fixed[1:], 1)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_columns_in_chunks_and_parts_are_read_as_they_are(tmp_path, monkeypatch, numbers):
    import pyarrow
    from pyarrow import parquet

    values = np.linspace(-1, 1, 24) if numbers.startswith("float") else np.arange(24)
    columns = {}
    for name, whole in layouts(pyarrow.array(values.astype(numbers))).items():
        # Chunks of unequal length, the second a slice out of the middle.
        columns[name] = pyarrow.chunked_array([whole[:2], whole[1:6], whole[2:4]])
    (tmp_path / "data").mkdir()
    table = pyarrow.table(columns)
    parquet.write_table(table[:5], tmp_path / "data" / "a.parquet", row_group_size=2)
    parquet.write_table(table[5:], tmp_path / "data" / "b.parquet")
    monkeypatch.setattr(lerobot, "BATCH", 3)
    source = lerobot._Source(tmp_path)
    assert source.kinds == dict.fromkeys(columns, np.dtype(numbers))
    read = source.read(list(columns))
    for name, array in read.items():
        expected = np.array(table[name].to_pylist())
        if numbers.startswith("float"):
            expected = expected.astype(np.float32)
        np.testing.assert_array_equal(array, expected, name)
        assert array.dtype == (np.float32 if numbers.startswith("float") else numbers)


def test_a_large_data_set_is_read_without_copies(tmp_path):
    """Trial 13: 200,000 x 56, 43 MB; as lists they took 600 MB beside it."""
    import pyarrow
    from pyarrow import parquet

    path = Path(data_sets.lerobot(data_sets.episodes_of([8]), tmp_path))
    rows, widths = 200_000, {"observation.state": 42, "action": 14}
    columns: dict = {
        name: pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(np.linspace(-1, 1, rows * width, dtype=np.float32)), width
        )
        for name, width in widths.items()
    }
    index = np.arange(rows)
    columns |= {"episode_index": index // 400, "frame_index": index % 400}
    for file in (path / "data").rglob("*.parquet"):
        file.unlink()
    parquet.write_table(pyarrow.table(columns), path / "data" / "file.parquet")
    (path / "meta" / "info.json").write_text(json.dumps({"total_frames": rows}))
    del columns
    tracemalloc.start()
    before = pyarrow.total_allocated_bytes()
    found = lerobot.read(path, ALL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    numbers = found.observations.nbytes + found.actions.nbytes
    assert found.lengths.tolist() == [400] * 500
    assert peak < 1.6 * numbers
    assert pyarrow.total_allocated_bytes() - before < 0.1 * numbers


def test_discrete_actions_of_a_robot_are_refused(tmp_path):
    path = Path(data_sets.lerobot(data_sets.episodes_of([8]), tmp_path, "v2.1"))
    rewrite(path, action=[[1, 2]] * 8)
    with pytest.raises(DataError, match=r"action: discrete actions \(int64\)"):
        lerobot.read(path, ALL)


# Of all


@pytest.mark.parametrize(
    ("form", "marker", "package", "command"),
    [
        (zarr_buffer, ".zgroup", "zarr", r"'nfrl\[data\]'"),
        (minari_files, "metadata.json", "minari", r"'nfrl\[data\]'"),
        (lerobot, "meta/info.json", "pyarrow", r"'nfrl\[data\]'"),
        (hdf5, "a.hdf5", "h5py", "h5py"),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, form, marker, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / marker).parent.mkdir(exist_ok=True)
    (tmp_path / marker).write_text("{}")
    with pytest.raises(UserError, match=rf"{package}.*pip install {command}"):
        form.read(tmp_path, ALL)


@pytest.mark.parametrize("form", [npz, hdf5, zarr_buffer, minari_files])
def test_only_lerobots_data_name_tasks(tmp_path, form):
    episodes = data_sets.episodes_of([4, 4])
    write = {npz: data_sets.npz, hdf5: data_sets.d4rl_hdf5}.get(form)
    path = Path(write(episodes, tmp_path)) if write else tmp_path
    with pytest.raises(DataError, match="--tasks"):
        form.read(path, Selection(tasks=("0",)))


def test_a_vector_of_bytes_beside_an_image_is_numbers():
    """A gripper's flag, say, which is not packed as pixels are."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    flags = np.arange(10, dtype=np.uint8).reshape(5, 2)
    packed, specs = lay_out(Path("a"), {"camera": pixels, "flag": flags}, ("flag", "camera"))
    parts = unpack(packed, Spec(specs, ActionSpec.unit(1)))
    np.testing.assert_array_equal(parts["flag"], flags.astype(np.float32))
    np.testing.assert_array_equal(parts["camera"], pixels)


def test_an_error_names_a_package_as_pip_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UserError, match=r"needs pillow .*pip install 'nfrl\[video\]'"):
        require(Path("a"), "PIL.Image", VIDEO)
