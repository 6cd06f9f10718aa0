"""A data set of trajectories as arrays on the device."""

from collections.abc import Callable, Mapping
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from nfrl.data.formats import ogbench
from nfrl.data.packed import spans_of
from nfrl.spec import ArraySpec, Spec

Label = Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""``label(arrays) -> (rewards, masks)``, each of shape (rows,)."""


class PackedRows(eqx.Module):
    """Packed observations on the device; ``rows[indices]`` are float32 vectors.

    Attributes:
        data: The bytes, as :mod:`nfrl.data.packed` lays them out.
        layout: The arrays of an observation.
    """

    data: UInt8[Array, "rows bytes"]
    layout: tuple[ArraySpec, ...] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows there are, and how wide they are as vectors."""
        return len(self.data), sum(array.size for array in self.layout)

    def __getitem__(self, rows: Int[Array, " *batch"]) -> Float[Array, "*batch observation"]:
        """Return rows as vectors: numbers as they are, pixels from 0 to 255."""
        packed = self.data[rows]
        parts = [_numbers(packed[..., span], array) for array, span in spans_of(self.layout)]
        return jnp.concatenate(parts, axis=-1)

    def arrays(self) -> list[Float[Array, "rows width"] | None]:
        """Return each array of all rows, laid out as vectors; None for an image."""
        return [
            None if array.is_image else _numbers(self.data[:, span], array)
            for array, span in spans_of(self.layout)
        ]


def _numbers(packed: UInt8[Array, "*batch bytes"], array: ArraySpec) -> Array:
    """Return the numbers of one array of packed rows."""
    if array.is_image:
        return packed.astype(jnp.float32)
    words = packed.reshape(*packed.shape[:-1], array.size, 4)
    return jax.lax.bitcast_convert_type(words, jnp.float32)


class Dataset(eqx.Module):
    """Trajectories laid end to end, with each row's trajectory marked.

    The last row of a trajectory is its final observation: its action leads nowhere, so it is a
    goal, never a transition.

    Attributes:
        observations: One row a time step; packed where there are images among them.
        actions: One row a time step, in [-1, 1].
        first: For each row, the index of its trajectory's first row.
        last: For each row, the index of its trajectory's last row.
        transitions: The rows whose action leads somewhere: all but the last of each trajectory.
        rewards: r(s) of each row's state, for tasks that have rewards.
        masks: 0 in states where the episode ends, else 1; with the rewards.
    """

    observations: Float[Array, "rows observation"] | PackedRows
    actions: Float[Array, "rows action"]
    first: Int[Array, " rows"]
    last: Int[Array, " rows"]
    transitions: Int[Array, " transitions"]
    rewards: Float[Array, " rows"] | None = None
    masks: Float[Array, " rows"] | None = None

    def excerpt(self) -> "Dataset":
        """Return as much of these data as an agent is built with: all of them.

        Of data that are streamed it is a part (:mod:`nfrl.data.streamed`).
        """
        return self

    @classmethod
    def from_arrays(
        cls,
        observations: np.ndarray,
        actions: np.ndarray,
        terminals: np.ndarray,
        rewards: np.ndarray | None = None,
        masks: np.ndarray | None = None,
        packed: Spec | None = None,
    ) -> "Dataset":
        """Put trajectories on the device.

        Args:
            observations: Shape (rows, observation), or packed rows.
            actions: Shape (rows, action).
            terminals: Shape (rows,), true on the last row of each trajectory.
            rewards: Shape (rows,), the reward of each row's state; None for none.
            masks: Shape (rows,), 0 in states that end an episode; with rewards.
            packed: What packed rows are of; None for rows of numbers.

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
            observations=jnp.asarray(observations, jnp.float32)
            if packed is None
            else PackedRows(jnp.asarray(observations), tuple(packed.observation.values())),
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
