"""A data set of trajectories as arrays on the device."""

from collections.abc import Callable, Mapping
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nfrl.data.formats import ogbench

Label = Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""``label(arrays) -> (rewards, masks)``, each of shape (rows,)."""


class Dataset(eqx.Module):
    """Trajectories laid end to end, with each row's trajectory marked.

    The last row of a trajectory is its final observation: its action leads nowhere, so it is a
    goal, never a transition.

    Attributes:
        observations: One row a time step.
        actions: One row a time step, in [-1, 1].
        first: For each row, the index of its trajectory's first row.
        last: For each row, the index of its trajectory's last row.
        transitions: The rows whose action leads somewhere: all but the last of each trajectory.
        rewards: r(s) of each row's state, for tasks that have rewards.
        masks: 0 in states where the episode ends, else 1; with the rewards.
    """

    observations: Float[Array, "rows observation"]
    actions: Float[Array, "rows action"]
    first: Int[Array, " rows"]
    last: Int[Array, " rows"]
    transitions: Int[Array, " transitions"]
    rewards: Float[Array, " rows"] | None = None
    masks: Float[Array, " rows"] | None = None

    @classmethod
    def from_arrays(
        cls,
        observations: np.ndarray,
        actions: np.ndarray,
        terminals: np.ndarray,
        rewards: np.ndarray | None = None,
        masks: np.ndarray | None = None,
    ) -> "Dataset":
        """Put trajectories on the device.

        Args:
            observations: Shape (rows, observation).
            actions: Shape (rows, action).
            terminals: Shape (rows,), true on the last row of each trajectory.
            rewards: Shape (rows,), the reward of each row's state; None for none.
            masks: Shape (rows,), 0 in states that end an episode; with rewards.

        Raises:
            ValueError: The last row ends no trajectory.
        """
        terminals = np.asarray(terminals).astype(bool)
        if not terminals[-1]:
            raise ValueError("the last row of a data set must end a trajectory")
        ends = np.flatnonzero(terminals)
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts + 1
        return cls(
            observations=jnp.asarray(observations, jnp.float32),
            actions=jnp.asarray(actions, jnp.float32),
            first=jnp.asarray(np.repeat(starts, lengths), jnp.int32),
            last=jnp.asarray(np.repeat(ends, lengths), jnp.int32),
            transitions=jnp.asarray(np.flatnonzero(~terminals), jnp.int32),
            rewards=None if rewards is None else jnp.asarray(rewards, jnp.float32),
            masks=None if masks is None else jnp.asarray(masks, jnp.float32),
        )

    @classmethod
    def from_file(cls, path: Path, label: Label | None = None) -> "Dataset":
        """Load and validate an OGBench file.

        Args:
            path: The file; see :func:`nfrl.data.formats.ogbench.load` for its errors.
            label: Gives rewards and masks to a file's arrays; None for data without rewards.
        """
        arrays = ogbench.load(path)
        rewards, masks = (None, None) if label is None else label(arrays)
        return cls.from_arrays(
            arrays["observations"], arrays["actions"], arrays["terminals"], rewards, masks
        )
