"""Making data: the same bytes however and by however many, and nothing lost when it is stopped."""

import contextlib
import dataclasses
import functools
import http.server
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import safetensors.numpy

from nfrl import registry
from nfrl.benchmarks.ogbench import download, manipulation, rewards
from nfrl.collect import expert_policy, parts, resolve
from nfrl.collect.collectors import open_collector
from nfrl.collect.make import make_dataset
from nfrl.collect.recipe import recipe
from nfrl.data.formats import ogbench
from nfrl.environments.episode import episode_seeds, retry_seeds
from nfrl.errors import UserError
from nfrl.files import write_atomically

POINT = "pointmaze-medium-navigate-v0"
STITCH = "pointmaze-medium-stitch-v0"
needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
# What the processes below make: long enough to be stopped on the way.
LONG = {"episodes": 24, "steps": 1500}


@functools.cache
def collector(name: str):
    return open_collector(recipe(name))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "point.npz"
    return make_dataset(POINT, path=path, episodes=3, steps=1200, workers=2, progress=False)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


# What can be made


def test_the_recipes_have_ogbenchs_sizes():
    recipes = registry.mappings("recipes")
    # Arms, ant (no one explores the giant maze), humanoid: each of states, and once more seen.
    seen = 9 * 2 + 4 * 3 - 1 + 3 * 2
    # Point, soccer, imitation.
    assert len(recipes) == 2 * seen + 4 * 2 + 2 * 2 + 3
    assert [name for name, each in recipes.items() if each.pictures] == [
        name for name in recipes if name.startswith("visual-")
    ]
    sizes = {name: (each.episodes, each.steps) for name, each in recipes.items()}
    assert sizes["cube-single-play-v0"] == (1000, 1001)
    assert sizes["puzzle-4x6-noisy-v0"] == (5000, 1001)
    assert sizes["pointmaze-giant-navigate-v0"] == (500, 2001)
    assert sizes["pointmaze-large-stitch-v0"] == (5000, 201)
    assert sizes["antmaze-large-navigate-v0"] == (1000, 1001)
    assert sizes["antmaze-teleport-explore-v0"] == (10000, 501)
    assert sizes["humanoidmaze-giant-navigate-v0"] == (1000, 4001)
    assert sizes["antsoccer-medium-stitch-v0"] == (8000, 501)
    assert recipe("antsoccer-arena-stitch-v0").experts == ("ant", "ant-ball")
    assert recipe("scene-noisy-v0").environment == "ogbench:scene-v0"
    with pytest.raises(UserError, match="cube-single-play-v0"):
        recipe("cube-singel-play-v0")


def test_the_full_data_set_has_ogbenchs_name(monkeypatch, tmp_path):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    cube = recipe("cube-single-play-v0")
    assert cube.file() == cube.file(1000) == tmp_path / "cube-single-play-v0.npz"
    assert cube.file(150) == tmp_path / "cube-single-play-v0-150ep.npz"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"episodes": 0}, "episodes"),
        ({"steps": 1, "path": "a.npz"}, "steps"),
        ({"steps": 40}, "path"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"path": "a.zip"}, "NAME.npz"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, word):
    with pytest.raises(UserError, match=word):
        make_dataset(POINT, **arguments)


