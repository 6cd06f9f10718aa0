"""Data sets joined into one folder: the same trajectories, mapped into memory and never read."""

import errno
import mmap
import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pages
import pytest
from data_sets import episodes_of, npz
from test_streamed import random_trajectories

from nfrl.cli.main import main
from nfrl.data.formats import npy
from nfrl.data.formats.reading import Selection
from nfrl.data.join import join
from nfrl.data.load import load
from nfrl.errors import UserError
from nfrl.reading import read_json
from nfrl.reports.streaming import streaming


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Two files of an OGBench set's form, made apart."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one", 0), ("two", 1)):
        folder = tmp_path / name
        folder.mkdir()
        npz(episodes_of((5, 3, 4), seed), folder)
    return [tmp_path / name / "data.npz" for name in ("one", "two")]


def test_joined_data_are_those_of_their_parts(parts, tmp_path):
    join(tmp_path / "all", parts, show=False)
    whole, loaded = load(tmp_path / "all"), [load(each) for each in parts]
    for name in ("training", "validation"):
        found, those = getattr(whole, name), [getattr(each, name) for each in loaded]
        for array in ("observations", "actions", "rewards", "masks"):
            expected = np.concatenate([getattr(each, array) for each in those])
            np.testing.assert_array_equal(getattr(found, array), expected)
        expected = np.concatenate([each.lengths for each in those])
        np.testing.assert_array_equal(found.lengths, expected)
    assert whole.format == "npy"
    # Joined again in memory, they have the same hash.
    again = load(tmp_path / "all").training
    assert again.sha256 == whole.sha256


@pytest.mark.parametrize("finals", [True, False])
def test_what_is_written_is_read(tmp_path, finals):
    ones, others = (random_trajectories((4, 7), finals=finals, seed=seed) for seed in (0, 1))
    with npy.Writer(tmp_path / "all", ["a", "b"]) as writer:
        writer.add(ones, "a")
        writer.add(others, "b")
    found = npy.read(tmp_path / "all", Selection())
    arrays = found.to_arrays()
    for name, array in ones.to_arrays().items():
        expected = np.concatenate([array, others.to_arrays()[name]])
        np.testing.assert_array_equal(arrays[name], expected)


def test_nothing_is_read_but_what_is_wanted(parts, tmp_path):
    join(tmp_path / "all", parts, show=False)
    found = npy.read(tmp_path / "all", Selection())
    for array in (found.observations, found.actions, found.rewards):
        while isinstance(array, np.ndarray):
            array = array.base
        assert isinstance(array, mmap.mmap)


def test_the_command_joins_and_trains(parts, tmp_path, capsys):
    words = [str(each) for each in parts]
    assert main(["data", "join", "all", *words]) == 0
    assert "to train on: 16 transitions in 4 trajectories" in capsys.readouterr().out
    command = [
        *("train", "gaussian-bc", "--data", "all", "--steps", "2", "--training.stream", "True"),
        *("--training.batch-size", "4", "--training.validation-batches", "1", "--agent.hidden"),
        *("8", "--training.log-every", "1", "--training.checkpoint-every", "1"),
    ]
    assert main(command) == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert main(["resume", str(result.parent)]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"observations": np.zeros((8, 2))},
            r"two.*observations: observation \(2,\), but those of .*one",
        ),
        ({"actions": np.zeros((8, 1))}, "actions: 1 numbers, but those of .*one.*: 2 numbers"),
        ({"rewards": None}, "rewards: not there, but those of .*: there"),
        ({"speed": np.zeros(8)}, "further arrays: speed"),
    ],
)
def test_parts_of_several_kinds_are_refused_and_nothing_is_left(parts, tmp_path, change, message):
    given = {
        **{"observations": np.zeros((8, 3)), "actions": np.zeros((8, 2)), "rewards": np.zeros(8)},
        **{"terminals": np.zeros(8), "timeouts": np.arange(8) % 4 == 3},
    }
    kept = {k: v for k, v in {**given, **change}.items() if v is not None}
    np.savez(tmp_path / "two.npz", **kept)
    np.savez(tmp_path / "one.npz", **given)
    with pytest.raises(UserError, match=message):
        join(tmp_path / "all", [tmp_path / "one.npz", tmp_path / "two.npz"], show=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "one.npz", "two", "two.npz"]


def test_a_folder_of_files_with_their_validation_files(parts, tmp_path):
    """As OGBench's sets of 100 million transitions are."""
    for part in parts:
        shutil.copy(part, tmp_path / f"{part.parent.name}.npz")
        shutil.copy(part, tmp_path / f"{part.parent.name}-val.npz")
    join(tmp_path / "all", sorted(tmp_path.glob("*.npz")), show=False)
    found = load(tmp_path / "all")
    assert (len(found.training.ends), len(found.validation.ends)) == (6, 6)
    assert read_json(tmp_path / "all" / npy.ABOUT)["joined"] == [
        str(tmp_path / name) for name in ("one.npz", "two.npz")
    ]


def test_the_commands_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = pages.page("data.md").split("## Data larger than memory")[1]
    sizes = (
        *("--steps", "1", "--episodes", "0", "--agent.hidden", "8"),
        *("--training.batch-size", "8", "--training.validation-batches", "1"),
    )
    for line in pages.blocks(text, "sh")[0].splitlines():
        _, *words = shlex.split(line)
        assert main(words + (list(sizes) if words[0] == "train" else [])) == 0
    assert load("whole").training.transitions == 800


def test_the_table_of_the_page_is_the_record():
    record = read_json(pages.DOCS.parent / "results/bench/stream.json")
    assert streaming(record).markdown() in pages.page("data.md")
    assert f"nfrl bench stream --steps {record['steps']} " in pages.page("data.md")


def test_final_rows_known_in_some_parts_only_are_refused(tmp_path):
    with npy.Writer(tmp_path / "all", ["a", "b"]) as writer:
        writer.add(random_trajectories((4, 7), finals=False), "a")
        with pytest.raises(UserError, match=r"b: arrays of final rows: actions .*of a: none"):
            writer.add(random_trajectories((4, 7)), "b")


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_disk_that_fails_is_told_and_nothing_is_left(parts, tmp_path, monkeypatch, call):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space")

    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr(npy, "open", full, raising=False)
    if call == "fsync":
        monkeypatch.setattr(npy, "open", open)
        monkeypatch.setattr(npy, "os", SimpleNamespace(fsync=full))
    with pytest.raises(UserError, match=r"the disk is full: could not write .*\.npy; make room"):
        join(tmp_path / "all", parts, show=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_folder_that_exists_is_refused(parts, tmp_path):
    (tmp_path / "all").mkdir()
    with pytest.raises(UserError, match="all exists: take it away, or name another folder"):
        join(tmp_path / "all", parts)
    with pytest.raises(UserError, match="there is nothing to join"):
        join(tmp_path / "none", [])


def test_of_a_joined_folder_nothing_is_chosen_by_name(parts, tmp_path):
    join(tmp_path / "all", parts, show=False)
    with pytest.raises(UserError, match="choose observations, actions and tasks when they are"):
        load(tmp_path / "all", observation_keys=("observations[:2]",))
