"""Development goals: presets are chosen on these, and never on the benchmark's own goals.

Each of OGBench's environments is registered once more, as ``cube-single-dev-v0``, with five starts
and goals of its own. They are drawn once, from a generator of the environment's name. None is one
of the benchmark's.
"""

import zlib
from typing import Any

import gymnasium
import numpy as np
import ogbench  # noqa: F401  (registers the environments)

from nfrl.benchmarks.ogbench.worlds import WORLDS
from nfrl.environments.own_files import with_own_files

GOALS = 5
_CLOSE = 0.08
"""Metres between two cubes on the table, at least."""


def make(name: str, **settings: Any) -> gymnasium.Env:
    """Make an environment of OGBench whose goals are the development goals.

    Args:
        name: The world's: ``cube-single``.
        settings: What the environment takes.
    """
    environment = with_own_files(
        lambda: gymnasium.make(f"{name}-v0", disable_env_checker=True, **settings).unwrapped
    )
    environment.task_infos = development_goals(name, environment)  # type: ignore[attr-defined]
    return environment


def development_goals(name: str, environment: Any) -> list[dict[str, Any]]:
    """Draw the starts and goals of an environment, in the form of its own ``task_infos``."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    own = environment.task_infos
    if "goal_ij" in own[0]:
        draw = _cells
    elif "goal_button_states" in own[0]:
        draw = _buttons
    elif "init" in own[0]:
        draw = _scene
    else:
        draw = _cubes
    found: list[dict[str, Any]] = []
    while len(found) < GOALS:
        goal = draw(rng, environment, len(found))
        if goal is not None:
            found.append({"task_name": f"development{len(found) + 1}", **goal})
    return found


def _cells(rng: np.random.Generator, environment: Any, index: int) -> dict[str, Any] | None:
    """Draw free cells of a maze: no goal of the benchmark, and none next to the start."""
    free = np.argwhere(environment.maze_map == 0)
    places = [key for key in environment.task_infos[0] if key.endswith("_ij")]
    chosen = {key: tuple(map(int, rng.choice(free))) for key in places}
    goal = chosen["goal_ij"]
    moved = [
        np.abs(np.subtract(goal, cell)).max() for key, cell in chosen.items() if key != "goal_ij"
    ]
    if goal in {tuple(own["goal_ij"]) for own in environment.task_infos} or min(moved) < 3:
        return None
    return {
        **chosen,
        **{f"{key[:-3]}_xy": environment.ij_to_xy(cell) for key, cell in chosen.items()},
    }


def _buttons(rng: np.random.Generator, environment: Any, index: int) -> dict[str, Any]:
    """Draw lights, and those that come of two to six presses."""
    rows, columns = environment._num_rows, environment._num_cols
    begin = rng.integers(0, 2, (rows, columns))
    lights = begin.copy()
    for place in rng.choice(rows * columns, index + 2, replace=False):
        row, column = divmod(int(place), columns)
        for i, j in (
            (row, column),
            (row - 1, column),
            (row + 1, column),
            (row, column - 1),
            (row, column + 1),
        ):
            if 0 <= i < rows and 0 <= j < columns:
                lights[i, j] ^= 1
    return {"init_button_states": begin.ravel(), "goal_button_states": lights.ravel()}


def _cubes(rng: np.random.Generator, environment: Any, index: int) -> dict[str, Any] | None:
    """Draw places on the table; of several cubes the last goal stacks the second on the first."""
    count = len(environment.task_infos[0]["init_xyzs"])
    begin, goal = (_on_table(rng, environment, count) for _ in range(2))
    if _crowded(begin) or _crowded(goal):
        return None
    if count > 1 and index == GOALS - 1:
        goal[1] = goal[0] + [0, 0, 0.04]
    return {"init_xyzs": begin, "goal_xyzs": goal}


def _scene(rng: np.random.Generator, environment: Any, index: int) -> dict[str, Any] | None:
    """Draw a place for the cube, and whether buttons, drawer and window are on or open."""
    begin, goal = (
        {
            "block_xyzs": _on_table(rng, environment, 1),
            "button_states": rng.integers(0, 2, 2),
            "drawer_pos": float(rng.choice([0.0, -0.16])),
            "window_pos": float(rng.choice([0.0, 0.2])),
        }
        for _ in range(2)
    )
    return {"init": begin, "goal": goal}


def _on_table(rng: np.random.Generator, environment: Any, count: int) -> np.ndarray:
    low, high = environment._object_sampling_bounds
    xy = rng.uniform(low, high, (count, 2))
    return np.concatenate((xy, np.full((count, 1), 0.02)), axis=1)


def _crowded(xyzs: np.ndarray) -> bool:
    distances = np.linalg.norm(xyzs[:, None] - xyzs, axis=-1) + np.eye(len(xyzs))
    return bool(distances.min() < _CLOSE)


for world in WORLDS:
    gymnasium.register(
        id=f"{world.name}-dev-v0",
        entry_point="nfrl.benchmarks.ogbench.development:make",
        kwargs={"name": world.name},
        max_episode_steps=world.horizon,
    )
