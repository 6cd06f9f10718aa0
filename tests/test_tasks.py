"""What tasks say of their environments, beside the environments' own word; and their listing."""

import doctest
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import gymnasium
import numpy as np
import ogbench  # noqa: F401  (registers its environments)
import pytest

import nfrl
from nfrl import registry
from nfrl.benchmarks.ogbench.worlds import WORLDS
from nfrl.cli import tasks as listing
from nfrl.cli.main import main
from nfrl.collect import expert_policy
from nfrl.collect.recipe import can_be_made, recipe
from nfrl.errors import UserError
from nfrl.launch.jobs import find_suite, known_suites
from nfrl.task import FAMILIES, Task, find_task

TASKS = registry.mappings("tasks")
OGBENCH = [task for task in TASKS.values() if (task.environment or "").startswith("ogbench:")]
OF_STATES = [world for world in WORLDS if "visual" not in world.tags]
ARMS, MAZES = ([world for world in OF_STATES if world.tags[0] == tag] for tag in ("arm", "maze"))


def bare(world, variant=""):
    return gymnasium.make(f"ogbench:{world.name}{variant}-v0", disable_env_checker=True).unwrapped


# What OGBench says


def test_there_is_a_task_for_all_that_ogbench_registers():
    """All that has data: for the rest of it no data sets are published."""
    registered = {
        name
        for name, spec in gymnasium.registry.items()
        if str(spec.entry_point).startswith(("ogbench.locomaze", "ogbench.manipspace"))
    }
    ours = {task.environment.removeprefix("ogbench:") for task in OGBENCH}
    assert ours <= registered
    assert {name.split("-singletask")[0].removesuffix("-v0") for name in registered - ours} == {
        *("cube-octuple", "humanoidmaze-teleport"),
        "visual-humanoidmaze-teleport",
    }
    for task in OGBENCH:
        seen = gymnasium.spec(task.environment.removeprefix("ogbench:")).kwargs.get("ob_type")
        assert ("visual" in task.tags) == (seen == "pixels")


def test_horizons_are_the_environments_own():
    limits = {
        task.name: gymnasium.spec(task.environment.removeprefix("ogbench:")).max_episode_steps
        for task in OGBENCH
    }
    assert {task.name: task.horizon for task in OGBENCH} == limits


@pytest.mark.parametrize("world", MAZES, ids=lambda world: world.name)
def test_a_mazes_goal_columns_are_the_place_to_reach(world):
    environment = bare(world)
    observation, info = environment.reset(seed=0, options={"task_id": 2})
    np.testing.assert_array_equal(
        info["goal"][list(world.goal_columns)], environment.get_oracle_rep(), strict=True
    )
    np.testing.assert_allclose(observation[list(world.place_columns)], environment.get_xy())


@pytest.mark.parametrize("world", ARMS, ids=lambda world: world.name)
def test_an_arms_goal_columns_are_ogbenchs_oracle_representation(world):
    environment = bare(world)
    goals = []
    for oracle in (False, True):
        environment._use_oracle_rep = oracle
        np.random.seed(0)  # noqa: NPY002 - what OGBench draws from
        environment.action_space.seed(0)
        goals.append(environment.reset(seed=0, options={"task_id": 2})[1]["goal"])
    whole, oracle = goals
    if hasattr(environment, "_num_buttons"):  # The state of each is in two columns.
        places = 3 if hasattr(environment, "_num_cubes") else 0
        states = slice(places, places + environment._num_buttons)
        oracle = [
            *oracle[:places],
            *np.eye(2)[oracle[states].astype(int)].ravel(),
            *oracle[states.stop :],
        ]
    np.testing.assert_allclose(whole[list(world.goal_columns)], oracle, atol=1e-9)


@pytest.mark.parametrize("world", OF_STATES, ids=lambda world: world.name)
def test_the_default_task_is_the_environments_own(world):
    environment = bare(world, "-singletask")
    if world in ARMS:
        environment.set_tasks()  # what a reset would do, and mazes have done by now
    assert environment._reward_task_id == world.default_task


# What hangs together


def test_what_can_be_made_is_a_task_and_a_task_can_be_made():
    assert {task.dataset for task in TASKS.values()} >= set(registry.mappings("recipes"))
    without = {task.name for task in TASKS.values() if not can_be_made(task.dataset)}
    explored = {task.name for task in TASKS.values() if task.family == "exploration"}
    assert without == {"kitchen", *explored}
    for task in TASKS.values():
        if can_be_made(task.dataset) and task.name == task.dataset:
            assert task.environment == recipe(task.dataset).environment


def test_names_families_and_references():
    assert all(name == task.name for name, task in TASKS.items())
    assert {task.family for task in TASKS.values()} == set(FAMILIES)
    code = {task.label for task in TASKS.values()} | {task.adapt for task in TASKS.values()}
    code |= {task.world for task in TASKS.values()}
    for each in registry.mappings("recipes").values():
        code |= {each.collector, each.describe, each.download}
    assert all(callable(registry.load_reference(reference)) for reference in code - {None})


