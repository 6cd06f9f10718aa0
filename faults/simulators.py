"""Simulators that misbehave, three steps into an episode."""

import os
import signal
import time

import gymnasium
import numpy as np


class Line(gymnasium.Env):
    """A place on a line, which an action moves."""

    observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Begin an episode."""
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        """Move."""
        self.steps += 1
        if self.steps == 3:
            self.misbehave()
        return np.full(3, self.steps, np.float32), 1.0, False, self.steps == 6, {}

    def misbehave(self) -> None:
        """Do nothing of the kind."""


class Hangs(Line):
    """Never returns."""

    def misbehave(self) -> None:
        while True:
            time.sleep(1.0)


class Raises(Line):
    """Raises an error of several lines."""

    def misbehave(self) -> None:
        raise RuntimeError("the arm\nis stuck")


class Dies(Line):
    """Ends its process."""

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Lies(Line):
    """Sees what is no number."""

    def step(self, action):
        """Move."""
        seen, *rest = super().step(action)
        return (np.full(3, np.nan, np.float32) if self.steps == 3 else seen), *rest
