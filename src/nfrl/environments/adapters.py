"""Environments of all kinds, seen alike: observations and goals as vectors, one kind of answer.

Three kinds are understood, told apart by what they offer (:mod:`nfrl.interfaces.environment`):

- plain ones: their goal has the width 0;
- goal dictionaries, those of gymnasium-robotics: an observation is ``observation`` and then
  ``achieved_goal``; a goal has the same width and is zero but for the columns of
  ``achieved_goal``, which hold ``desired_goal``;
- OGBench's convention: the goal is ``info["goal"]``, and ``reset`` is told which.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from nfrl.errors import UserError
from nfrl.spec import VECTOR, ArraySpec, split_size

SEEN, ACHIEVED, DESIRED = "observation", "achieved_goal", "desired_goal"
"""The keys of a goal dictionary."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an environment's observations are laid out as vectors.

    Attributes:
        arrays: What an observation is made of, by name, in order. The names of nested dictionaries
            are joined by "/".
        is_dictionary: Whether the environment gives a dictionary.
        goal_columns: Where ``achieved_goal`` lies; empty where there is no goal dictionary.
    """

    arrays: Mapping[str, ArraySpec]
    is_dictionary: bool
    goal_columns: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Numbers in an observation. A picture's bytes count as numbers from 0 to 255."""
        return sum(array.size for array in self.arrays.values())

    def flat(self, observation: Any) -> NDArray[np.float32]:
        """Lay an observation out as a vector (width,)."""
        if not self.is_dictionary:
            return np.asarray(observation, np.float32).reshape(-1)
        parts = [np.asarray(_leaf(observation, name), np.float32) for name in self.arrays]
        return np.concatenate([part.reshape(-1) for part in parts])

    def goal(self, observation: Any) -> NDArray[np.float32] | None:
        """Return a goal dictionary's goal (width,), zero but for ``goal_columns``; or None."""
        if not self.goal_columns:
            return None
        goal = np.zeros(self.width, np.float32)
        goal[list(self.goal_columns)] = np.asarray(observation[DESIRED], np.float32).reshape(-1)
        return goal


def read_layout(space: Any, keys: Sequence[str], reference: str) -> Layout:
    """Return how observations of a space are laid out.

    Args:
        space: The environment's ``observation_space``.
        keys: Of a dictionary, what makes an observation, in this order: names of arrays, joined by
            "/" where nested, or of dictionaries, which stand for all that is in them. By default
            ``observation`` and ``achieved_goal`` of a goal dictionary, and else everything. With
            ``desired_goal`` among them, or without ``achieved_goal``, there are no goals. A space
            that is no dictionary has nothing to choose from, and the keys are passed over. An
            image that data are read in a size of, ``camera[96x96]``, must have that size.
        reference: What to call the environment in errors.

    Raises:
        UserError: A space is no ``Box``, there is no such key, or an image has another size.
    """
    if not isinstance(space, gymnasium.spaces.Dict):
        return Layout({VECTOR: _array_spec(space, reference, "")}, is_dictionary=False)
    leaves = dict(_leaves(space))
    has_goals = {ACHIEVED, DESIRED} <= leaves.keys()
    default = [key for key in (SEEN, ACHIEVED) if key in leaves] if has_goals else list(leaves)
    chosen: list[str] = []
    for asked in keys or default:
        key, size = split_size(asked)
        found = [name for name in leaves if name == key or name.startswith(f"{key}/")]
        if not found:
            raise UserError(
                f"{reference} observes no {key!r}; observation-keys can be {', '.join(leaves)}"
            )
        if size and leaves[found[0]].shape[:2] != size:
            raise UserError(
                f"{reference} observes {key} of the shape {leaves[found[0]].shape}, but {asked} is "
                f"wanted: wrap the environment, so that the image is {size[0]} x {size[1]}"
            )
        chosen += [name for name in found if name not in chosen]
    arrays = {name: _array_spec(leaves[name], reference, name) for name in chosen}
    if not has_goals or DESIRED in chosen or ACHIEVED not in chosen:
        return Layout(arrays, is_dictionary=True)
    if leaves[DESIRED].shape != leaves[ACHIEVED].shape:
        raise UserError(f"{reference}: {DESIRED} and {ACHIEVED} are of different shapes")
    begin = sum(arrays[name].size for name in chosen[: chosen.index(ACHIEVED)])
    columns = tuple(range(begin, begin + arrays[ACHIEVED].size))
    return Layout(arrays, is_dictionary=True, goal_columns=columns)