def test_an_imitation_task_is_made_from_its_reference():
    code = (
        "import gymnasium, sys; from nfrl.task import find_task;"
        "assert not {'jax', 'mujoco', 'pymunk', 'ogbench'} & set(sys.modules);"
        "print(gymnasium.make(find_task('pusht').environment).observation_space.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(nfrl.__file__).parents[1])},
    )
    assert done.stdout.splitlines()[-1:] == ["(20,)"], done.stderr


def test_mazes_to_explore_last_as_long_as_their_robots_episodes():
    explored = [task for task in TASKS.values() if task.family == "exploration"]
    assert len(explored) == 6
    for task in explored:
        maze = registry.load_reference(task.world)(task.name)
        assert (maze.name, maze.robot.episode_length) == (task.name, task.horizon)
        assert len(maze.layout.goals) == task.goals


def test_a_task_is_found_by_name_or_by_reference(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="did you mean cube-single-play-v0"):
        find_task("cube-singl-play-v0")
    (tmp_path / "carried.py").write_text(
        "from nfrl.task import Task\n"
        "MINE = Task('mine', 'gcbc', 'my:Env-v0', 0.9, 10)\n"
        "NONE = 'pusht'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert find_task("carried:MINE").dataset == "mine"
    with pytest.raises(UserError, match="carried:NONE is a str, not a task"):
        find_task("carried:NONE")


def test_lists_of_runs_are_found_where_packages_announce_them(tmp_path, monkeypatch):
    (tmp_path / "their_lists").mkdir()
    (tmp_path / "their_lists" / "theirs.txt").write_text("gcbc their-task\n")
    (tmp_path / "their_lists" / "notes.md").write_text("no list")
    monkeypatch.syspath_prepend(tmp_path)
    announced = list(registry._announced("suites"))
    monkeypatch.setattr(registry, "_announced", lambda kind: announced)
    group = "nfrl.suites"
    announced.append(EntryPoint("theirs", "their_lists", group))
    assert {"gcbc", "theirs"} <= set(known_suites())
    assert find_suite("theirs").read_text() == "gcbc their-task\n"
    announced.append(EntryPoint("again", "their_lists", group))
    with pytest.raises(UserError, match="again announces theirs a second time"):
        known_suites()


# The listing


def listed(capsys, *words):
    assert main(["tasks", *words]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]


def test_every_task_has_its_line_or_shares_it(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    monkeypatch.setattr(expert_policy, "SHIPPED", tmp_path)
    lines = listed(capsys, "--all")
    assert len(lines) == len(TASKS)
    for line, word in (
        ("humanoidmaze-medium-navigate-v0", "needs the humanoid expert"),
        ("kitchen", "from a file"),
        ("ant-u-maze", "none needed"),
    ):
        (found,) = (each for each in lines if f" {line} " in each)
        assert word in found
    folded = listed(capsys)
    shared = {
        (task.family, task.dataset, "pixels" in task.tags)
        for task in TASKS.values()
        if "visual" not in task.tags
    }
    assert len(folded) == len(shared)
    (ant,) = (each for each in folded if "antmaze-large-navigate-singletask" in each)
    assert "-singletask-[task{1..5}-]v0" in ant
    assert "nf-rlbc 0.608 to 0.924, fql 0.800 ± 0.080" in ant


def test_tasks_are_chosen_by_family_and_by_tags(capsys):
    assert len(listed(capsys, "--suite", "imitation")) == 5
    assert len(listed(capsys, "--family", "gcbc", "--tag", "maze", "soccer")) == 4
    # Of each data set: all goals, development goals, each goal with rewards, the default one.
    assert len(listed(capsys, "--robot", "humanoid", "--all")) == 2 * 6 * 8
    assert len(listed(capsys, "--tag", "visual", "--family", "gcbc")) == 35
    for words, message in (
        (("--family", "gcb"), "did you mean gcbc"),
        (("--tag", "aunt"), "did you mean ant"),
        (("--tag", "arm", "ant"), "no such task is tagged arm and ant"),
    ):
        assert main(["tasks", *words]) == 2
        assert message in capsys.readouterr().err


def test_names_are_written_as_one():
    assert doctest.testmod(listing).failed == 0
    assert listing.pattern(["a-1", "a-3"]) == "a-{1,3}"
    assert listing.pattern(["ant", "cube"]) == "{ant,cube}"
    assert listing.pattern(["one"]) == "one"


def test_tasks_with_other_values_keep_their_lines():
    one = Task("a-1", "gcbc", None, 0.9, 10, dataset="a")
    two = Task("a-2", "gcbc", None, 0.99, 10, dataset="a")
    assert [len(group) for group in listing.fold([one, two, one])] == [2, 1]