def test_nothing_here_imports_jax():
    code = (
        "import sys, nfrl.collect.resolve;"
        "import nfrl.benchmarks.ogbench.soccer, nfrl.benchmarks.ogbench.manipulation;"
        "assert 'jax' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment())


# Whoever brings a recipe

THEIRS = """
import numpy as np
from nfrl.collect.recipe import Recipe


class Counter:
    def __init__(self, recipe):
        self.name = recipe.name

    def episode(self, seeds, steps):
        numbers = np.arange(steps, dtype=np.float32)[:, None]
        actions = np.random.default_rng(seeds).uniform(-1, 1, (steps, 1)).astype(np.float32)
        terminals = np.arange(steps) == steps - 1
        return {"observations": numbers, "actions": actions, "terminals": terminals}


def describe(arrays):
    return {"highest": float(arrays["observations"].max())}


def download(name, path):
    path.write_text(name)


RECIPE = Recipe(
    "count", "theirs:Nowhere-v0", "theirs:Counter", "any", 20, 5,
    describe="theirs:describe", download="theirs:download",
)
NONE = 3
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch) -> Path:
    """A folder with a module of a user's, where the command line is called."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("theirs", None)


def test_a_recipe_of_a_users_is_made_like_ours(theirs):
    path = make_dataset("theirs:RECIPE", workers=1, progress=False)
    assert path == theirs / "count.npz"
    assert ogbench.load(path)["observations"].shape == (100, 1)
    found = ogbench.provenance(path)
    assert found["modes"] == {"highest": 4.0}
    assert set(found["versions"]) == {"nfrl", "gymnasium", "numpy"}
    assert resolve.find_or_make("theirs:RECIPE") == path
    path.unlink()
    assert resolve.find_or_make("theirs:RECIPE", download=True).read_text() == "count"
    with pytest.raises(UserError, match="NONE is a int, not a recipe"):
        recipe("theirs:NONE")


# An episode depends on its seeds and nothing else


@pytest.mark.parametrize(
    "name", ["scene-play-v0", "scene-noisy-v0", "puzzle-3x3-noisy-v0", "cube-double-play-v0", POINT]
)
def test_an_episode_does_not_depend_on_the_ones_before_it(name):
    episodes = functools.partial(episode_seeds, 0, "train")
    first = collector(name).episode(episodes(7), 70)
    others = [collector(name).episode(episodes(index), 70) for index in (1, 2)]
    np.random.seed(123)  # noqa: NPY002 - what an oracle draws from.
    assert_same(collector(name).episode(episodes(7), 70), first)
    for other in others:
        assert not np.array_equal(other["observations"], first["observations"])


def test_splits_and_seeds_have_their_own_episodes():
    states = {
        tuple(episode_seeds(seed, split, index).generate_state(4))
        for seed in (0, 1)
        for split in ("train", "val")
        for index in (0, 1)
    }
    states.add(tuple(retry_seeds(episode_seeds(0, "train", 0)).generate_state(4)))
    assert len(states) == 9


def test_a_scene_whose_cube_is_lost_is_redone(monkeypatch):
    seeds = episode_seeds(0, "train", 0)
    second = collector("scene-play-v0").episode(retry_seeds(seeds), 20)
    verdicts = iter([False, True])
    monkeypatch.setattr(manipulation, "cube_in_reach", lambda qpos: next(verdicts))
    assert_same(collector("scene-play-v0").episode(seeds, 20), second)


@pytest.mark.parametrize(
    ("y", "z", "expected"),
    [
        (0.1, 0.02, True),
        (0.29, 0.02, False),
        (-0.31, 0.07, True),
        (-0.31, 0.02, False),
        (-0.31, 0.1, False),
    ],
)
def test_where_the_cube_is_in_reach(y, z, expected):
    qpos = np.zeros((3, 25))
    qpos[1, 15:17] = y, z
    assert manipulation.cube_in_reach(qpos) == expected


# What is in the data


@pytest.mark.parametrize(
    "name", ["cube-single-play-v0", "cube-single-noisy-v0", "puzzle-3x3-noisy-v0", "scene-play-v0"]
)
def test_ogbench_reads_and_relabels_it(tmp_path, name):
    import ogbench as package

    path, steps = tmp_path / "data.npz", 30
    for file, split in ((path, "train"), (ogbench.validation_path(path), "val")):
        seeds = [episode_seeds(0, split, index) for index in range(2)]
        parts.write_shard(file, [collector(name).episode(each, steps) for each in seeds])
    arrays = ogbench.load(path)
    assert arrays["observations"].dtype == arrays["qpos"].dtype == np.float32
    assert arrays["terminals"].dtype == bool
    if "cube" not in name:
        assert arrays["button_states"].dtype == np.int64
    task = name.replace("-v0", "-singletask-task1-v0")
    environment, train, validation = package.make_env_and_datasets(task, dataset_path=str(path))
    assert train["observations"].shape[1:] == environment.observation_space.shape
    for split in (train, validation):
        assert len(split["rewards"]) == len(split["observations"]) == 2 * (steps - 1)
        assert (split["rewards"] <= 0).all()
    given, masks = rewards.label(f"ogbench:{environment.spec.id}", arrays)
    going_on = ~arrays["terminals"]
    np.testing.assert_array_equal(given[going_on], train["rewards"])
    np.testing.assert_array_equal(masks[going_on], train["masks"])
    seen = f"visual-{environment.spec.id}"
    if seen in gymnasium.registry:  # filmed, the same states have the same rewards
        np.testing.assert_array_equal(rewards.label(f"ogbench:{seen}", arrays)[0], given)
    plain, _ = package.make_env_and_datasets(name, dataset_path=str(path), dataset_only=True)
    np.testing.assert_array_equal(plain["next_observations"][0], arrays["observations"][1])


@pytest.mark.parametrize(
    ("world", "needed"),
    [
        ("pointmaze-medium", {"qpos"}),
        ("cube-single", {"qpos"}),
        ("scene", {"qpos", "button_states"}),
        ("puzzle-3x3", {"button_states"}),
    ],
)
def test_data_without_the_simulators_states_get_no_rewards(world, needed):
    arrays = {key: np.zeros((2, 1)) for key in ("observations", "qpos", "button_states")}
    for key in needed:
        with pytest.raises(UserError, match=f"the key '{key}' is missing"):
            rewards.label(
                f"ogbench:{world}-singletask-task1-v0", {k: arrays[k] for k in arrays if k != key}
            )


@pytest.mark.parametrize("name", ["cube-single-play-v0", "cube-single-noisy-v0"])
def test_the_arm_moves_the_cube(name):
    episode = collector(name).episode(episode_seeds(0, "train", 0), 150)
    cube = episode["qpos"][:, 14:17]
    assert np.ptp(cube, axis=0).max() > 0.05
    assert np.abs(episode["actions"]).max() <= 1


def test_a_stored_row_is_a_state_of_the_simulator():
    # The cube's position is in the observation, scaled about the centre of the table.
    episode = collector("cube-single-play-v0").episode(episode_seeds(0, "train", 0), 40)
    expected = (episode["qpos"][:, 14:17] - [0.425, 0, 0]) * 10
    np.testing.assert_allclose(episode["observations"][:, 19:22], expected, atol=1e-4)


def distances(maze: np.ndarray, start: tuple[int, int]) -> dict[tuple[int, int], int]:
    found, frontier = {start: 0}, [start]
    for row, column in frontier:
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if maze[cell] == 0 and cell not in found:
                found[cell] = found[row, column] + 1
                frontier.append(cell)
    return found


def test_stitch_goes_four_cells_and_stays():
    stitch = collector(STITCH)
    maze = stitch._environment.maze_map
    for start in stitch._maze.cells:
        found = distances(maze, start)
        fours = {cell for cell, distance in found.items() if distance == 4}
        assert set(stitch._maze.goals("stitch", start)) == fours
    reached = 0
    for index in range(10):
        positions = stitch.episode(episode_seeds(0, "train", index), 201)["qpos"].astype(float)
        cells = [stitch._environment.xy_to_ij(xy) for xy in positions]
        visited = [distances(maze, cells[0])[cell] for cell in cells]
        assert max(visited) <= 5  # A goal near its cell's border may be overshot.
        reached += visited[-1] == 4
    assert reached >= 8


def test_navigate_goes_all_over_the_maze():
    point = collector(POINT)
    episode = point.episode(episode_seeds(0, "train", 0), 1001)
    cells = {point._environment.xy_to_ij(xy) for xy in episode["qpos"].astype(float)}
    assert len(cells) > 8
    assert all(point._environment.maze_map[cell] == 0 for cell in cells)
    np.testing.assert_array_equal(episode["observations"], episode["qpos"])


def test_the_closed_cell_of_the_teleport_maze():
    teleport = collector("pointmaze-teleport-stitch-v0")
    assert teleport._maze.goals("stitch", (1, 7)) == [(1, 7)]


def test_corridors():
    from nfrl.benchmarks.ogbench.mazes import is_corridor

    maze = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]])
    assert not is_corridor(maze, (1, 1))  # a corner
    assert is_corridor(maze, (2, 1))
    assert not is_corridor(maze, (3, 1))  # a dead end


