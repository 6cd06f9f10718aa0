"""Environment slots: many environments in one process, each reproducible by itself.

An episode is a function of its actions and of (seed, task_id, episode) alone: it does not matter
which process or which slot plays it, or what was played there before. Three sources of randomness
have to be held for that: the environment's own generator, its action space's (resets take a few
random actions to settle) and NumPy's global one (resets and teleports of the mazes).
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.adapters import Adapter, Answer, read_layout
from nfrl.environments.episode_pool import FRAME
from nfrl.environments.make import make_environment, read_actions
from nfrl.environments.worker import RESET, Arrays, Layout
from nfrl.errors import UserError

# The model's arrays that OGBench's environments write to after compilation: the damping of locked
# drawers and windows, the places of targets, colours. Slots that share a model keep their own.
MUTABLE = ("dof_damping", "geom_pos", "geom_rgba", "mat_rgba", "site_pos")


class NoGraphics(Exception):
    """MuJoCo cannot draw in this process."""


class EpisodeSlot:
    """One environment, with all the state that its episodes depend on.

    ``RESET`` begins the episode of ``task_ids`` and ``episodes``, ``STEP`` takes ``actions``; the
    arrays are those of :class:`nfrl.environments.episode_pool.EpisodePool`.

    Args:
        adapter: Of the environment.
        seed: The evaluation's seed, >= 0.
        every: Draw a frame at every so many steps; 0 for never.
        model: The compiled MuJoCo model where other slots use the same one, else None.
    """

    def __init__(self, adapter: Adapter, seed: int, every: int = 0, model: Any = None):
        self.environment = adapter.environment
        self.time = 0
        self.layout: Layout = {}
        self.facts: dict[str, Any] = {}
        self._adapter = adapter
        self._seed = seed
        self._every = every
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

    def reset(self, task_id: int, episode: int) -> tuple[NDArray, NDArray, NDArray]:
        """Begin an episode.

        Args:
            task_id: The goal, from 1.
            episode: The episode's number among those of this goal, >= 0.

        Returns:
            The observation (obs,), the goal (goal,) and its place (2,), as ``Adapter.reset`` does.
        """
        words = np.random.SeedSequence([self._seed, task_id, episode])
        reset_seed, action_seed = (int(word) for word in words.generate_state(2))
        self._bits = np.random.MT19937(words)
        self._swap_in()
        self.environment.action_space.seed(action_seed)
        if self.environment is not self.environment.unwrapped:  # a wrapper may have its own
            self.environment.unwrapped.action_space.seed(action_seed)
        begun = self._adapter.reset(reset_seed, task_id)
        self._swap_out()
        self.time = 0
        return begun

    def step(self, action: NDArray) -> Answer:
        """Take one step with an action (act,) in the environment's units."""
        self._swap_in()
        answer = self._adapter.step(action)
        self._swap_out()
        self.time += 1
        return answer

    def play(self, command: int, arrays: Arrays) -> None:
        """Begin an episode or take a step, and say what came of it."""
        if command == RESET:
            observation, goal, goal_xy = self.reset(
                int(arrays["task_ids"]), int(arrays["episodes"])
            )
            arrays["goal_xy"][...] = goal_xy
            answer = Answer(observation, goal, 0.0, False, False, False, float("nan"), -1)
        else:
            answer = self.step(arrays["actions"].copy())
        done = answer.terminated or answer.truncated
        arrays["observations"][...] = answer.observation
        if answer.goal is not None:
            arrays["goals"][...] = answer.goal
        arrays["rewards"][...] = answer.reward
        arrays["done"][...] = done
        arrays["success"][...] = answer.success
        arrays["scores"][...] = answer.score
        arrays["modes"][...] = answer.mode
        if self._every and (self.time % self._every == 0 or done or answer.success):
            arrays["frames"][...] = fit(self.render())

    def render(self) -> Any:
        """Draw the present state, as the environment does it."""
        self._swap_in()
        environment: Any = self.environment.unwrapped
        model: Any = getattr(environment, "_model", getattr(environment, "model", None))
        if hasattr(model, "light_castshadow"):  # MuJoCo's
            model.light_castshadow[:] = 0  # in software, shadows would take most of the time
        return self.environment.render()


