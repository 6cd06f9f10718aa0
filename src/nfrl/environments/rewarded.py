"""One environment with rewards, stepped for an agent that goes on learning in it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.adapters import Adapter, read_layout
from nfrl.environments.episode import seed_everything
from nfrl.environments.make import make_environment, read_actions


class Step(NamedTuple):
    """What a step brought, in the arrangement of the offline data.

    Attributes:
        reward: The environment's; of OGBench's r(s) of the state that was acted in, as the data are
            labelled.
        mask: 0 if the environment ended the task, else 1.
        next_observation: (observation,) float32.
        observation: What to act on next: the same, or a new episode's first.
        success: Whether the task was done; False where the environment does not say.
        ended: Whether an episode ended with this step.
    """

    reward: float
    mask: float
    next_observation: NDArray[np.float32]
    observation: NDArray[np.float32]
    success: bool
    ended: bool


class RewardedEnvironment:
    """An environment whose n-th episode depends on (seed, n) and its actions alone.

    Args:
        environment: Its reference, see :mod:`nfrl.environments.make`.
        horizon: Steps after which an episode is cut off.
        seed: Non-negative.
        observation_keys: Of an environment that observes a dictionary, what makes an observation.

    Raises:
        UserError: It cannot be made, or its spaces are none that can be learnt in.
    """

    def __init__(
        self, environment: str, horizon: int, seed: int, observation_keys: Sequence[str] = ()
    ):
        made = make_environment(environment)
        action = read_actions(made.action_space, environment)
        # In the actions' own type: the simulators' arithmetic depends on it.
        self._low, self._high = (np.array(bound, np.float32) for bound in (action.low, action.high))
        layout = read_layout(made.observation_space, observation_keys, environment)
        self._adapter = Adapter(made, layout)
        self._horizon, self._seed = horizon, seed
        self._episode, self._time = 0, 0

    def begin(self, episode: int) -> NDArray[np.float32]:
        """Begin the episode of this number; return its first observation."""
        self._episode, self._time = episode, 0
        _, reset_seed = seed_everything(np.random.SeedSequence([self._seed, episode]))
        self._adapter.environment.action_space.seed(reset_seed)
        observation, *_ = self._adapter.reset(reset_seed)
        return observation

    def step(self, action: NDArray[np.float32]) -> Step:
        """Take one step with an action in the environment's units, clipped to its bounds.

        A new episode begins when one has ended.
        """
        answer = self._adapter.step(np.clip(action, self._low, self._high))
        self._time += 1
        ended = answer.terminated or answer.truncated or self._time >= self._horizon
        following = self.begin(self._episode + 1) if ended else answer.observation
        return Step(
            answer.reward,
            1.0 - answer.terminated,
            answer.observation,
            following,
            answer.success,
            ended,
        )

    @property
    def episode(self) -> int:
        """The number of the episode in hand."""
        return self._episode

    @property
    def action_dim(self) -> int:
        """Width of an action."""
        return len(self._low)