# What experts walk through


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """A folder with experts of random weights, which flail about; they are found by name."""
    folder = tmp_path_factory.mktemp("data")
    for name, (inputs, outputs) in {
        "ant": (29, 8),
        "ant-ball": (42, 8),
        "humanoid": (69, 21),
    }.items():
        rng = np.random.default_rng(inputs)
        arrays = {
            "0.weight": rng.normal(size=(inputs, 16)) / 4,
            "0.bias": np.zeros(16),
            "1.weight": rng.normal(size=(16, 2 * outputs)) / 4,
            "1.bias": np.zeros(2 * outputs),
        }
        data = safetensors.numpy.save({k: v.astype(np.float32) for k, v in arrays.items()})
        write_atomically(folder / "experts" / f"{name}.safetensors", lambda f, d=data: f.write(d))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NFRL_DATA", str(folder))
        yield folder


EXPERT_DATA = {
    "antmaze-medium-navigate-v0": (29, 8),
    "antmaze-large-stitch-v0": (29, 8),
    "antmaze-teleport-explore-v0": (29, 8),
    "humanoidmaze-medium-navigate-v0": (69, 21),
    "antsoccer-arena-navigate-v0": (42, 8),
    "antsoccer-medium-stitch-v0": (42, 8),
}


@pytest.mark.parametrize("name", EXPERT_DATA)
def test_an_experts_episode_depends_on_its_seeds_alone(experts, name):
    first = collector(name).episode(episode_seeds(0, "train", 7), 30)
    other = collector(name).episode(episode_seeds(0, "train", 1), 30)
    np.random.seed(123)  # noqa: NPY002 - what an environment draws from.
    assert_same(collector(name).episode(episode_seeds(0, "train", 7), 30), first)
    assert not np.array_equal(other["observations"], first["observations"])
    assert (first["observations"].shape[1], first["actions"].shape[1]) == EXPERT_DATA[name]
    assert np.abs(first["actions"]).max() <= 1