def _leaves(space: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in space.spaces.items():
        if isinstance(part, gymnasium.spaces.Dict):
            yield from _leaves(part, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", part


def _leaf(observation: Any, name: str) -> Any:
    for part in name.split("/"):
        observation = observation[part]
    return observation


def _array_spec(space: Any, reference: str, name: str) -> ArraySpec:
    if not isinstance(space, gymnasium.spaces.Box):
        what = f"{name} as {space}" if name else f"{space}"
        cure = (
            "name other arrays with --observation-keys"
            if name
            else "wrap the environment in a function that returns it with a Box, and name that: "
            "package.module:function"
        )
        raise UserError(f"{reference} observes {what:.80}; only a Box can be learnt from; {cure}")
    picture = len(space.shape) == 3 and space.dtype == np.uint8
    low = float(space.low.astype(float).min(initial=np.inf))
    high = float(space.high.astype(float).max(initial=-np.inf))
    return ArraySpec(
        space.shape,
        "uint8" if picture else "float32",
        low if np.isfinite(low) else None,
        high if np.isfinite(high) else None,
    )


def takes_task_ids(environment: Any) -> bool:
    """Whether ``reset`` can be told which goal to set: the environment lists them."""
    return hasattr(environment.unwrapped, "task_infos")


class Answer(NamedTuple):
    """What a step brought.

    Attributes:
        observation: (width,) float32.
        goal: (goal,) float32, where it is shown anew at each step; else None.
        reward: The environment's.
        terminated: Whether the environment ended the episode for good.
        truncated: Whether it broke the episode off.
        success: Whether the task is done now; False where the environment does not say.
        score: How far the episode has come, NaN where the environment does not say.
        mode: The way that the episode goes, -1 where the environment gives none or it is open.
    """

    observation: NDArray[np.float32]
    goal: NDArray[np.float32] | None
    reward: float
    terminated: bool
    truncated: bool
    success: bool
    score: float
    mode: int


class Adapter:
    """An environment of any kind.

    Args:
        environment: The environment.
        layout: Of its observations.
        goals: How many goals the task has; where several, ``reset`` is told which.
    """

    def __init__(self, environment: Any, layout: Layout, goals: int = 1):
        self.environment = environment
        self.layout = layout
        self._tells = goals > 1 or takes_task_ids(environment)
        self._action_shape = environment.action_space.shape

    def reset(
        self, seed: int, task_id: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Begin an episode.

        Args:
            seed: For the environment.
            task_id: The goal, from 1, for an environment that can be told; None for its own choice.

        Returns:
            The observation (width,), the goal (goal,), of width 0 where none is shown, and the
            goal's place on a map (2,), NaN where there is none.
        """
        options = {"task_id": task_id} if self._tells and task_id is not None else None
        observation, info = self.environment.reset(seed=seed, options=options)
        goal = self.layout.goal(observation)
        if goal is None:
            goal = _numbers(info.get("goal", ()))
        place = getattr(self.environment.unwrapped, "cur_goal_xy", (np.nan, np.nan))
        return self.layout.flat(observation), goal, np.asarray(place, np.float32)

    def step(self, action: NDArray) -> Answer:
        """Take one step with an action (act,) in the environment's units."""
        observation, reward, terminated, truncated, info = self.environment.step(
            action.reshape(self._action_shape)
        )
        return Answer(
            observation=self.layout.flat(observation),
            goal=self.layout.goal(observation),
            reward=float(reward),
            terminated=bool(terminated),
            truncated=bool(truncated),
            success=bool(info.get("success", False)) or bool(info.get("is_success", False)),
            score=_number(info.get("score"), np.nan),
            mode=int(_number(info.get("mode"), -1)),
        )


def _number(value: Any, otherwise: float) -> float:
    """Return a number as it is; what others call "score" or "mode" may be anything."""
    return float(value) if isinstance(value, (int, float, np.number)) else otherwise


def _numbers(value: Any) -> NDArray[np.float32]:
    """Return a vector; what others call "goal" may be anything, and is then no vector."""
    try:
        return np.asarray(value, np.float32).reshape(-1)
    except (TypeError, ValueError):
        return np.empty(0, np.float32)
