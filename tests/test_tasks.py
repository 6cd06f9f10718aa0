"""What tasks say of their environments, beside OGBench's own word."""

import gymnasium
import numpy as np
import ogbench  # noqa: F401  (registers its environments)
import pytest

from nfrl.benchmarks import find_task

ARMS = ("cube-single-play-v0", "cube-triple-noisy-v0", "scene-play-v0", "puzzle-4x5-play-v0")
MAZES = (
    "pointmaze-medium-stitch-v0",
    "antmaze-large-navigate-v0",
    "humanoidmaze-medium-navigate-v0",
    "antsoccer-arena-stitch-v0",
)


def shown(task, goal):
    return goal[list(task.goal_columns)]


def as_observed(name, oracle):
    """With the state of each button in two columns."""
    if name.startswith("cube"):
        return oracle
    first, last = (3, 5) if name.startswith("scene") else (0, len(oracle))
    states = np.eye(2)[oracle[first:last].astype(int)].ravel()
    return np.concatenate([oracle[:first], states, oracle[last:]])


@pytest.mark.parametrize("name", MAZES)
def test_a_mazes_goal_columns_are_the_place_to_reach(name):
    task = find_task(name)
    environment = gymnasium.make(task.environment)
    _, info = environment.reset(seed=0, options={"task_id": 2})
    np.testing.assert_array_equal(
        shown(task, info["goal"]), environment.unwrapped.get_oracle_rep(), strict=True
    )


@pytest.mark.parametrize("name", ARMS)
def test_an_arms_goal_columns_are_ogbenchs_oracle_representation(name):
    task = find_task(name)
    whole, oracle = (
        gymnasium.make(task.environment, use_oracle_rep=oracle).reset(
            seed=0, options={"task_id": 2}
        )[1]["goal"]
        for oracle in (False, True)
    )
    np.testing.assert_allclose(shown(task, whole), as_observed(name, oracle), atol=1e-9)
