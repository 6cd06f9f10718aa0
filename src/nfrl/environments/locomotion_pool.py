"""Many bodies stepped together, in this process or in several, with the same outcome."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.locomotion import Body, Locomotion
from nfrl.environments.pool import Pool
from nfrl.environments.worker import RESET, STEP, Arrays, Layout


class Outcome(NamedTuple):
    """What a step led to, for n environments.

    Attributes:
        next_observations: (n, d) float32, where the step led.
        observations: (n, d) float32, what to act on next: where an episode was over, the beginning
            of the next one.
        rewards: (n,) float32.
        masks: (n,) float32, 0 where all reward ended.
    """

    next_observations: NDArray
    observations: NDArray
    rewards: NDArray
    masks: NDArray


class BodySlot:
    """One environment of a pool.

    Episode e of environment i in period p depends on the seed, i, p and e, and on its actions.
    ``RESET`` begins the period of ``periods``; ``STEP`` takes ``actions``, and begins the next
    episode where one is over.

    Args:
        body: What moves.
        index: Which environment of the pool this is.
        seed: Of the pool.
    """

    def __init__(self, body: Body, index: int, seed: int):
        self._environment = Locomotion(body)
        self._index, self._seed = index, seed
        self._period, self._episode = 0, 0
        observation = ((self._environment.observation_dim,), "float32")
        self.layout: Layout = {
            "periods": ((), "int64"),
            "actions": ((self._environment.action_dim,), "float32"),
            "next_observations": observation,
            "observations": observation,
            "rewards": ((), "float32"),
            "masks": ((), "float32"),
        }
        self.facts: Mapping[str, Any] = {}

    def play(self, command: int, arrays: Arrays) -> None:
        """Begin a period or take a step."""
        if command == RESET:
            self._period, self._episode = int(arrays["periods"]), 0
            arrays["observations"][...] = self._begin()
            return
        following, reward, final, over = self._environment.step(arrays["actions"].copy())
        self._episode += over
        arrays["next_observations"][...] = following
        arrays["observations"][...] = self._begin() if over else following
        arrays["rewards"][...] = reward
        arrays["masks"][...] = 1.0 - final

    def _begin(self) -> NDArray:
        key = (self._index, self._period, self._episode)
        return self._environment.reset(np.random.SeedSequence(self._seed, spawn_key=key))


def make_slots(indices: Sequence[int], body: Mapping[str, Any], seed: int) -> list[BodySlot]:
    """Make the environments of these numbers; ``body`` holds the fields of a :class:`Body`."""
    return [BodySlot(Body(**body), index, seed) for index in indices]


class BodyPool:
    """Many bodies; use as a context manager.

    Args:
        body: What moves.
        environments: How many.
        workers: Processes; 0 to step in this one.
        seed: Non-negative.

    Attributes:
        observation_dim: Width of an observation.
        action_dim: Width of an action.

    Raises:
        WorkerError: A worker failed, here or later.
    """

    def __init__(self, body: Body, environments: int, workers: int, seed: int):
        arguments = {"body": dataclasses.asdict(body), "seed": seed}
        maker = "nfrl.environments.locomotion_pool:make_slots"
        self._pool = Pool(maker, arguments, environments, workers)
        self.observation_dim: int = self._pool.arrays["observations"].shape[1]
        self.action_dim: int = self._pool.arrays["actions"].shape[1]

    def __enter__(self) -> "BodyPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.close()

    def reset(self, period: int) -> NDArray:
        """Begin a period, all episodes anew; return the observations (n, d) float32."""
        self._pool.arrays["periods"][:] = period
        self._pool.commands[:] = RESET
        self._pool.round()
        return self._pool.arrays["observations"].copy()

    def step(self, actions: NDArray) -> Outcome:
        """Take one step in each environment.

        Args:
            actions: (n, a), in [-1, 1].
        """
        self._pool.arrays["actions"][:] = actions
        self._pool.commands[:] = STEP
        self._pool.round()
        return Outcome(*(self._pool.arrays[name].copy() for name in Outcome._fields))