def test_the_ant_data_hang_on_the_experts_weights(experts, tmp_path, monkeypatch):
    """And on nothing else: one worker or two, and the provenance says which weights."""
    name, sizes = "antmaze-medium-navigate-v0", {"episodes": 3, "steps": 700, "progress": False}
    one = make_dataset(name, path=tmp_path / "one.npz", workers=1, **sizes)
    two = make_dataset(name, path=tmp_path / "two.npz", workers=2, **sizes)
    assert one.read_bytes() == two.read_bytes()
    weights = ogbench.sha256(experts / "experts" / "ant.safetensors")
    assert ogbench.provenance(one)["experts"] == {"ant": weights}
    # With other weights the file that is there is another one.
    elsewhere = tmp_path / "experts" / "ant.safetensors"
    elsewhere.parent.mkdir()
    shutil.copy(experts / "experts" / "humanoid.safetensors", elsewhere)
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    with pytest.raises(UserError, match="--force"):
        make_dataset(name, path=one, workers=1, **sizes)


def test_a_missing_expert_is_said_before_anything_is_begun(tmp_path, monkeypatch):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    monkeypatch.setattr(expert_policy, "SHIPPED", tmp_path)
    for force in (False, True):
        with pytest.raises(UserError, match="nfrl collect expert humanoid --install"):
            make_dataset("humanoidmaze-medium-stitch-v0", episodes=1, force=force)
    assert list(tmp_path.iterdir()) == []


def test_an_expert_of_a_users_is_found_by_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"did you mean .*humanoid"):
        expert_policy.find_expert("humanoyd")
    (tmp_path / "experts").mkdir()
    path = tmp_path / "experts" / "humanoyd.safetensors"
    path.touch()
    assert expert_policy.find_expert("humanoyd") == path


class Recorded:
    """Stands for an expert: keeps what it is shown, and does nothing."""

    def __init__(self, action_dim=8):
        self.seen = []
        self.action_dim = action_dim

    def __call__(self, observation):
        self.seen.append(observation)
        return np.zeros(self.action_dim)


def test_the_ant_expert_is_shown_its_body_and_the_way(experts, monkeypatch):
    from nfrl.benchmarks.ogbench.mazes import MazeCollector

    expert = Recorded()
    monkeypatch.setattr("nfrl.benchmarks.ogbench.mazes.load_expert", lambda name: expert)
    ant = MazeCollector(recipe("antmaze-medium-stitch-v0"))
    episode = ant.episode(episode_seeds(0, "train", 3), 40)
    seen = np.array(expert.seen)
    np.testing.assert_allclose(seen[:, :27], episode["observations"][:, 2:], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(seen[:, 27:], axis=1), 1, atol=1e-5)
    # It points at the centre of a free neighbour that is nearer to the goal.
    environment = ant._environment
    xy = episode["qpos"][0, :2].astype(float)
    cell = environment.xy_to_ij(xy)
    goal = environment.xy_to_ij(environment.cur_goal_xy)
    found = distances(environment.maze_map, goal)
    ways = [
        c for c in found if found[c] == found[cell] - 1 and abs(np.subtract(c, cell)).sum() == 1
    ]
    centres = [np.array(environment.ij_to_xy(way)) - xy for way in ways]
    assert any(np.allclose(c / np.linalg.norm(c), seen[0, 27:], atol=1e-3) for c in centres)
    # The noise is that of the data set.
    assert np.std(episode["actions"]) == pytest.approx(0.2, rel=0.15)


