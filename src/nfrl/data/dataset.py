"""A data set of trajectories as arrays on the device."""

from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nfrl.data import ogbench


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
        cls, observations: np.ndarray, actions: np.ndarray, terminals: np.ndarray
    ) -> "Dataset":
        """Put trajectories on the device.

        Args:
            observations: Shape (rows, observation).
            actions: Shape (rows, action).
            terminals: Shape (rows,), true on the last row of each trajectory.

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
        )

    @classmethod
    def from_file(cls, path: Path) -> "Dataset":
        """Load and validate an OGBench file; see :func:`nfrl.data.ogbench.load` for its errors."""
        arrays = ogbench.load(path)
        return cls.from_arrays(arrays["observations"], arrays["actions"], arrays["terminals"])
