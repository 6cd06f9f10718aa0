"""Images and videos of LeRobot's data sets, and images that are read smaller, of any format."""

import json
import shutil
import sys
import tracemalloc
from pathlib import Path

import data_sets
import gymnasium
import numpy as np
import pytest

import nfrl
from nfrl.data.errors import DataError
from nfrl.data.formats import lerobot, lerobot_images
from nfrl.data.formats.reading import Selection, lay_out
from nfrl.data.packed import unpack
from nfrl.environments.adapters import read_layout
from nfrl.errors import UserError

LENGTHS = (5, 4, 6)
ROWS = sum(LENGTHS)
IMAGE, STATE = "observation.image", "observation.state"
BOTH = Selection((IMAGE, STATE))


def pictures(rows=ROWS, height=16, width=24):
    """Images of noise; the first pixel's red is the row's number."""
    found = np.random.default_rng(1).integers(0, 256, (rows, height, width, 3)).astype(np.uint8)
    found[:, 0, 0, 0] = np.arange(rows)
    return found


def write(folder, version="v3.0", stored="video", images=None, **further):
    episodes = data_sets.episodes_of(LENGTHS)
    images = pictures() if images is None else images
    return Path(
        data_sets.lerobot(episodes, folder, version, images=images, stored=stored, **further)
    )


def seen(found, name=IMAGE):
    return unpack(found.observations, found.spec)[name]


def change_info(path, **values):
    info = json.loads((path / "meta/info.json").read_text()) | values
    (path / "meta/info.json").write_text(json.dumps(info))


def change_column(file, name, change):
    """Change the values of a parquet file's column, a list of them."""
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(file)
    index = table.column_names.index(name)
    values = change(table[name].to_pylist())
    kind = table.schema.field(name).type
    parquet.write_table(table.set_column(index, name, pyarrow.array(values, kind)), file)


def refused(path, says, selection=BOTH):
    with pytest.raises(DataError, match=says) as caught:
        lerobot.read(path, selection)
    assert "\n" not in str(caught.value)


STORES = [
    (version, stored) for version in ("v2.1", "v3.0") for stored in ("video", "bytes", "path")
]


@pytest.mark.parametrize(("version", "stored"), STORES)
def test_lerobot_images_land_in_their_rows(tmp_path, version, stored):
    path = write(tmp_path, version, stored)
    found = lerobot.read(path, BOTH)
    np.testing.assert_array_equal(seen(found), pictures())
    assert seen(found)[:, 0, 0, 0].tolist() == list(range(ROWS))
    assert found.spec.observation[IMAGE].shape == (16, 24, 3)
    np.testing.assert_array_equal(found.ends, np.cumsum(LENGTHS))
    states = np.concatenate([e.observations[:-1] for e in data_sets.episodes_of(LENGTHS)])
    np.testing.assert_array_equal(seen(found, STATE), states)
    # Without keys nothing is decoded.
    shutil.rmtree(path / "videos", ignore_errors=True)
    passed = lerobot.read(path, Selection())
    assert list(passed.spec.observation) == [STATE]
    assert passed.notes[-1].startswith(f"the images {IMAGE} were passed over")


def test_lerobot_images_are_the_same_data_however_stored(tmp_path):
    hashes = set()
    for version, stored in STORES:
        folder = tmp_path / f"{version}-{stored}"
        folder.mkdir()
        hashes.add(nfrl.load(write(folder, version, stored), observation_keys=(IMAGE,)).sha256)
    assert len(hashes) == 1


@pytest.mark.parametrize(("version", "stored"), STORES)
def test_lerobot_images_of_chosen_tasks(tmp_path, version, stored):
    path = write(tmp_path, version, stored, tasks=[0, 1, 1])
    found = lerobot.read(path, Selection((IMAGE,), tasks=("pull",)))
    np.testing.assert_array_equal(seen(found), pictures()[5:])


