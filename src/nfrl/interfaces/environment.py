"""What an environment may offer, in one place. It is a ``gymnasium.Env`` and inherits from nothing.

Only the two spaces, ``reset`` and ``step`` are needed. All else may be missing, and is then taken
as said here.

``observation_space``
    A ``Box``, or a ``Dict`` of them (nested, too). A ``Dict`` with ``achieved_goal`` and
    ``desired_goal`` has goals, see :mod:`nfrl.environments.adapters`.

``action_space``
    A ``Box`` of floats. Actions are given in its units, and clipped to its bounds.

``task_infos``, an attribute with one entry for each goal
    ``reset`` takes ``options={"task_id": i}``, i from 1, and sets that goal. Without this attribute
    the option is given only where a task says that it has several goals.

``cur_goal_xy``, an attribute (2,)
    Where the goal is on the map. Missing: there is no map.

``info["goal"]`` of ``reset``, (goal,)
    The goal, as an observation; of width 0, or missing: there is none to show.

``info["success"]`` or ``info["is_success"]`` of ``step``
    Whether the task is done now. Missing: never.

``info["score"]`` of ``step``, a number
    How far the episode has come, in [0, 1]. Missing: nobody knows.

``info["mode"]`` of ``step``, an integer
    Which of several ways the episode goes, from 0; -1 as long as that is open. Missing: there are
    none to tell apart.

``render()``, (height, width, 3) uint8
    A picture of the present state. ``render_mode="rgb_array"`` is passed to the constructor if it
    takes that. Only needed for videos.

An episode must depend on nothing but the seed of ``reset``, that of ``action_space``, NumPy's
global generator (which is seeded, too) and its actions. It may be stepped in another process.
"""

from typing import Any, Protocol


class Environment(Protocol):
    """What is needed of one. The module's text says what else there may be."""

    observation_space: Any
    action_space: Any

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; return the observation and ``info``."""
        ...

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step; return observation, reward, terminated, truncated and ``info``."""
        ...