class Camera:
    """Stands for MuJoCo's renderer, which needs a graphics library: each image is the next grey."""

    def __init__(self, model, height, width):
        self.shape, self.images = (height, width, 3), 0

    def update_scene(self, data, camera):
        """What is seen is nothing of the scene."""

    def render(self):
        self.images += 1
        return np.full(self.shape, self.images, np.uint8)


def test_images_are_stored_and_the_ant_expert_is_shown_its_state(experts, monkeypatch):
    """As OGBench's images: 64 x 64 of bytes, with the simulator's state beside them."""
    from nfrl.benchmarks.ogbench.mazes import MazeCollector

    expert = Recorded()
    monkeypatch.setattr("nfrl.benchmarks.ogbench.mazes.load_expert", lambda name: expert)
    monkeypatch.setattr("mujoco.Renderer", Camera)
    ant = MazeCollector(recipe("visual-antmaze-medium-navigate-v0"))
    episode = ant.episode(episode_seeds(0, "train", 3), 6)
    images = episode["observations"]
    assert (images.shape, images.dtype) == ((6, 64, 64, 3), np.uint8)
    assert (np.diff(images[:, 0, 0, 0].astype(int)) == 1).all()  # one of each step
    seen = np.array(expert.seen)
    np.testing.assert_allclose(seen[:, :13], episode["qpos"][:, 2:], atol=1e-5)
    np.testing.assert_allclose(seen[:, 13:27], episode["qvel"], atol=1e-5)


def test_an_arm_is_filmed_while_it_is_moved(monkeypatch):
    from ogbench.manipspace.envs.manipspace_env import ManipSpaceEnv

    from nfrl.benchmarks.ogbench.manipulation import ManipulationCollector

    picture = np.full((64, 64, 3), 7, np.uint8)
    monkeypatch.setattr(ManipSpaceEnv, "get_pixel_observation", lambda self: picture)
    collector = ManipulationCollector(recipe("visual-cube-single-play-v0"))
    episode = collector.episode(episode_seeds(0, "train", 0), 8)
    assert (episode["observations"] == picture).all()
    assert episode["observations"].dtype == np.uint8
    plain = ManipulationCollector(recipe("cube-single-play-v0"))
    unseen = plain.episode(episode_seeds(0, "train", 0), 8)
    np.testing.assert_array_equal(episode["qpos"], unseen["qpos"])  # the same arm, only filmed


def test_explore_takes_a_new_direction_every_ten_steps(experts, monkeypatch):
    from nfrl.benchmarks.ogbench.mazes import MazeCollector

    expert = Recorded()
    monkeypatch.setattr("nfrl.benchmarks.ogbench.mazes.load_expert", lambda name: expert)
    episode = MazeCollector(recipe("antmaze-medium-explore-v0")).episode(
        episode_seeds(0, "train", 0), 60
    )
    directions = np.array(expert.seen)[:, 27:]
    changes = [i for i in range(1, 60) if (directions[i] != directions[i - 1]).any()]
    assert changes == [10, 20, 30, 40, 50]
    # Clipped noise of standard deviation 1: a third of the actions lie at the bounds.
    assert np.mean(np.abs(episode["actions"]) == 1) == pytest.approx(0.317, abs=0.08)


