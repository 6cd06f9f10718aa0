"""What a new user tried, and what failed: environments, actions, spaces, moved runs, no simulators.

Rows about reading data are tested with the readers: tests/test_formats.py, test_trajectories.py.
That all data that can be made are tasks is tested in tests/test_tasks.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import data_sets
import jax
import jax.numpy as jnp
import numpy as np
import pages
import pytest

import nfrl
from nfrl.cli.main import main
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape

SHORT = ("--training.log-every", "20", "--training.checkpoint-every", "20", "--episodes", "1")
SHORT += ("--training.batch-size", "16", "--training.validation-batches", "1", "--workers", "1")
SHORT += ("--agent.chunks.predicted", "2", "--agent.chunks.executed", "1", "--steps", "40")
NETS = {  # Compiling is what takes time, and a flow's takes most.
    "nf-bc": ("--agent.flow.blocks", "1", "--agent.flow.channels", "8", "--agent.encoder", "16"),
    "gaussian-bc": ("--agent.hidden", "16"),
}
SMALL = {"flow": RealNVPConfig(2, 16), "encoder": (16,), "condition_dim": 8}

ENVIRONMENTS = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Made(gymnasium.Env):
    action_space = Box(-3, 3, (2,), np.float32)
    observation_space = Box(-9, 9, (3,), np.float32)
    count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert np.shape(action) == self.action_space.shape
        self.count += 1
        return self.observation_space.sample(), 1.0, False, self.count >= 5, {}


class Picture(Made):
    observation_space = Box(0, 255, (64, 64, 3), np.uint8)


class Both(Made):
    observation_space = Dict(
        {"image": Box(0, 255, (64, 64, 3), np.uint8), "state": Box(-9, 9, (3,), np.float32)}
    )


class Choice(Made):
    action_space = Discrete(2)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with environments of a user's own."""
    (tmp_path / "my_envs.py").write_text(ENVIRONMENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_envs", None)


def episodes(width=3, actions=2, scale=1.0, count=10):
    made = data_sets.episodes_of([12] * count, width=width)
    rng = np.random.default_rng(1)
    return [
        each._replace(actions=(scale * rng.uniform(-1, 1, (12, actions))).astype(np.float32))
        for each in made
    ]


def train(*words):
    """Train, and return the run's folder."""
    before = set(Path("runs").glob("*/*/*"))
    assert main(["train", *map(str, words), *SHORT, *NETS[words[0]]]) == 0
    (run,) = set(Path("runs").glob("*/*/*")) - before
    return run


def result(run):
    return json.loads((run / "result.json").read_text())


# 1. An environment of one's own


def test_a_gymnasium_id_is_a_task(place):
    data = data_sets.write("zarr v2", episodes(3, 1, 2.0), place)
    found = result(train("nf-bc", "Pendulum-v1", "--dataset", data))
    assert found["task"] == found["environment"] == "Pendulum-v1"
    assert found["measure"] == "return"
    assert found["score"] < 0


def test_a_class_is_a_task_by_either_way_of_naming_it(place):
    data = data_sets.write("npz", episodes(), place)
    first = result(train("gaussian-bc", "my_envs:Made", "--data", data))
    second = result(train("gaussian-bc", "--env", "my_envs:Made", "--data", data, "--name", "made"))
    assert first["score"] == second["score"] == 5.0
    assert (first["task"], second["task"]) == ("my_envs:Made", "made")


def test_training_needs_no_environment_and_evaluation_can_follow(place, capsys):
    run = train("gaussian-bc", "--data", data_sets.write("npz", episodes(), place))
    assert result(run)["score"] is None
    assert main(["eval", str(run), "--episodes", "1", "--workers", "1"]) == 2
    assert "there is nothing to act in: name an environment with --env" in capsys.readouterr().err
    words = ["--env", "my_envs:Made", "--episodes", "2", "--workers", "1"]
    assert main(["eval", str(run), *words]) == 0
    assert "return 5.0" in capsys.readouterr().out


def test_what_does_not_fit_the_environment_is_refused(place, capsys):
    data = data_sets.write("npz", episodes(4), place)
    assert main(["train", "gaussian-bc", "my_envs:Made", "--data", data, *SHORT]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "observations of 4 numbers and actions of 2" in line


# 4. Locked joints and grippers


@pytest.fixture(scope="module")
def gripping():
    """A policy of a joint that moves, one that is locked at 0.3, and a gripper of -1 or 1."""
    rng = np.random.default_rng(0)
    rows = 600
    seen = rng.normal(size=(rows, 2)).astype(np.float32)
    done = np.stack(
        [
            0.5 * np.tanh(seen[:, 0]) + rng.normal(0, 0.1, rows),
            np.full(rows, 0.3),
            np.where(seen[:, 1] + rng.normal(0, 0.5, rows) > 0, 1, -1),
        ],
        axis=1,
    ).astype(np.float32)
    data = {"observations": seen, "actions": done, "timeouts": np.arange(rows) % 30 == 29}
    shape = ChunkShape(history=1, predicted=1, executed=1)
    return nfrl.fit("nf-bc", data, steps=600, batch_size=64, chunks=shape, progress=False, **SMALL)


def test_a_locked_joint_and_a_gripper_come_back_exactly(gripping):
    rng = np.random.default_rng(1)
    actions = []
    for observation in rng.normal(size=(50, 2)):
        gripping.reset()
        actions.append(gripping(observation))
    actions = np.array(actions)
    assert set(actions[:, 1]) == {np.float32(0.3)}
    assert set(actions[:, 2]) == {-1.0, 1.0}
    assert len(set(actions[:, 0])) == 50


def test_the_density_of_values_is_honest(gripping):
    """The continuum integrates, and the values sum, to one; a locked joint adds nothing."""
    grid = np.linspace(-3, 3, 301)
    seen, goal = jnp.array([[0.2, 0.8]]), jnp.zeros(0)

    @jax.jit
    @jax.vmap
    def density(action):
        return jnp.exp(gripping.agent.log_prob(seen, goal, action[None]))

    mass = {}
    for value in (-1.0, 1.0):
        rows = np.stack([grid, np.full(301, 0.3), np.full(301, value)], axis=1)
        mass[value] = float(np.trapezoid(density(jnp.asarray(rows, jnp.float32)), grid))
    assert sum(mass.values()) == pytest.approx(1, abs=0.03)
    # As often as it is done: the two are of one distribution.
    acts = []
    for _ in range(400):
        gripping.reset()
        acts.append(gripping([0.2, 0.8])[2])
    assert np.mean(np.array(acts) == 1) == pytest.approx(mass[1.0], abs=0.08)
    assert gripping.log_prob([0.2, 0.8], [[0.1, 0.31, 1.0]]) == -np.inf
    assert np.isfinite(gripping.log_prob([0.2, 0.8], [[0.1, 0.3, 1.0]]))


# 7. Actions of any range


@pytest.mark.parametrize("form", ["npz", "zarr v2"])
def test_actions_keep_their_units(place, form):
    run = train(
        "gaussian-bc",
        "--data",
        data_sets.write(form, episodes(scale=2.0), place),
        "--agent.sampling",
    )
    policy = nfrl.load_policy(run)
    assert 1 < policy.spec.action.high[0] <= 2
    actions = np.array([policy(np.zeros(3)) for _ in range(40)])
    assert np.abs(actions).max() > 1
    assert (np.abs(actions) <= policy.spec.action.high[0] + 0.1).all()


# 8. Spaces and pictures


def refused(capsys, *words):
    """Return the one line by which a command is refused."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_choice_among_a_few_is_refused_in_a_line(place, capsys):
    data = data_sets.write("npz", episodes(), place)
    line = refused(capsys, "train", "gaussian-bc", "my_envs:Choice", "--data", data)
    assert "Discrete(2); an action must be a Box of floats" in line
    np.savez(
        "choice.npz",
        observations=np.zeros((40, 4), np.float32),
        actions=np.arange(40) % 2,
        timeouts=np.arange(40) % 20 == 19,
    )
    for words in (("data", "check"), ("train", "gaussian-bc", "--data")):
        assert "discrete actions (int64)" in refused(capsys, *words, "choice.npz")


def test_pictures_alone_are_seen(place, capsys):
    np.savez(
        "pictures.npz",
        observations=np.zeros((40, 64, 64, 3), np.uint8),
        actions=np.random.default_rng(0).uniform(-1, 1, (40, 2)),
        timeouts=np.arange(40) % 20 == 19,
    )
    eyes = ("--agent.images.encoder", "strided", "--agent.images.encoder.features", "8")
    run = train("gaussian-bc", "my_envs:Picture", "--data", "pictures.npz", *eyes)
    assert result(run)["score"] == 5.0
    data = data_sets.write("npz", episodes(), place)
    line = refused(capsys, "train", "gaussian-bc", "my_envs:Picture", "--data", data, *SHORT)
    assert "my_envs:Picture has 12288" in line
    columns = ("--agent.goal-columns", "0", "1")
    line = refused(capsys, "train", "nf-waypoints", "--data", "pictures.npz", *columns)
    assert "no image encoder" in line


def test_of_a_dictionary_the_vectors_are_named(place, capsys):
    zarr = pytest.importorskip("zarr")
    made = episodes()
    root = zarr.open_group("both.zarr", mode="w", zarr_format=2)
    seen = np.concatenate([each.observations[:-1] for each in made])
    for name, array in {
        "data/state": seen,
        "data/image": np.zeros((len(seen), 64, 64, 3), np.uint8),
        "data/action": np.concatenate([each.actions for each in made]),
        "meta/episode_ends": np.arange(1, 11) * 12,
    }.items():
        root.create_array(name, data=array)
    words = ("gaussian-bc", "my_envs:Both", "--data", "both.zarr")
    line = refused(capsys, "train", *words, *SHORT)
    assert "image" in line
    assert "--observation-keys" in line
    run = train(*words, "--observation-keys", "state")
    assert result(run)["score"] == 5.0
    policy = nfrl.load_policy(run)
    assert policy({"state": np.zeros(3), "image": np.zeros((64, 64, 3))}).shape == (2,)
    assert nfrl.evaluate(policy, "my_envs:Both", episodes=1, workers=1).mean_return == 5.0
    words = ("--env", "my_envs:Both", "--episodes", "1", "--workers", "1")
    assert main(["eval", str(run), *words]) == 0


# 9. Moved runs


def cut(run):
    """Take a run back to its first checkpoint, as if it had been killed then."""
    (run / "result.json").unlink()
    (run / "checkpoints" / "step-40.safetensors").unlink(missing_ok=True)
    for path in (run / "checkpoints").glob("*40*"):
        path.unlink()


def test_a_run_whose_data_moved(place, capsys):
    (place / "old").mkdir()
    (place / "new").mkdir()
    data = data_sets.write("zarr v2", episodes(), place / "old")
    run = train("gaussian-bc", "--data", data)
    whole = sorted((run / "checkpoints").iterdir())[-1].read_bytes()
    cut(run)
    shutil.move(data, place / "new")
    line = refused(capsys, "resume", run)
    assert "are not there; say where they are with --data" in line
    other = data_sets.write("npz", episodes(scale=0.5), place)
    assert "its sha256 differs" in refused(capsys, "resume", run, "--data", other)
    assert main(["resume", str(run), "--data", "new/v2.zarr"]) == 0
    assert sorted((run / "checkpoints").iterdir())[-1].read_bytes() == whole


def test_a_relative_path_works_from_another_folder(place, monkeypatch):
    data_sets.write("npz", episodes(), place)
    run = train("gaussian-bc", "--data", "data.npz").absolute()
    cut(run)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert main(["resume", str(run)]) == 0
    assert (run / "result.json").is_file()


def test_a_copied_run_goes_on(place):
    data_sets.write("npz", episodes(), place)
    run = train("gaussian-bc", "--data", "data.npz")
    cut(run)
    copy = place / "copy" / run.relative_to("runs")
    shutil.copytree(run, copy)
    shutil.move("data.npz", "moved.npz")
    assert main(["resume", str(copy), "--data", "moved.npz"]) == 0
    assert not (run / "result.json").exists()
    assert (copy / "result.json").is_file()


# 10. Acting without simulators

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"mujoco", "gymnasium", "ogbench", "matplotlib", "imageio"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
import numpy as np
import nfrl
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape

rng = np.random.default_rng(0)
data = nfrl.load({
    "observations": rng.normal(size=(200, 4)).astype("f"),
    "actions": rng.uniform(-2, 2, (200, 2)).astype("f"),
    "timeouts": np.arange(200) % 20 == 19,
})
small = {"flow": RealNVPConfig(1, 8), "encoder": (8,), "condition_dim": 4}
shape = ChunkShape(history=1, predicted=2, executed=1)
policy = nfrl.fit("nf-bc", data, steps=20, batch_size=8, progress=False, chunks=shape, **small)
action = policy(np.zeros(4))
likelihood = policy.log_prob(np.zeros(4), np.tile(action, (2, 1)))
again = nfrl.load_policy(policy.save("saved"))
assert (again(np.zeros(4)) == action).all()
assert again.log_prob(np.zeros(4), np.tile(action, (2, 1))) == likelihood

from nfrl.cli.main import main
rows = {"observations": data.training.observations, "actions": data.training.actions,
        "timeouts": np.arange(data.transitions) % 19 == 18}
np.savez("data.npz", **rows)
words = "--steps 20 --training.log-every 20 --training.checkpoint-every 20 --agent.hidden 8"
words += " --episodes 0"
assert main(["data", "check", "data.npz"]) == 0
assert main(["train", "gaussian-bc", "--data", "data.npz", *words.split()]) == 0
assert nfrl.load_policy("runs/data/gaussian-bc-laptop/seed-0")(np.zeros(4)).shape == (2,)
"""


def test_arrays_are_learned_from_and_acted_on_without_simulators(tmp_path):
    path = os.pathsep.join([str(pages.SOURCES), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