def make_slots(
    indices: Sequence[int],
    environment: str,
    observation_keys: Sequence[str] = (),
    goals: int = 1,
    seed: int = 0,
    every: int = 0,
) -> list[EpisodeSlot]:
    """Make slots of an environment, one for each index.

    Mazes are built anew for each (10 ms). Compiling one of OGBench's manipulation environments
    takes most of a second and its model 63 MB, nearly all of it meshes and textures that never
    change; so one is compiled, and the others are copies of all but the model. Those that observe
    pixels hold a graphics context, which cannot be copied.

    Args:
        indices: Their numbers in the pool, on which nothing depends.
        environment: Its reference, see :mod:`nfrl.environments.make`.
        observation_keys: Of an environment that observes a dictionary, what makes an observation.
        goals: How many goals the task has.
        seed: The evaluation's seed, >= 0.
        every: Draw a frame at every so many steps; 0 for never.

    Raises:
        UserError: It cannot be made, or its spaces are none that can be learnt in, or it draws
            nothing.
        NoGraphics: It is to be drawn, and MuJoCo cannot.
    """
    try:
        first = make_environment(environment, pictures=every > 0)
    except UserError:
        if every:
            _check_graphics()  # MuJoCo cannot even be imported where it does not know the back end
        raise
    model = None
    others: Iterator[Any]
    if hasattr(first, "_mjcf_model"):
        first.reset(seed=0, options={"task_id": 1})  # compiles
        space = first.action_space
        if isinstance(getattr(type(first), "action_space", None), property):
            # The property makes a new, unseeded space at every look; resets draw from it.
            type(first).action_space = space
        if getattr(first, "_renderer", None) is None:  # one that observes pixels has one by now
            model = first._model
    if model is not None:
        others = (_twin(first) for _ in indices[1:])
    else:
        others = (make_environment(environment, pictures=every > 0) for _ in indices[1:])
    actions = read_actions(first.action_space, environment)
    seen = read_layout(first.observation_space, observation_keys, environment)
    slots = [
        EpisodeSlot(Adapter(each, seen, goals), seed, every, model) for each in (first, *others)
    ]
    observation, goal, _ = slots[0].reset(1, 0)
    layout: dict[str, tuple[tuple[int, ...], str]] = {
        "task_ids": ((), "int64"),
        "episodes": ((), "int64"),
        "actions": ((actions.dim,), "float32"),
        "observations": (observation.shape, "float32"),
        "goals": (goal.shape, "float32"),
        "goal_xy": ((2,), "float32"),
        "rewards": ((), "float64"),
        "done": ((), "bool"),
        "success": ((), "bool"),
        "scores": ((), "float64"),
        "modes": ((), "int64"),
    }
    if every:
        _check_drawing(slots[0], environment)
        layout["frames"] = (FRAME, "uint8")
    for slot in slots:
        slot.layout, slot.facts = layout, {"low": actions.low, "high": actions.high}
    return slots


def fit(picture: Any) -> NDArray[np.uint8]:
    """Bring a picture to the size ``FRAME``, keeping its shape: scaled, with black at two sides."""
    picture = np.asarray(picture)
    if picture.shape == FRAME:
        return picture
    height, width = picture.shape[:2]
    scale = min(FRAME[0] / height, FRAME[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    try:
        from PIL import Image
    except ImportError:
        down, along = (
            np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
            for new, old in zip(size, (height, width), strict=True)
        )
        scaled = picture[down][:, along]
    else:
        scaled = np.asarray(Image.fromarray(picture).resize(size[::-1]))
    frame = np.zeros(FRAME, np.uint8)
    top, left = ((whole - part) // 2 for whole, part in zip(FRAME, size, strict=False))
    frame[top : top + size[0], left : left + size[1]] = scaled
    return frame


def _check_drawing(slot: EpisodeSlot, environment: str) -> None:
    """Draw once, and fail in words where that does not work."""
    try:
        picture = slot.render()
    except Exception as error:
        if "mujoco" in sys.modules:
            _check_graphics()
        raise UserError(f"{environment} cannot be drawn: {type(error).__name__}: {error}") from None
    shape = getattr(picture, "shape", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or picture.dtype != np.uint8:
        what = "nothing" if picture is None else f"a {type(picture).__name__}"
        raise UserError(
            f"{environment} cannot be drawn: render() returns {what}, not (height, width, 3) "
            'uint8; its constructor must take render_mode="rgb_array", or draw without'
        )


def _check_graphics() -> None:
    """Fail in words where MuJoCo cannot draw."""
    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:
        raise NoGraphics(str(error) or type(error).__name__) from error


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