@pytest.mark.parametrize(
    ("name", "dribbles"),
    [("antsoccer-arena-navigate-v0", None), ("antsoccer-medium-stitch-v0", True)],
)
def test_who_plays_and_what_he_is_shown(experts, monkeypatch, name, dribbles):
    from nfrl.benchmarks.ogbench.soccer import SoccerCollector

    players = {"ant": Recorded(), "ant-ball": Recorded()}
    monkeypatch.setattr("nfrl.benchmarks.ogbench.soccer.load_expert", players.__getitem__)
    soccer = SoccerCollector(recipe(name))
    modes = set()
    for index in range(20):
        for player in players.values():
            player.seen.clear()
        episode = soccer.episode(episode_seeds(0, "train", index), 5)
        agent, ball = episode["qpos"][:, :2], episode["qpos"][:, -7:-5]
        apart = np.linalg.norm(agent - ball, axis=1)
        walked, kicked = (np.array(players[player].seen) for player in ("ant", "ant-ball"))
        assert len(walked) + len(kicked) == 5
        modes.add(len(kicked) > 0)
        if dribbles is None:
            assert len(walked) == (apart > 2).sum()
            if len(walked) == 5:
                way = (ball - agent) / apart[:, None]
                np.testing.assert_allclose(walked[:, 27:], way, atol=1e-4)
        if len(kicked) == 5:
            np.testing.assert_allclose(kicked[:, 38:40], ball - agent, atol=1e-4)
            np.testing.assert_allclose(kicked[:, :13], episode["qpos"][:, 2:15], atol=1e-4)
            np.testing.assert_allclose(kicked[:, 13:18], episode["qpos"][:, 17:], atol=1e-4)
            np.testing.assert_allclose(kicked[:, 18:38], episode["qvel"], atol=1e-4)
            if dribbles:
                assert apart[0] < 4
                assert np.linalg.norm(kicked[0, 40:]) < 8  # To a neighbouring cell.
        if len(walked) == 5:
            np.testing.assert_allclose(walked[:, :13], episode["qpos"][:, 2:15], atol=1e-4)
            np.testing.assert_allclose(walked[:, 13:27], episode["qvel"][:, :14], atol=1e-4)
    if dribbles:
        assert modes == {True, False}


def test_who_is_stuck():
    from nfrl.benchmarks.ogbench.soccer import _is_stuck

    here = [np.zeros(2)] * 151
    assert _is_stuck(here)
    assert not _is_stuck(here[:150])
    assert not _is_stuck([*here[:75], np.array([3.0, 0.0]), *here[:75]])
    assert _is_stuck([np.array([9.0, 0.0]), *here])


# The files


def test_the_same_bytes_for_one_worker_and_two(made, tmp_path):
    alone = make_dataset(
        POINT, path=tmp_path / "alone.npz", episodes=3, steps=1200, workers=1, progress=False
    )
    assert alone.read_bytes() == made.read_bytes()
    one, two = ogbench.validation_path(alone), ogbench.validation_path(made)
    assert one.read_bytes() == two.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "alone-val.json",
        "alone-val.npz",
        "alone.json",
        "alone.npz",
    ]


def test_a_file_is_its_episodes_one_after_the_other(made, tmp_path):
    episodes = [collector(POINT).episode(episode_seeds(0, "train", i), 1200) for i in range(3)]
    assert_same(
        ogbench.load(made), {k: np.concatenate([e[k] for e in episodes]) for k in episodes[0]}
    )
    # The streamed archive is what np.savez would have written.
    parts.write_shard(tmp_path / "whole.npz", episodes)
    assert (tmp_path / "whole.npz").read_bytes() == made.read_bytes()


def test_provenance(made):
    for path, split, episodes in ((made, "train", 3), (ogbench.validation_path(made), "val", 1)):
        found = ogbench.provenance(path)
        assert found["sha256"] == ogbench.sha256(path)
        assert (found["name"], found["split"], found["seed"]) == (POINT, split, 0)
        assert (found["episodes"], found["steps"]) == (episodes, 1200)
        assert found["transitions"] == ogbench.summarize(path).transitions == episodes * 1199
        assert set(found["versions"]) == {"nfrl", "ogbench", "mujoco", "gymnasium", "numpy"}
    assert resolve.origin(made) == "made by nfrl (seed 0)"


def test_what_is_there_is_not_made_again(made):
    before = made.stat().st_mtime_ns
    begin = time.monotonic()
    make_dataset(POINT, path=made, episodes=3, steps=1200)
    assert made.stat().st_mtime_ns == before
    assert time.monotonic() - begin < 0.5


def test_what_is_something_else_is_not_overwritten(made, tmp_path):
    with pytest.raises(UserError, match="--force"):
        make_dataset(POINT, path=made, episodes=3, steps=1200, seed=1)
    foreign = tmp_path / "mine.npz"
    foreign.write_text("precious")
    with pytest.raises(UserError, match="--force"):
        make_dataset(POINT, path=foreign, episodes=3, steps=1200)
    assert foreign.read_text() == "precious"
    make_dataset(POINT, path=foreign, episodes=2, steps=40, workers=1, progress=False, force=True)
    assert len(ogbench.load(foreign)["actions"]) == 80