@pytest.mark.parametrize("stored", ["video", "bytes"])
def test_lerobot_rows_in_any_order(tmp_path, stored):
    from pyarrow import parquet

    path = write(tmp_path, "v3.0", stored)
    for seed, file in enumerate(sorted((path / "data").rglob("*.parquet"))):
        table = parquet.read_table(file)
        order = np.random.default_rng(seed).permutation(table.num_rows)
        parquet.write_table(table.take(order), file)
    np.testing.assert_array_equal(seen(lerobot.read(path, BOTH)), pictures())


def test_lerobot_frames_are_matched_by_time(tmp_path):
    """Rows need not be on the video's grid: the nearest frame is theirs."""
    path = write(tmp_path, "v2.1")
    for shift, pick in ((0.04, 0), (-0.04, 0), (0.06, 1)):
        moved = np.arange(4) + shift * data_sets.FPS
        file = path / "data/chunk-000/episode_000001.parquet"
        change_column(file, "timestamp", lambda _, moved=moved: (moved / data_sets.FPS).tolist())
        if pick:  # The last row is beyond the video's end.
            refused(path, r"episode_000001.mp4: no frame at 0.360 s, for frame 3 of episode 1")
        else:
            np.testing.assert_array_equal(seen(lerobot.read(path, BOTH)), pictures())


def test_several_lerobot_rows_of_one_frame(tmp_path):
    path = write(tmp_path, "v2.1")
    file = path / "data/chunk-000/episode_000002.parquet"
    change_column(file, "timestamp", lambda times: [times[1], *times[1:]])
    expected = pictures()
    expected[9] = expected[10]
    np.testing.assert_array_equal(seen(lerobot.read(path, BOTH)), expected)


def test_lerobot_videos_where_the_info_does_not_say(tmp_path):
    for version in ("v2.1", "v3.0"):
        path = write(tmp_path, version)
        change_info(path, video_path=None)
        np.testing.assert_array_equal(seen(lerobot.read(path, BOTH)), pictures())


def test_jpegs_are_read_within_their_loss(tmp_path):
    import io

    from PIL import Image

    smooth = np.full((ROWS, 16, 24, 3), 0, np.uint8)
    smooth[:] = (np.arange(ROWS) * 15)[:, None, None, None]
    path = write(tmp_path, "v2.1", "bytes", smooth)

    def as_jpeg(values):
        found = []
        for value in values:
            made = io.BytesIO()
            Image.open(io.BytesIO(value["bytes"])).save(made, "jpeg", quality=95)
            found.append({"bytes": made.getvalue(), "path": None})
        return found

    for file in (path / "data").rglob("*.parquet"):
        change_column(file, IMAGE, as_jpeg)
    found = seen(lerobot.read(path, BOTH)).astype(int)
    assert np.abs(found - smooth).max() <= 2


# What is wrong


@pytest.mark.parametrize(("version", "name"), [("v2.1", "episode_000001"), ("v3.0", "file-001")])
def test_a_lerobot_video_that_is_missing_cut_or_wrong(tmp_path, version, name):
    path = write(tmp_path, version)
    file = next((path / "videos").rglob(f"{name}.mp4"))
    whole = file.read_bytes()
    file.unlink()
    refused(path, rf"{name}.mp4: there is no such video.*download")
    file.write_bytes(whole[: len(whole) // 2])
    refused(path, rf"{name}.mp4: cannot be decoded \(Invalid data.*download")
    file.write_bytes(b"#EXTM3U\nhttp://example.org/a.ts\n")
    refused(path, rf"{name}.mp4: cannot be decoded")
    data_sets.video(file, pictures()[:3])
    refused(path, rf"{name}.mp4: no frame at 0.300 s, for frame 3 of episode .*cut")
    data_sets.video(file, pictures(height=18))
    refused(path, rf"{name}.mp4: frame 0 of episode .*18 x 24 pixels.*16 x 24")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("../{video_key}/{episode_index}.mp4", "outside the data set's folder"),
        ("/etc/{episode_index}.mp4", "outside the data set's folder"),
        ("videos/{episode_index}/{camera}.mp4", "video_path names 'camera'"),
        ("videos/{episode_index:99d}.mp4", "there is no such video"),
    ],
)
def test_lerobot_videos_stay_in_their_folder(tmp_path, template, says):
    path = write(tmp_path, "v2.1")
    change_info(path, video_path=template)
    refused(path, says)


