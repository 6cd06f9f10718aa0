"""Data files: what a good one gives, and that every bad one is refused with key and reason."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nfrl.data.formats import ogbench
from nfrl.errors import UserError


def good(rows: int = 6) -> dict[str, np.ndarray]:
    """Two trajectories of equal length."""
    rng = np.random.default_rng(0)
    terminals = np.zeros(rows, dtype=bool)
    terminals[[rows // 2 - 1, rows - 1]] = True
    return {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
        "terminals": terminals,
        "qpos": rng.normal(size=(rows, 4)).astype(np.float32),
    }


def save(path: Path, arrays: dict) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_good_file_is_read(tmp_path):
    arrays = good()
    loaded = ogbench.load(save(tmp_path / "a.npz", arrays))
    assert loaded.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], array)
        assert loaded[key].dtype == array.dtype


def test_types_are_unified(tmp_path):
    arrays = good() | {"terminals": good()["terminals"].astype(np.float32)}
    arrays["observations"] = arrays["observations"].astype(np.float64)
    loaded = ogbench.load(save(tmp_path / "a.npz", arrays))
    assert loaded["observations"].dtype == np.float32
    assert loaded["terminals"].dtype == bool


def test_images_stay_bytes(tmp_path):
    arrays = good() | {"observations": np.zeros((6, 4, 4, 3), np.uint8)}
    assert ogbench.load(save(tmp_path / "a.npz", arrays))["observations"].dtype == np.uint8


def test_actions_may_exceed_their_bounds_by_rounding(tmp_path):
    arrays = good()
    arrays["actions"][1, 0] = 1.000005
    ogbench.load(save(tmp_path / "a.npz", arrays))


def with_value(key: str, index, value) -> dict:
    arrays = good()
    arrays[key][index] = value
    return arrays


def without(key: str) -> dict:
    arrays = good()
    del arrays[key]
    return arrays


BAD = {
    "observations missing": (without("observations"), ["observations", "missing"]),
    "actions missing": (without("actions"), ["actions", "missing", "qpos"]),
    "terminals missing": (without("terminals"), ["terminals", "missing"]),
    "observations 1-d": (good() | {"observations": np.zeros(6)}, ["observations", "(6,)"]),
    "actions 3-d": (good() | {"actions": np.zeros((6, 2, 1))}, ["actions", "(6, 2, 1)"]),
    "terminals 2-d": (good() | {"terminals": np.ones((6, 1))}, ["terminals", "(6, 1)"]),
    "actions shorter": (good() | {"actions": np.zeros((5, 2))}, ["actions", "5 rows", "6"]),
    "qpos longer": (good() | {"qpos": np.zeros((7, 2))}, ["qpos", "7 rows", "6"]),
    "qpos scalar": (good() | {"qpos": np.float32(1)}, ["qpos", "0 rows"]),
    "no columns": (good() | {"observations": np.zeros((6, 0))}, ["observations", "(6, 0)"]),
    "NaN": (with_value("observations", (4, 1), np.nan), ["observations", "1 of 18", "row 4"]),
    "infinite": (with_value("qpos", (slice(2, 4), 0), np.inf), ["qpos", "2 of 24", "row 2"]),
    "float32 overflow": (
        good() | {"observations": np.full((6, 3), 1e300)},
        ["observations", "18 of 18", "row 0"],
    ),
    "NaN action": (with_value("actions", (0, 0), np.nan), ["actions", "NaN", "row 0"]),
    "action too large": (
        with_value("actions", (3, 1), -1.5),
        ["actions", "-1.5", "row 3", "dimension 1"],
    ),
    "terminals not boolean": (good() | {"terminals": np.arange(6)}, ["terminals", "0 or 1", "2"]),
    "terminals NaN": (
        good() | {"terminals": np.array([0, 0, 1, 0, np.nan, 1])},
        ["terminals", "NaN"],
    ),
    "last not terminal": (with_value("terminals", 5, False), ["terminals", "last row"]),
    "short trajectory": (with_value("terminals", 3, True), ["terminals", "trajectory 1", "1 row"]),
    "no rows": ({key: array[:0] for key, array in good().items()}, ["observations", "no rows"]),
    "text": (good() | {"actions": np.full((6, 2), "up")}, ["actions", "not numbers"]),
    "complex": (good() | {"qpos": np.full((6, 2), 1j)}, ["qpos", "not numbers"]),
    "objects": (good() | {"qpos": np.array([None] * 6)}, ["qpos", "Python objects"]),
    "nothing": ({}, ["observations", "missing", "nothing"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_contents_are_refused(tmp_path, case):
    arrays, words = BAD[case]
    path = save(tmp_path / "bad.npz", arrays)
    with pytest.raises(ogbench.DataError) as caught:
        ogbench.load(path)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(ogbench.DataError, match="no such file"):
        ogbench.load(tmp_path / "absent.npz")
    with pytest.raises(ogbench.DataError, match="this is a folder"):
        ogbench.load(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 200, -30])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = save(tmp_path / "a.npz", good())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ogbench.DataError, match=r"truncated|empty"):
        ogbench.load(path)


def test_a_flipped_byte_is_noticed(tmp_path):
    path = save(tmp_path / "a.npz", good())
    contents = bytearray(path.read_bytes())
    contents[contents.index(good()["observations"].tobytes()) + 5] ^= 1
    path.write_bytes(contents)
    with pytest.raises(ogbench.DataError, match=r"damaged|CRC"):
        ogbench.load(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("<html>502 Bad Gateway</html>")
    with pytest.raises(ogbench.DataError, match=r"no \.npz archive"):
        ogbench.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("observations", "text")
    with pytest.raises(ogbench.DataError, match="not of arrays"):
        ogbench.load(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ogbench.DataError, match=r"no \.npz archive"):
        ogbench.load(path)


def test_the_summary(tmp_path):
    path = save(tmp_path / "a.npz", good(8))
    (tmp_path / "a.json").write_text(json.dumps({"origin": "made by nfrl", "seed": 3}))
    summary = ogbench.summarize(path)
    assert (summary.rows, summary.transitions, summary.trajectories) == (8, 6, 2)
    assert (summary.shortest, summary.longest) == (4, 4)
    assert (summary.observation_size, summary.action_size) == (3, 2)
    assert -1 <= summary.action_range[0] < summary.action_range[1] <= 1
    assert summary.arrays["qpos"] == "float32 (8, 4)"
    assert summary.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert summary.provenance == {"origin": "made by nfrl", "seed": 3}


@pytest.mark.parametrize("contents", [None, "{", "[]", "{}"])
def test_no_provenance(tmp_path, contents):
    if contents is not None:
        (tmp_path / "a.json").write_text(contents)
    assert ogbench.provenance(tmp_path / "a.npz") is None


def test_names(tmp_path, monkeypatch):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    assert ogbench.dataset_directory() == tmp_path
    name = "cube-single-play-v0"
    assert ogbench.dataset_path(name) == tmp_path / "cube-single-play-v0.npz"
    assert ogbench.dataset_path(name, 150).name == "cube-single-play-v0-150ep.npz"
    assert ogbench.dataset_path(name, 150, 2).name == "cube-single-play-v0-150ep-seed2.npz"
    assert ogbench.dataset_path(name, directory="/data") == Path("/data/cube-single-play-v0.npz")
    assert ogbench.validation_path("/data/a.npz") == Path("/data/a-val.npz")
    monkeypatch.delenv("NFRL_DATA")
    assert ogbench.dataset_directory() == Path.home() / ".ogbench" / "data"
