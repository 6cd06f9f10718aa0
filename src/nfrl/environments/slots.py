"""Environment slots: many environments in one process, each reproducible by itself.

An episode is a function of its actions and of (seed, task_id, episode) alone: it does not matter
which process or which slot plays it, or what was played there before. Three sources of randomness
have to be held for that: the environment's own generator, its action space's (resets take a few
random actions to settle) and NumPy's global one (resets and teleports of the mazes).
"""

import copy
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from nfrl.benchmarks import imitation as simulators

# The model's arrays that OGBench's environments write to after compilation: the damping of locked
# drawers and windows, the places of targets, colours. Slots that share a model keep their own.
MUTABLE = ("dof_damping", "geom_pos", "geom_rgba", "mat_rgba", "site_pos")


class Slot:
    """One environment, with all the state that its episodes depend on.

    Args:
        environment: The unwrapped environment.
        model: The compiled MuJoCo model where other slots use the same one, else None.
    """

    def __init__(self, environment: gymnasium.Env, model: Any = None):
        self.environment = environment
        self.time = 0
        self._bits = np.random.MT19937(0)
        self._shared = [] if model is None else [getattr(model, name) for name in MUTABLE]
        self._own = [array.copy() for array in self._shared]

    def _swap_in(self) -> None:
        np.random.set_bit_generator(self._bits)  # type: ignore[attr-defined]
        for shared, own in zip(self._shared, self._own, strict=True):
            shared[:] = own

    def _swap_out(self) -> None:
        for shared, own in zip(self._shared, self._own, strict=True):
            own[:] = shared

    def reset(
        self, seed: int, task_id: int, episode: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Begin an episode.

        Args:
            seed: The evaluation's seed, >= 0.
            task_id: The goal, from 1.
            episode: The episode's number among those of this goal, >= 0.

        Returns:
            The observation (obs,), the goal as an observation (obs,), of width 0 where a task has
            only one, and the goal's place in a maze (2,), NaN elsewhere.
        """
        words = np.random.SeedSequence([seed, task_id, episode])
        reset_seed, action_seed = (int(word) for word in words.generate_state(2))
        self._bits = np.random.MT19937(words)
        self._swap_in()
        self.environment.action_space.seed(action_seed)
        observation, info = self.environment.reset(seed=reset_seed, options={"task_id": task_id})
        self._swap_out()
        self.time = 0
        goal_xy = np.asarray(getattr(self.environment, "cur_goal_xy", (np.nan, np.nan)))
        return observation, info["goal"], goal_xy

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool, bool, float, int]:
        """Take one step.

        Args:
            action: (act,), in [-1, 1].

        Returns:
            The observation (obs,), whether the environment ended the episode, whether the goal is
            reached now, the score by now, NaN where the environment gives none, and the way that
            the episode goes, -1 where it gives none or that is still open.
        """
        self._swap_in()
        observation, _, terminated, truncated, info = self.environment.step(action)
        self._swap_out()
        self.time += 1
        ended, success = bool(terminated or truncated), bool(info["success"])
        score, mode = float(info.get("score", np.nan)), int(info.get("mode", -1))
        return observation, ended, success, score, mode

    def render(self) -> np.ndarray:
        """Draw the present state: (200, 200, 3) uint8."""
        self._swap_in()
        environment: Any = self.environment
        model = getattr(environment, "_model", getattr(environment, "model", None))
        if model is not None:  # MuJoCo's
            model.light_castshadow[:] = 0  # in software, shadows would take most of the time
        return environment.render()


def make_slots(environment: str, count: int) -> list[Slot]:
    """Make ``count`` slots of the environment with this Gymnasium id.

    The mazes are built anew for each (10 ms). Compiling a manipulation environment takes most of a
    second and its model 63 MB, nearly all of it meshes and textures that never change; so one is
    compiled, and the others are copies of all but the model.
    """
    first = make_environment(environment)
    if not hasattr(first, "_mjcf_model"):
        return [Slot(first), *(Slot(make_environment(environment)) for _ in range(count - 1))]
    first.reset(seed=0, options={"task_id": 1})  # compiles
    space = first.action_space
    if isinstance(getattr(type(first), "action_space", None), property):
        # The property makes a new, unseeded space at every look; resets draw from it.
        type(first).action_space = space
    model = first._model
    return [Slot(first, model), *(Slot(_twin(first), model) for _ in range(count - 1))]


def make_environment(environment: str) -> Any:
    """Make the environment with this Gymnasium id, OGBench's or one of ours, without wrappers."""
    if environment not in simulators.ENTRY_POINTS:
        import ogbench  # noqa: F401  (registers the environments; imports MuJoCo)
    # Episode limits are the parent's to keep, and actions are clipped there: no wrappers needed.
    return gymnasium.make(environment, disable_env_checker=True).unwrapped


def _twin(environment: Any) -> Any:
    """Copy a compiled manipulation environment, sharing what its steps do not change."""
    import mujoco

    state = environment.__dict__
    # The inverse kinematics' solver sets all its state before it reads it; the description (mjcf)
    # is read at compilation only.
    kept = [environment._model, environment._ik, *_descriptions(list(state.values()))]
    memo = {id(part): part for part in kept}
    memo[id(environment._data)] = mujoco.MjData(environment._model)
    twin = object.__new__(type(environment))
    twin.__dict__.update(copy.deepcopy(state, memo))
    return twin


def _descriptions(value: Any) -> Iterator[Any]:
    """Every dm_control mjcf element in nested lists: they refuse to be copied."""
    from dm_control import mjcf

    if isinstance(value, mjcf.Element):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _descriptions(part)
