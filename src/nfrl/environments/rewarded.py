"""One environment with rewards, stepped for an agent that goes on learning in it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.episode import seed_everything


class Step(NamedTuple):
    """What a step brought, in the arrangement of the offline data.

    Attributes:
        reward: r(s) of the state that was acted in, as the data are labelled.
        mask: 0 if that state ended the task, else 1.
        next_observation: (observation,) float32.
        observation: What to act on next: the same, or a new episode's first.
        success: Whether the task was done.
        ended: Whether an episode ended with this step.
    """

    reward: float
    mask: float
    next_observation: NDArray[np.float32]
    observation: NDArray[np.float32]
    success: bool
    ended: bool


class RewardedEnvironment:
    """A single-task environment whose n-th episode depends on (seed, n) and its actions alone.

    Args:
        environment: The Gymnasium id of a single-task variant.
        horizon: Steps after which an episode is cut off.
        seed: Non-negative.
    """

    def __init__(self, environment: str, horizon: int, seed: int):
        import gymnasium
        import ogbench  # noqa: F401 - registers the environments.

        self._environment = gymnasium.make(environment, disable_env_checker=True).unwrapped
        self._horizon, self._seed = horizon, seed
        self._episode, self._time = 0, 0

    def begin(self, episode: int) -> NDArray[np.float32]:
        """Begin the episode of this number; return its first observation."""
        self._episode, self._time = episode, 0
        _, reset_seed = seed_everything(np.random.SeedSequence([self._seed, episode]))
        self._environment.action_space.seed(reset_seed)
        observation, _ = self._environment.reset(seed=reset_seed)
        return np.asarray(observation, np.float32)

    def step(self, action: NDArray[np.float32]) -> Step:
        """Take one step with an action in [-1, 1]; a new episode begins when one has ended."""
        observation, reward, terminated, truncated, info = self._environment.step(action)
        self._time += 1
        ended = bool(terminated or truncated or self._time >= self._horizon)
        reached = np.asarray(observation, np.float32)
        following = self.begin(self._episode + 1) if ended else reached
        return Step(
            float(reward), 1.0 - terminated, reached, following, bool(info["success"]), ended
        )

    @property
    def episode(self) -> int:
        """The number of the episode in hand."""
        return self._episode

    @property
    def action_dim(self) -> int:
        """Width of an action."""
        shape = self._environment.action_space.shape
        assert shape is not None
        return shape[0]
