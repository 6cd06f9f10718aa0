"""The bodies that learn to walk before they enter a maze, and where they learn it.

Source: OGBench (Park et al., 2025), whose environments these are. The reward of a body that runs
is what it gained in the commanded direction, which changes from time to time.
"""

import contextlib
import dataclasses
import types
from collections.abc import Iterator
from typing import Any, Literal
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.episode import seed_everything
from nfrl.environments.own_files import with_own_files
from nfrl.errors import unknown_name


@dataclasses.dataclass(frozen=True)
class Body:
    """What an expert is trained to move.

    Attributes:
        name: The expert's name.
        environment: The Gymnasium id of where it learns.
        command: "direction" where it is told where to run, "standing direction" where it is paid
            for it only while upright, "goal" where the environment sets goals itself.
        episode_steps: After so many steps an episode is broken off.
        end_is_final: Whether breaking off counts as the end of all reward.
        seconds: Simulated time of a step.
        command_steps: Steps between two commanded directions.
    """

    name: str
    environment: str
    command: Literal["direction", "standing direction", "goal"]
    episode_steps: int
    end_is_final: bool = False
    seconds: float = 0.1
    command_steps: int = 100


BODIES = {
    each.name: each
    for each in (
        Body("ant", "online-ant-v0", "direction", 1000),
        Body("ant-ball", "online-antball-v0", "goal", 200, end_is_final=True),
        # OGBench's: its humanoid has 40 steps a second.
        Body(
            "humanoid",
            "online-humanoid-v0",
            "standing direction",
            1000,
            seconds=0.025,
            command_steps=200,
        ),
    )
}


def body(name: str) -> Body:
    """Look up a body.

    Raises:
        UserError: There is no such expert; the nearest names are given.
    """
    if name not in BODIES:
        raise unknown_name("expert", name, BODIES)
    return BODIES[name]


class Locomotion:
    """One environment to learn in, whose episodes depend on their seeds and actions alone."""

    def __init__(self, body: Body):
        self._body = body
        self._environment = _open(body)
        self._rng = np.random.default_rng(0)
        self._time = 0
        self._fixed: NDArray | None = None
        self.success = False
        shape = self._environment.action_space.shape
        self.action_dim: int = shape[0]
        self.observation_dim = len(self.reset(np.random.SeedSequence(0)))

    def reset(
        self, seeds: np.random.SeedSequence, direction: NDArray | None = None
    ) -> NDArray[np.float32]:
        """Begin an episode.

        Args:
            seeds: Its randomness.
            direction: The unit vector (2,) to command throughout; None for random ones.
        """
        self._rng, seed = seed_everything(seeds)
        self._time = 0
        self._fixed = direction
        observation, _ = self._environment.reset(seed=seed)
        if self._body.command != "goal":
            observation = self._commanded(observation)
        return observation.astype(np.float32)

    def step(self, action: NDArray) -> tuple[NDArray[np.float32], float, bool, bool]:
        """Take one step.

        Args:
            action: In [-1, 1].

        Returns:
            The observation, the reward, whether the body fell or whatever else ends all reward,
            and whether the episode is over.
        """
        observation, reward, fell, _, info = self._environment.step(action)
        self._time += 1
        if self._body.command != "goal" and self._time % self._body.command_steps == 0:
            observation = self._commanded(observation)
        self.success = bool(info.get("success", 0.0))
        over = fell or self._time == self._body.episode_steps
        final = fell or (over and self._body.end_is_final)
        return observation.astype(np.float32), float(reward), final, over

    @property
    def xy(self) -> NDArray:
        """Where the body is (2,)."""
        return self._environment.unwrapped.data.qpos[:2].copy()

    @property
    def is_overturned(self) -> bool:
        """Whether the torso's upward axis points below the horizon."""
        x, y = self._environment.unwrapped.data.qpos[4:6]  # Of a quaternion (w, x, y, z).
        return bool(x**2 + y**2 > 0.5)

    def _commanded(self, observation: NDArray) -> NDArray:
        """Command a new direction, and show it at the end of the observation."""
        direction = self._fixed
        if direction is None:
            direction = self._rng.standard_normal(2)
            direction = direction / np.linalg.norm(direction)
        # The wrapper's own directions come from NumPy's global generator, which all environments
        # of a process share: what one of them saw would depend on who its neighbours are.
        self._environment.z = direction
        return np.concatenate((observation[:-2], direction))


def _open(body: Body) -> Any:
    import gymnasium
    import ogbench.online_locomotion  # noqa: F401 - registers the environments.
    from ogbench.online_locomotion import wrappers

    with _no_pictures() if body.command == "goal" else contextlib.nullcontext():
        environment = with_own_files(
            lambda: gymnasium.make(body.environment, disable_env_checker=True).unwrapped
        )
    never = 10**9
    match body.command:
        case "direction":
            return wrappers.GymXYWrapper(environment, resample_interval=never)
        case "standing direction":
            return wrappers.DMCHumanoidXYWrapper(environment, resample_interval=never)
        case "goal":
            return environment


@contextlib.contextmanager
def _no_pictures() -> Iterator[None]:
    """Let the ant with ball be built where there is no graphics library.

    Its constructor draws one picture, so that there is a camera to point.
    """
    from ogbench.online_locomotion.ant_ball import AntBallEnv

    def render(environment: Any) -> None:
        camera = types.SimpleNamespace(lookat=np.zeros(3))
        environment.mujoco_renderer.viewer = types.SimpleNamespace(cam=camera)

    with mock.patch.object(AntBallEnv, "render", render):
        yield