@pytest.mark.parametrize(
    ("values", "says"), [({"fps": 0}, "fps is 0"), ({"chunks_size": "a"}, "chunks_size is 'a'")]
)
def test_lerobot_info_that_makes_no_sense(tmp_path, values, says):
    path = write(tmp_path, "v2.1")
    change_info(path, **values)
    refused(path, says)


def test_lerobot_episodes_that_lie_nowhere(tmp_path):
    path = write(tmp_path)
    file = next((path / "meta/episodes").rglob("*.parquet"))
    ends = f"videos/{IMAGE}/to_timestamp"
    change_column(file, ends, lambda values: [values[0] - 0.2, *values[1:]])
    refused(path, "frame 4 of episode 0 comes after the end of its video")
    change_column(file, ends, lambda values: [None, *values[1:]])
    refused(path, "a value of episode 0 is missing")
    change_column(file, "episode_index", lambda values: [0, 1, 7])
    change_column(file, ends, lambda values: [1.0, *values[1:]])
    refused(path, "meta/episodes does not say where episode 2 lies")
    file.unlink()
    refused(path, "meta/episodes does not say where episode 0 lies")


def test_lerobot_images_that_are_missing_or_damaged(tmp_path):
    path = write(tmp_path, "v2.1", "path")
    file = path / "data/chunk-000/episode_000001.parquet"
    image = path / "images/frame_000006.png"
    whole = image.read_bytes()
    image.unlink()
    refused(path, r"episode_000001.parquet: column 'observation.image', row 6 .*no such file")
    image.write_bytes(whole[:100])
    refused(path, "row 6 of the data.*: the image is damaged")
    image.write_bytes(b"BM no picture")
    refused(path, "row 6 of the data.*: the image is damaged .neither PNG nor JPEG")
    image.write_bytes(whole)
    for outside in ("../secret.png", "/etc/secret.png", "images/../../secret.png"):
        bad = {"bytes": None, "path": outside}
        change_column(file, IMAGE, lambda values, bad=bad: [values[0], bad, *values[2:]])
        refused(path, r"row 6 of the data: '.*secret.png' is outside the data set's folder")
    for bad in ({"bytes": None, "path": None}, None):
        change_column(file, IMAGE, lambda values, bad=bad: [values[0], bad, *values[2:]])
        refused(path, "row 6 of the data: the image is missing")


def test_lerobot_images_of_another_kind(tmp_path):
    import io

    from PIL import Image

    path = write(tmp_path, "v2.1", "bytes")
    file = path / "data/chunk-000/episode_000000.parquet"

    def of(array):
        made = io.BytesIO()
        Image.fromarray(array).save(made, "png")
        value = {"bytes": made.getvalue(), "path": None}
        return lambda values: [*values[:2], value, *values[3:]]

    change_column(file, IMAGE, of(np.zeros((8, 24, 3), np.uint8)))
    refused(path, "row 2 of the data: an image of 8 x 24 pixels, but the first is of 16 x 24")
    change_column(file, IMAGE, of(np.zeros((16, 24), np.uint16)))
    refused(path, "row 2 of the data: an image of more than 8 bits")
    change_column(file, IMAGE, of(np.full((16, 24), 7, np.uint8)))
    assert (seen(lerobot.read(path, BOTH))[2] == 7).all()
    change_info(path, features={STATE: {"dtype": "image"}})
    refused(path, "column 'observation.state' has no images in it", Selection((STATE,)))


@pytest.mark.parametrize(("stored", "package"), [("video", "av"), ("bytes", "PIL.Image")])
def test_lerobot_images_name_the_package_that_is_missing(tmp_path, monkeypatch, stored, package):
    path = write(tmp_path, "v2.1", stored)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'nfrl\[video\]'"):
        lerobot.read(path, BOTH)
    assert lerobot.read(path, Selection()).transitions == ROWS


