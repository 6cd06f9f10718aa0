"""Development goals: like the benchmark's, drawn once, and none of them the benchmark's."""

import json
from functools import cache

import gymnasium
import numpy as np
import pytest

from nfrl.benchmarks.ogbench.development import development_goals
from nfrl.presets import find_preset
from nfrl.task import find_task


@cache
def benchmark(name):
    """Return OGBench's own environment."""
    return gymnasium.make(f"{name}-v0").unwrapped


def goals(name):
    return development_goals(name, benchmark(name))


def places(goal) -> str:
    """Return what a goal sets, without its name."""
    kept = {key: value for key, value in goal.items() if key != "task_name"}
    return json.dumps(kept, default=np.ndarray.tolist, sort_keys=True)


@pytest.mark.parametrize("name", ["cube-single", "scene", "puzzle-3x3", "pointmaze-medium"])
def test_five_goals_that_are_not_the_benchmarks_and_the_same_each_time(name):
    found, theirs = list(map(places, goals(name))), list(map(places, benchmark(name).task_infos))
    assert len(set(found)) == 5
    assert not set(found) & set(theirs)
    assert list(map(places, goals(name))) == found
    assert [sorted(goal) for goal in goals(name)] == [sorted(benchmark(name).task_infos[0])] * 5


def test_a_reset_sets_the_start_and_the_goal():
    ours = gymnasium.make("cube-single-dev-v0").unwrapped
    observation, info = ours.reset(seed=0, options={"task_id": 3})
    begin, goal = (ours.task_infos[2][key][0, :2] for key in ("init_xyzs", "goal_xyzs"))
    centre, scale = np.array([0.425, 0.0]), 10.0  # OGBench's units of a cube's place
    np.testing.assert_allclose(observation[19:21] / scale + centre, begin, atol=0.02)
    np.testing.assert_allclose(info["goal"][19:21] / scale + centre, goal, atol=0.02)
    maze = gymnasium.make("pointmaze-medium-dev-v0").unwrapped
    observation, info = maze.reset(seed=0, options={"task_id": 2})
    np.testing.assert_allclose(observation, maze.task_infos[1]["init_xy"], atol=1.5)
    np.testing.assert_allclose(info["goal"], maze.task_infos[1]["goal_xy"], atol=1.5)


def test_a_mazes_goals_are_other_cells_and_not_near():
    own = benchmark("pointmaze-medium")
    taken = {tuple(goal["goal_ij"]) for goal in own.task_infos}
    for goal in goals("pointmaze-medium"):
        assert own.maze_map[goal["init_ij"]] == own.maze_map[goal["goal_ij"]] == 0
        assert goal["goal_ij"] not in taken
        assert np.abs(np.subtract(goal["init_ij"], goal["goal_ij"])).max() >= 3


def test_a_puzzles_goals_can_be_pressed():
    """Every set of presses is tried: some few of them turn the start into the goal."""
    cells = np.array([(i, j) for i in range(3) for j in range(3)])
    near = (np.abs(cells[:, None] - cells).sum(-1) <= 1).astype(int)
    presses = (np.arange(512)[:, None] >> np.arange(9)) & 1
    outcomes = presses @ near % 2
    for index, goal in enumerate(goals("puzzle-3x3")):
        changed = goal["init_button_states"] ^ goal["goal_button_states"]
        ways = presses[(outcomes == changed).all(1)].sum(1)
        assert ways.min() == index + 2


def test_a_preset_for_development_is_that_of_the_benchmark():
    for agent in ("nf-gcbc", "nf-waypoints"):
        names = ("antmaze-large-navigate-dev-v0", "antmaze-large-navigate-v0")
        dev, own = (find_preset("laptop", agent, find_task(name)) for name in names)
        assert dev == own
    assert find_task("cube-single-play-dev-v0").dataset == "cube-single-play-v0"