# What goes wrong on the way


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(parts.__file__).parents[2])}


def start(path: Path, **arguments) -> subprocess.Popen:
    settings = {"path": str(path), "workers": 1} | LONG | arguments
    # As from a terminal: where a shell started the tests in the background, Ctrl-C is ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    make = f"from nfrl.collect.make import make_dataset; make_dataset({POINT!r}, **{settings!r})"
    return subprocess.Popen(
        [sys.executable, "-c", heed + make], stderr=subprocess.PIPE, text=True, env=environment()
    )


def wait_for_shards(path: Path, count: int) -> list[Path]:
    folder = path.with_name(f"{path.name}.parts")
    for _ in range(3000):
        shards = sorted(folder.glob("train-*.npz"))
        if len(shards) >= count:
            return shards
        time.sleep(0.01)
    raise AssertionError("no shards were written")


def descendants(process: int) -> list[int]:
    children = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        children += [int(child) for child in (thread / "children").read_text().split()]
    return children + [each for child in children for each in descendants(child)]


def assert_gone(processes: list[int]) -> None:
    def alive(process: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        return False

    for _ in range(500):
        if not any(alive(process) for process in processes):
            return
        time.sleep(0.01)
    raise AssertionError("processes were left behind")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("uninterrupted") / "point.npz"
    return make_dataset(POINT, path=path, progress=False, **LONG).read_bytes()


@needs_proc
def test_killed_and_resumed_gives_the_same_bytes(uninterrupted, tmp_path):
    path = tmp_path / "point.npz"
    with start(path) as process:
        wait_for_shards(path, 3)
        workers = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
    assert workers
    assert_gone(workers)
    assert not path.exists()
    kept = wait_for_shards(path, 3)
    assert len(kept) < LONG["episodes"]
    # A shard that was damaged since is found out and collected again.
    kept[0].write_bytes(kept[0].read_bytes()[:-100])
    collected = [shard.name for shard in parts.missing(plan(path), ["train"])]
    assert kept[0].name in collected
    assert kept[1].name not in collected
    make_dataset(POINT, path=path, progress=False, **LONG)
    assert path.read_bytes() == uninterrupted
    assert not path.with_name("point.npz.parts").exists()


def plan(path: Path) -> parts.Plan:
    return parts.Plan(recipe(POINT), path, LONG["episodes"], LONG["steps"], 0)


@needs_proc
def test_ctrl_c_says_how_to_go_on_and_leaves_no_process(tmp_path):
    path = tmp_path / "point.npz"
    with start(path, workers=2) as process:
        wait_for_shards(path, 1)
        workers = descendants(process.pid)
        # A terminal sends it to every process of the group.
        for each in [*workers, process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "run the same command again to go on" in errors
    assert errors.count("Traceback") <= 1  # Python's own, for the KeyboardInterrupt that is raised.
    assert_gone(workers)
    assert wait_for_shards(path, 1)


def test_parts_of_another_data_set_are_not_mixed_in(tmp_path):
    path = tmp_path / "point.npz"
    with parts.held(plan(path), force=False):
        parts.write_shard(plan(path).folder / "train-00000.npz", [{"observations": np.zeros(3)}])
        with pytest.raises(UserError, match="another process"):
            make_dataset(POINT, path=path, progress=False, **LONG)
    with pytest.raises(UserError, match="seed 0 instead of 1"):
        make_dataset(POINT, path=path, seed=1, progress=False, **LONG)
    make_dataset(POINT, path=path, episodes=1, steps=40, workers=1, progress=False, force=True)
    assert len(ogbench.load(path)["actions"]) == 40


def test_an_error_in_a_worker_is_told_in_one_line(tmp_path, monkeypatch):
    broken = dataclasses.replace(recipe(POINT), name="broken", environment="pointmaze-nowhere-v0")
    monkeypatch.setitem(registry.mappings("recipes"), "broken", broken)
    with pytest.raises(UserError, match=r"collecting train episodes 0 to 3 failed: .*nowhere"):
        make_dataset(
            "broken", path=tmp_path / "a.npz", episodes=4, steps=40, workers=1, progress=False
        )


def test_a_killed_worker_is_noticed(tmp_path):
    path = tmp_path / "point.npz"

    def kill_a_worker() -> None:
        wait_for_shards(path, 1)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    with pytest.raises(UserError, match=r"worker process died.*kept in"):
        make_dataset(POINT, path=path, workers=1, progress=False, **LONG)
    killer.join()


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path):
    path = tmp_path / "point.npz"
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "from nfrl.collect.make import make_dataset\n"
        f"make_dataset({POINT!r}, path={str(path)!r}, episodes=2, steps=1500, workers=1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert "UserError: the disk is full" in done.stderr.splitlines()[-1]
    assert not path.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"disk is full.*nothing was overwritten"):
        write_atomically(path, fail)
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda file: 1 / 0)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