def test_a_long_lerobot_video_takes_no_more_than_its_array(tmp_path, monkeypatch, capsys):
    images = np.repeat(pictures(height=96, width=96), 20, axis=0)
    episodes = data_sets.episodes_of([150, 150])
    path = Path(data_sets.lerobot(episodes, tmp_path, images=images))
    rows = lerobot_images.Rows(*(np.tile(np.arange(150), 2) for _ in range(3)))
    time = rows.time / data_sets.FPS
    rows = lerobot_images.Rows(np.repeat(np.arange(2), 150), rows.frame, time)
    info = json.loads((path / "meta/info.json").read_text())
    monkeypatch.setattr(lerobot_images, "LONG", 300)
    tracemalloc.start()
    found = lerobot_images.read_videos(path, info, IMAGE, None, rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, images)
    assert peak < found.nbytes + 1_000_000
    assert f"decoding {IMAGE}: 300/300 frames" in capsys.readouterr().err


# Smaller


def smaller(images, height, width):
    """The means of blocks. Pillow rounds twice, along the height and along the width."""
    rows, high, wide, channels = images.shape
    blocks = images.reshape(rows, height, high // height, width, wide // width, channels)
    return blocks.mean((2, 4))


@pytest.mark.parametrize(("version", "stored"), STORES)
def test_lerobot_images_are_read_smaller(tmp_path, version, stored):
    path = write(tmp_path, version, stored)
    found = lerobot.read(path, Selection((f"{IMAGE}[8x6]", STATE)))
    # The name is the same in any size.
    assert found.spec.observation[IMAGE].shape == (8, 6, 3)
    assert np.abs(seen(found) - smaller(pictures(), 8, 6)).max() <= 1
    stored_size = lerobot.read(path, Selection((f"{IMAGE}[16x24]", STATE)))
    assert stored_size.sha256 == lerobot.read(path, BOTH).sha256
    refused(path, r"the images are 16x24, smaller than \[32x24\]", Selection((f"{IMAGE}[32x24]",)))
    twice = Selection((f"{IMAGE}[8x8]", IMAGE))
    refused(path, "observation.image is asked for in two sizes", twice)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_format_are_read_smaller(channels):
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 8, channels)).astype(np.uint8)
    arrays = {
        "camera": images,
        "joints": np.random.default_rng(0).normal(size=(20, 3)),
        "actions": np.random.default_rng(1).uniform(-1, 1, (20, 2)),
        "terminals": np.arange(20) % 10 == 9,
    }
    found = nfrl.load(arrays, observation_keys=("camera[4x4]", "joints"))
    assert found.spec.observation["camera"].shape == (4, 4, channels)
    rows = unpack(found.training.observations, found.spec)["camera"]
    assert np.abs(rows - smaller(images[:9], 4, 4)).max() <= 1


def test_only_images_have_a_size(tmp_path):
    columns = {"state": np.zeros((4, 3), np.float32), "camera": np.zeros((4, 8, 8, 3), np.uint8)}
    with pytest.raises(DataError, match=r"state: only an image has a size: leave out \[4x4\]"):
        lay_out(tmp_path, columns, ("state[4x4]",))
    with pytest.raises(DataError, match=r"camera: the images are 8x8, smaller than \[9x4\]"):
        lay_out(tmp_path, columns, ("camera[9x4]",))
    same, _ = lay_out(tmp_path, columns, ("camera[8x8]",))
    assert np.shares_memory(same, columns["camera"])


def test_an_environments_image_must_have_the_size():
    spaces = gymnasium.spaces
    picture = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    space = spaces.Dict({"camera": picture, "state": spaces.Box(-1, 1, (3,))})
    layout = read_layout(space, ("camera[8x8]", "state"), "Robot-v0")
    assert {name: array.shape for name, array in layout.arrays.items()} == {
        "camera": (8, 8, 3),
        "state": (3,),
    }
    with pytest.raises(UserError, match=r"\(8, 8, 3\), but camera\[4x4\] is wanted: wrap"):
        read_layout(space, ("camera[4x4]",), "Robot-v0")
