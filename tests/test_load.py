"""``nfrl.load``: data by URI, path or as arrays; and what ``nfrl data check`` says of them."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import data_sets
import numpy as np
import pytest
from test_architecture import MODULES, imports

import nfrl
from nfrl import registry
from nfrl.cli import data as command
from nfrl.data.errors import DataError
from nfrl.data.formats import ogbench
from nfrl.data.formats.reading import Format
from nfrl.data.trajectories import Trajectories
from nfrl.errors import UserError

LENGTHS = (5, 1, 9, 30, 2, 7, 12, 3, 4, 6, 8, 10)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where every format keeps its data."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("NFRL_DATA", str(tmp_path / "ogbench"))
    return tmp_path


def on_the_device(part):
    """What agents draw from: the arrays in the rows of transitions."""
    dataset = part.to_dataset()
    rows = np.asarray(dataset.transitions)
    names = ("observations", "actions", "rewards", "masks")
    return {"rows": rows} | {name: np.asarray(getattr(dataset, name))[rows] for name in names}


@pytest.mark.filterwarnings("ignore")
def test_every_format_gives_the_same_data(folder):
    episodes = data_sets.episodes_of(LENGTHS)
    found = {form: nfrl.load(data_sets.write(form, episodes, folder)) for form in data_sets.WRITERS}
    expected = found["npz"]
    assert expected.training.lengths.tolist() == list(LENGTHS[:-1])
    assert expected.validation.lengths.tolist() == [10]
    for form, data in found.items():
        assert data.spec.action == expected.spec.action, form
        assert data.spec.observation_dim == 3, form
        for part in ("training", "validation"):
            ours, theirs = (on_the_device(getattr(each, part)) for each in (data, expected))
            for name, array in theirs.items():
                np.testing.assert_array_equal(ours[name], array, f"{form}: {name}")
    for form in ("npz", "hdf5, D4RL", "hdf5, robomimic", "minari"):
        np.testing.assert_array_equal(
            found[form].training.final_observations,
            np.stack([episode.observations[-1] for episode in episodes[:-1]]),
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", data_sets.WRITERS)
def test_a_uri_finds_the_same_data_again(folder, form):
    episodes = data_sets.episodes_of((4, 5, 6))
    data = nfrl.load(data_sets.write(form, episodes, folder))
    assert data.format == data.uri.partition(":")[0] == form.split()[0].strip(",")
    assert data.path.is_absolute()
    again = nfrl.load(data.uri)
    assert (again.sha256, again.path, again.uri) == (data.sha256, data.path, data.uri)
    assert nfrl.load(data.path).sha256 == data.sha256


# Where data lie


def test_names_of_formats_know_their_folders(folder, monkeypatch):
    episodes = data_sets.episodes_of((4, 5, 6))
    shutil.move(data_sets.lerobot(episodes, folder), folder / "hub" / "me" / "robot")
    data = nfrl.load("lerobot:me/robot")
    assert (data.uri, data.path) == ("lerobot:me/robot", folder / "hub/me/robot")
    (folder / "ogbench").mkdir()
    shutil.move(data_sets.npz(episodes, folder), folder / "ogbench" / "cube-v0.npz")
    data = nfrl.load("ogbench:cube-v0")
    assert (data.uri, data.format) == ("ogbench:cube-v0", "npz")
    assert data.sha256 == ogbench.sha256(folder / "ogbench" / "cube-v0.npz")


def test_relative_paths_and_the_home_folder(folder, monkeypatch):
    path = Path(data_sets.npz(data_sets.episodes_of((4, 5, 6)), folder))
    monkeypatch.chdir(folder)
    assert nfrl.load("data.npz").path == path
    assert nfrl.load("npz:data.npz").uri == f"npz:{path}"
    monkeypatch.setenv("HOME", str(folder))
    assert nfrl.load("~/data.npz").path == path
    assert nfrl.load("npz:~/data.npz").path == path


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("nothing.zarr", "nothing.zarr: there is no such file or folder"),
        ("nothing.npz", "nothing.npz: there is no such file"),
        ("minari:D4RL/door/human-v9", "D4RL/door/human-v9: there is no such file or folder"),
        ("zar:a", "unknown format of data 'zar'; did you mean zarr"),
        ("text", "no format that is known.*zarr: a zarr replay buffer"),
        ("hdf5:text", "cannot be read by h5py"),
        ("zarr:text", "cannot be read by zipfile"),
        ("lerobot:text", "no meta/info.json"),
        ("minari:text", "no data/metadata.json"),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(folder, monkeypatch, uri, says):
    monkeypatch.chdir(folder)
    for name in ("text", "hub/text", "minari/text"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("text")
    with pytest.raises(UserError, match=says) as caught:
        nfrl.load(uri)
    assert "\n" not in str(caught.value)


# Training and validation


def arrays(lengths, **changes):
    rows = sum(lengths)
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, 3)),
        "actions": rng.uniform(-1, 1, (rows, 2)),
        "terminals": np.isin(np.arange(rows), np.cumsum(lengths) - 1),
    } | changes


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (9, 1), (20, 2), (29, 2)])
def test_a_tenth_is_held_out(count, held_out):
    data = nfrl.load(arrays([5] * count))
    assert (len(data.training.ends), len(data.validation.ends)) == (count - held_out, held_out)
    assert "held out" in data.notes[-1]
    assert (data.path, data.uri, data.format) == (None, "arrays", "arrays")


def test_of_a_single_trajectory_rows_are_held_out():
    data = nfrl.load(arrays([41]))
    assert (data.training.transitions, data.validation.transitions) == (36, 4)
    assert data.notes == ("there is a single trajectory: its last 4 rows are held out",)
    assert nfrl.load(arrays([3])).validation.transitions == 1
    with pytest.raises(DataError, match="single transition"):
        nfrl.load(arrays([2]))


def test_an_npz_files_validation_data_stand_beside_it(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays([5, 5]))
    held_out = arrays([4, 4, 4])
    held_out["actions"] *= 2
    np.savez(tmp_path / "a-val.npz", **held_out)
    data = nfrl.load(tmp_path / "a.npz")
    assert (len(data.training.ends), len(data.validation.ends)) == (2, 3)
    assert data.sha256 == ogbench.sha256(tmp_path / "a.npz")
    # What the actions are is asked of both.
    assert data.training.spec == data.validation.spec
    assert not data.spec.action.is_unit
    np.savez(tmp_path / "a-val.npz", **arrays([4], observations=np.zeros((4, 2))))
    with pytest.raises(DataError, match=r"observations of the validation.*\(2,\).*\(3,\)"):
        nfrl.load(tmp_path / "a.npz")


def test_robomimics_validation_data_are_used(tmp_path):
    import h5py

    data_sets.robomimic_hdf5(data_sets.episodes_of((3, 4, 5)), tmp_path)
    with h5py.File(tmp_path / "robomimic.hdf5", "a") as file:
        file["mask/valid"] = np.array([b"demo_1"])
    data = nfrl.load(tmp_path / "robomimic.hdf5")
    assert data.training.lengths.tolist() == [3, 5]
    assert data.validation.lengths.tolist() == [4]


def test_locked_joints_and_grippers_are_in_the_spec(tmp_path):
    """Trial 4."""
    import zarr

    r = np.random.default_rng(0)
    a = r.uniform(-1, 1, (400, 3)).astype("f")
    a[:, 0], a[:, 1] = 0.3, np.where(r.uniform(size=400) < 0.5, -1, 1)
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    root.create_array("data/state", data=r.normal(size=(400, 6)).astype("f"))
    root.create_array("data/action", data=a)
    root.create_array("meta/episode_ends", data=np.arange(40, 401, 40))
    values = nfrl.load(tmp_path / "a.zarr").spec.action.values
    assert values == ((float(np.float32(0.3)),), (-1.0, 1.0), None)


@pytest.mark.parametrize("form", ["npz", "zarr v2"])
def test_any_range_of_actions_is_taken(tmp_path, form):
    """Trial 7, in both formats; and the bounds of an environment, where there is one."""
    episodes = data_sets.episodes_of([40] * 10)
    loud = [episode._replace(actions=episode.actions * 2) for episode in episodes]
    data = nfrl.load(data_sets.write(form, loud, tmp_path))
    actions = np.concatenate([part.actions for part in (data.training, data.validation)])
    np.testing.assert_array_equal(data.spec.action.low, actions.min(axis=0))
    np.testing.assert_array_equal(data.spec.action.high, actions.max(axis=0))
    bounded = data.within(([-2, -3], [2, 3]))
    assert bounded.validation.spec.action.low == bounded.spec.action.low == (-2, -3)
    with pytest.raises(DataError, match=r"row \d+, column 0 is .*bounds \[-1, 1\]"):
        data.within(([-1, -1], [1, 1]))
    halved = data.changed(lambda part: dataclasses.replace(part, actions=part.actions / 2))
    assert halved.spec.action.is_unit
    assert halved.sha256 == data.sha256


# Hashes


@pytest.mark.filterwarnings("ignore")
def test_runs_of_before_rewards_were_read_are_matched(folder):
    data = nfrl.load(data_sets.minari(data_sets.episodes_of((4, 5, 6)), folder))
    parts = (data.training, data.validation)
    before = Trajectories.from_arrays(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("observations", "actions")),
        np.array([4, 9, 15]),
    )
    assert data.sha256 != before.sha256
    assert data.matches(data.sha256)
    assert data.matches(before.sha256)
    assert not data.matches("0" * 64)


# Formats of a user's own


def test_a_users_format_stands_beside_ours(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    def read(path, selection):
        table = np.loadtxt(path, delimiter=",", ndmin=2)
        return Trajectories.from_arrays(table[:, :-1], table[:, -1:], np.array([4, 10]))

    csv = Format("numbers and commas", lambda path: path.suffix == ".csv", read)
    ours = list(registry.entries("formats"))
    monkeypatch.setattr(registry, "entries", lambda kind: [*ours, ("csv", csv)])
    np.savetxt(tmp_path / "a.csv", rng.uniform(size=(10, 3)), delimiter=",")
    for uri in (tmp_path / "a.csv", f"csv:{tmp_path / 'a.csv'}"):
        data = nfrl.load(uri)
        assert (data.format, data.training.lengths.tolist()) == ("csv", [4])

    class Module:
        """As a module with two functions is."""

        matches, read = staticmethod(csv.matches), staticmethod(csv.read)

    monkeypatch.setattr(registry, "entries", lambda kind: [*ours, ("table", Module)])
    assert nfrl.load(tmp_path / "a.csv").format == "table"


def test_trajectories_are_data_too():
    whole = nfrl.load(arrays([5, 5, 5])).training
    data = nfrl.load(whole)
    assert (len(data.training.ends), data.sha256) == (1, whole.sha256)
    with pytest.raises(DataError, match="chosen by name"):
        nfrl.load(whole, observation_keys=("a",))


def test_loading_needs_neither_jax_nor_a_simulator(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays([5, 5, 5]))
    code = (
        f"import sys, nfrl; assert 'numpy' not in sys.modules; nfrl.load({str(path)!r}); "
        "print(*sorted({'jax', 'mujoco', 'gymnasium', 'h5py', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_no_module_of_the_data_imports_itself_on_a_detour():
    """Readers stand above what they share, and it above nothing of theirs."""
    ours = {name: imports(name) for name in MODULES if name.startswith("nfrl.data.")}
    above: dict[str, set[str]] = {name: imported & ours.keys() for name, imported in ours.items()}
    while free := {name for name, below in above.items() if not below}:
        above = {name: below - free for name, below in above.items() if name not in free}
    assert not above


# The command line


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", data_sets.WRITERS)
def test_every_format_is_checked(folder, capsys, form):
    episodes = data_sets.episodes_of((30, 1, 12))
    for episode in episodes:
        episode.actions[:, 0] = 0.5
    uri = data_sets.write(form, episodes, folder)
    command.run(["check", uri])
    said = capsys.readouterr().out
    data = nfrl.load(uri)
    for words in (
        f"sound data of the format {data.format}",
        "31 transitions in 2 trajectories of 1 to 30",
        "observations of 3 numbers, actions of 2",
        "action 0: always 0.5",
        "1 of 2 trajectories end for good",
        "note: the last trajectory is held out",
        data.sha256,
        data.uri,
    ):
        assert words in said


def test_what_is_checked_can_be_chosen(tmp_path, capsys):
    path = data_sets.lerobot(data_sets.episodes_of((4, 5, 6)), tmp_path, tasks=[0, 1, 1])
    words = ["check", path, "--tasks", "pull", "--observation-keys", "observation.state[:2]"]
    command.run(words)
    said = capsys.readouterr().out
    assert "2 of 3 episodes are of the tasks chosen" in said
    assert "observation.state[:2]" in said
    with pytest.raises(DataError, match="--tasks"):
        command.run(["check", path])


def test_provenance_is_said(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **arrays([5, 5, 5]))
    about = {"origin": "made by nfrl", "seed": 3, "modes": {"ways_round": "2 of 2"}}
    (tmp_path / "a.json").write_text(json.dumps(about))
    command.run(["check", str(tmp_path / "a.npz")])
    said = capsys.readouterr().out
    assert "from: made by nfrl (seed 3)" in said
    assert "ways round 2 of 2" in said