# Finding, downloading or making


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("NFRL_DATA", str(folder))
    return folder


@pytest.fixture
def makes(monkeypatch) -> list:
    calls = []
    monkeypatch.setattr(resolve, "make_dataset", lambda *a, **k: calls.append((a, k)))
    return calls


def test_the_order_of_finding(folder, makes, capsys):
    name = "cube-single-play-v0"
    full, part = folder / f"{name}.npz", folder / f"{name}-150ep.npz"
    resolve.find_or_make(name, episodes=150, workers=2)
    assert makes == [((name,), {"episodes": 150, "seed": 0, "workers": 2})]
    assert "making 150 episodes here" in capsys.readouterr().err
    full.touch()
    assert resolve.find_or_make(name, episodes=150) == full
    part.touch()
    assert resolve.find_or_make(name, episodes=150) == part
    assert resolve.find_or_make(name) == resolve.find_or_make(name, episodes=1000) == full
    assert resolve.find_or_make(name, path=part) == part
    assert resolve.origin(full) == "file"
    resolve.find_or_make(name, episodes=150, seed=1)
    assert len(makes) == 2


def test_what_cannot_be_found(folder, monkeypatch):
    with pytest.raises(UserError, match="no such file"):
        resolve.find_or_make(POINT, path=folder / "absent.npz")
    name = "powderworld-easy-play-v0"  # OGBench's, and not made here.
    with pytest.raises(UserError, match=rf"{name}.*--data"):
        resolve.find_or_make(name)
    (folder / f"{name}.npz").touch()
    assert resolve.find_or_make(name).exists()
    with pytest.raises(UserError, match=r"not offered for download.*nfrl data make pusht"):
        resolve.find_or_make("pusht", download=True)
    monkeypatch.setattr(expert_policy, "SHIPPED", folder)
    with pytest.raises(UserError, match=r"collect expert humanoid.*--download"):
        resolve.find_or_make("humanoidmaze-large-stitch-v0")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with OGBench's files on this machine."""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "*")
        address = f"http://127.0.0.1:{running.server_address[1]}"
        monkeypatch.setattr("ogbench.utils.DATASET_URL", address)
        yield served
        running.shutdown()


def test_a_download(folder, server, made):
    for suffix in ("", "-val"):
        (server / f"{POINT}{suffix}.npz").write_bytes(made.read_bytes())
    path = resolve.find_or_make(POINT, download=True)
    assert path == folder / f"{POINT}.npz"
    assert path.read_bytes() == made.read_bytes()
    assert ogbench.validation_path(path).exists()


def test_a_download_that_fails(folder, server, made, monkeypatch):
    with pytest.raises(UserError, match=r"HTTP 404.*nfrl data make"):
        resolve.find_or_make(POINT, download=True)
    (server / f"{POINT}.npz").write_bytes(made.read_bytes())
    (server / f"{POINT}-val.npz").write_bytes(made.read_bytes()[:5000])
    with pytest.raises(UserError, match="what the server sent is no good"):
        resolve.find_or_make(POINT, download=True)
    assert [each.name for each in folder.iterdir()] == [f"{POINT}.npz"]
    (folder / f"{POINT}.npz").unlink()
    monkeypatch.setattr("ogbench.utils.DATASET_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"did not answer.*nfrl data make"):
        resolve.find_or_make(POINT, download=True)
    assert not list(folder.iterdir())


def test_a_server_that_hangs(folder, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("no_proxy", "*")
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("ogbench.utils.DATASET_URL", address)
        monkeypatch.setattr(download, "TIMEOUT", 0.2)
        with pytest.raises(UserError, match="did not answer"):
            resolve.find_or_make(POINT, download=True)
