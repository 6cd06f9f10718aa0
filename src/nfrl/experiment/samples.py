"""Actions that a trained policy draws at states of held-out data, and whether they are any good.

A likelihood does not tell. One that was maximised on near-deterministic actions without noise is
finite, and the flow's inverse, which samples, may be useless all the same.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from nfrl.acting.acting import batched_policy
from nfrl.data.dataset import Dataset
from nfrl.files import write_atomically
from nfrl.interfaces.agent import Agent
from nfrl.runs.folder import RunFolder

STATES, PER_STATE = 12, 200
FAR = 1.0
"""Standard deviations of the data. A policy that never looks at the state is nearer, mostly."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Actions of a policy beside the data's at the same states.

    Attributes:
        actions: (states, samples, action).
        data_actions: (states, action).
        spread: (action,) standard deviations of the data's actions.
        imitates: Whether the policy is to do what the data do.
    """

    actions: NDArray[np.float32]
    data_actions: NDArray[np.float32]
    spread: NDArray[np.float32]
    imitates: bool

    @property
    def distance(self) -> float:
        """How far the nearest sample is from the data's action, at the median state.

        In standard deviations of the data's actions: the root of the mean square over those
        columns that vary.
        """
        varies = self.spread > 0
        if not varies.any():
            return 0.0
        away = (self.actions - self.data_actions[:, None])[..., varies] / self.spread[varies]
        return float(np.median(np.sqrt((away.astype(np.float64) ** 2).mean(-1)).min(-1)))

    @property
    def warning(self) -> str:
        """What is to be said of them; "" where nothing is wrong."""
        if not np.isfinite(self.actions).all():
            return (
                "the policy draws actions that are not finite, whatever its likelihood says: "
                "train with more noise (--agent.noise) or a lower learning rate"
            )
        if self.imitates and self.distance > FAR:
            return (
                f"the policy does not do what the data do, whatever its likelihood says: at a "
                f"typical state the nearest of {self.actions.shape[1]} samples is "
                f"{self.distance:.1f} standard deviations of the data away from the data's action; "
                "train longer, with more noise (--agent.noise), or with a lower learning rate"
            )
        return ""

    def save(self, folder: RunFolder) -> None:
        """Keep them in a run's folder."""
        arrays: dict[str, Any] = {"actions": self.actions, "data_actions": self.data_actions}
        write_atomically(folder.samples_file, lambda file: np.savez(file, **arrays))


def draw_samples(agent: Agent, data: Dataset) -> Samples:
    """Draw actions at a few states of held-out data, with goals that the data reach from there."""
    data = data.excerpt()
    rows = np.random.default_rng(0).choice(np.asarray(data.transitions), STATES)
    goals = np.minimum(rows + 20, np.asarray(data.last)[rows])
    states, targets = (
        np.repeat(np.asarray(data.observations[at]), PER_STATE, axis=0)
        for at in (jnp.asarray(rows), jnp.asarray(goals))
    )
    count = len(states)
    drawn = batched_policy(agent)(states, targets, np.arange(count), np.zeros(count, np.int64))
    given = np.asarray(data.actions)
    can = agent.capabilities
    return Samples(
        actions=drawn.reshape(STATES, PER_STATE, -1),
        data_actions=given[rows],
        spread=given[np.asarray(data.transitions)].std(0),
        imitates=can.likelihood and not can.rewards,
    )
