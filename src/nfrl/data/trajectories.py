"""Trajectories in the memory of the host: what every reader of data returns."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nfrl.data.actions import action_spec
from nfrl.data.packed import packed_width, unpack
from nfrl.spec import VECTOR, ArraySpec, Spec

if TYPE_CHECKING:
    from nfrl.data.dataset import Dataset

EXCERPT_BYTES = 64_000_000
"""What an agent is built with, of data that are streamed: about so much, in whole trajectories."""
FINAL_ROWS = ("actions", "rewards", "masks")


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """Trajectories laid end to end; each row's action is the one taken at its observation.

    Attributes:
        observations: (rows, d) float32: the arrays of ``spec.observation`` side by side. Where one
            of them is an image it is (rows, bytes) uint8: packed rows (:mod:`nfrl.data.packed`).
        actions: (rows, a) float32, in the data's own units.
        ends: (trajectories,) int64, for each trajectory the row after its last.
        spec: What an observation and an action are.
        rewards: (rows,) float32, of each row's transition; None for none.
        masks: (rows,) float32, 0 where the transition ends all reward, else 1: a time-out does not
            end it. They stand beside the rewards.
        final_observations: (trajectories, d), what each last action led to. None where that is not
            known: then the last observation is repeated.
        final_rows: What a file stores beside its final observations, by name: ``actions``,
            ``rewards`` and ``masks``, (trajectories, ...). It leads nowhere, and is kept so that a
            data set on the device has its file's bits.
        extras: Further arrays: (rows, ...), or (rows + trajectories, ...) with a row for each
            final observation, as OGBench's files have them.
        notes: What was skipped or passed over, a line each.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or a trajectory has no rows.
    """

    observations: NDArray
    actions: NDArray[np.float32]
    ends: NDArray[np.int64]
    spec: Spec
    rewards: NDArray[np.float32] | None = None
    masks: NDArray[np.float32] | None = None
    final_observations: NDArray | None = None
    final_rows: Mapping[str, NDArray] = dataclasses.field(default_factory=dict)
    extras: Mapping[str, NDArray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        kind = np.uint8 if self.spec.has_images else np.float32
        self._set("observations", self.observations, kind, 2)
        self._set("actions", self.actions, np.float32, 2)
        self._set("ends", np.asarray(self.ends).reshape(-1), np.int64, 1)
        rows, count = self.transitions, len(self.ends)
        if len(self.actions) != rows:
            raise ValueError(f"actions: {len(self.actions)} rows, but observations have {rows}")
        if not count or self.ends[-1] != rows:
            last = int(self.ends[-1]) if count else 0
            raise ValueError(f"ends: the last is {last}, but there are {rows} rows")
        if (np.diff(self.ends, prepend=0) < 1).any():
            raise ValueError("ends: they must grow, as every trajectory has a row")
        if self.spec.has_images:
            self._check_width("observations", packed_width(self.spec))
            self._check_packed()
        else:
            self._check_width("observations", self.spec.width)
        self._check_width("actions", self.spec.action_dim)
        if (self.rewards is None) != (self.masks is None):
            raise ValueError("rewards and masks: one is there, the other is not")
        if self.rewards is not None and self.masks is not None:
            self._set("rewards", self.rewards, np.float32, 1, rows)
            self._set("masks", self.masks, np.float32, 1, rows)
        if self.final_observations is not None:
            dtype = self.observations.dtype.type
            self._set("final_observations", self.final_observations, dtype, 2, count)
            self._check_width("final_observations", self.observations.shape[1])
        for name, array in self.final_rows.items():
            if name not in FINAL_ROWS or len(array) != count:
                raise ValueError(f"final_rows: {name}: {len(array)} rows, expected {count}")
        for name, array in self.extras.items():
            if len(array) not in (rows, rows + count):
                raise ValueError(f"{name}: {len(array)} rows, but observations have {rows}")

    @classmethod
    def from_arrays(
        cls, observations: NDArray, actions: NDArray, ends: NDArray, **further: Any
    ) -> "Trajectories":
        """Return trajectories whose observations are plain vectors.

        Args:
            observations: (rows, d).
            actions: (rows, a).
            ends: (trajectories,).
            further: Any other attribute but ``spec``.
        """
        observations, actions = np.asarray(observations), np.asarray(actions)
        for name, array in (("observations", observations), ("actions", actions)):
            if array.ndim != 2:
                raise ValueError(f"{name}: shape {array.shape}, expected (rows, width)")
        observation = {VECTOR: ArraySpec(observations.shape[1:])}
        return cls(observations, actions, ends, Spec(observation, action_spec(actions)), **further)

    def _set(self, name: str, value: Any, dtype: Any, ndim: int, rows: int | None = None) -> None:
        """Set an attribute to an array of a type, if it is finite and of such a shape."""
        array = np.asarray(value)
        if array.ndim != ndim:
            expected = "(rows, width)" if ndim == 2 else "(rows,)"
            raise ValueError(f"{name}: shape {array.shape}, expected {expected}")
        if rows is not None and len(array) != rows:
            raise ValueError(f"{name}: {len(array)} rows, expected {rows}")
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(dtype, copy=False)
            # Quick, and takes no memory. A sum of finite numbers may overflow.
            suspect = array.dtype.kind == "f" and not np.isfinite(array.sum())
        if suspect:
            bad = ~np.isfinite(array)
            if bad.any():
                row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
                column = int(np.argmax(bad.reshape(len(bad), -1)[row]))
                raise ValueError(
                    f"{self._column(name, column)}: NaN or infinite, first in row {row}"
                )
        object.__setattr__(self, name, array)

    def _column(self, name: str, column: int) -> str:
        """Name an array's column, as the data do."""
        if name == "actions":
            return f"actions, column {column}"
        if name != "observations" or list(self.spec.observation) == [VECTOR]:
            return name
        for key, array in self.spec.observation.items():
            if column < array.size:
                return key
            column -= array.size
        return name

    def _check_packed(self) -> None:
        """Refuse vectors among packed rows that are not finite."""
        for name, array in unpack(self.observations, self.spec).items():
            if self.spec.observation[name].is_image:
                continue
            finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if not finite.all():
                row = int(np.argmin(finite))
                raise ValueError(f"{name}: NaN or infinite, first in row {row}")

    def _check_width(self, name: str, width: int) -> None:
        found = getattr(self, name).shape[1]
        if found != width:
            raise ValueError(f"{name}: {found} numbers wide, but the spec's are {width}")

    @property
    def transitions(self) -> int:
        """How many rows there are."""
        return len(self.observations)

    @property
    def bytes(self) -> int:
        """What the device would hold of them, in bytes."""
        arrays = self._rows(slice(None))
        # And for each row the trajectory's first and last, and a transition's number.
        return sum(array.nbytes for array in arrays.values()) + 12 * self.transitions

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(trajectories,), how many transitions each has."""
        return np.diff(self.ends, prepend=0)

    def to_arrays(self) -> dict[str, NDArray]:
        """Return OGBench's arrays, in which a trajectory has one more row: its final observation.

        What is not known of that row is repeated from the last one.

        Returns:
            ``observations``, ``actions`` and ``terminals``, ``rewards`` and ``masks`` where there
            are any, and the extras, (rows + trajectories, ...).
        """
        rows = np.insert(np.arange(self.transitions), self.ends, self.ends - 1)
        finals = self.ends + np.arange(len(self.ends))
        terminals = np.zeros(len(rows), bool)
        terminals[finals] = True
        arrays = {"observations": self.observations[rows], "actions": self.actions[rows]}
        if self.final_observations is not None:
            arrays["observations"][finals] = self.final_observations
        if self.rewards is not None and self.masks is not None:
            arrays |= {"rewards": self.rewards[rows], "masks": self.masks[rows]}
        for name in arrays.keys() & self.final_rows.keys():
            arrays[name][finals] = self.final_rows[name]
        for name, array in self.extras.items():
            arrays.setdefault(name, array if len(array) == len(rows) else array[rows])
        return arrays | {"terminals": terminals}

    def to_dataset(self, *, stream: bool = False) -> "Dataset":
        """Put them on the device; images stay bytes there.

        Args:
            stream: Leave them here, and fetch batches when they are wanted.
        """
        from nfrl.data.dataset import Dataset
        from nfrl.data.streamed import StreamedDataset

        packed = self.spec if self.spec.has_images else None
        if stream:
            final_rows = dict(self.final_rows)
            if self.final_observations is not None:
                final_rows["observations"] = self.final_observations
            return StreamedDataset.of(
                self._rows(slice(None)),
                self.ends,
                final_rows,
                lambda: self.excerpt(EXCERPT_BYTES).to_dataset(),
                packed,
            )
        names = ("observations", "actions", "terminals", "rewards", "masks")
        arrays = dataclasses.replace(self, extras={}).to_arrays()
        found = {name: arrays[name] for name in names if name in arrays}
        return Dataset.from_arrays(**found, packed=packed)

    def excerpt(self, size: float) -> "Trajectories":
        """Return a copy of some of them, evenly spaced, of about so many bytes; all if they fit."""
        count = len(self.ends)
        wanted = max(1, int(min(1.0, size / max(self.bytes, 1)) * count))
        return self.take(np.arange(wanted) * count // wanted)

    def with_rewards(self, rewards: NDArray, masks: NDArray) -> "Trajectories":
        """Return these with rewards.

        Args:
            rewards: (rows,), or (rows + trajectories,) with a row for each final observation.
            masks: The same, 0 where all reward ends, else 1.
        """
        final_rows = {k: v for k, v in self.final_rows.items() if k not in ("rewards", "masks")}
        given: dict[str, Any] = {"rewards": np.asarray(rewards), "masks": np.asarray(masks)}
        finals = self.ends + np.arange(len(self.ends))
        for name, array in given.items():
            if len(array) == self.transitions + len(self.ends):
                final_rows[name] = array[finals]
                given[name] = np.delete(array, finals)
        return dataclasses.replace(self, **given | {"final_rows": final_rows})

    def split(self, held_out: int) -> tuple["Trajectories", "Trajectories"]:
        """Part the last trajectories from the others.

        Args:
            held_out: How many to hold out; fewer than there are.

        Raises:
            ValueError: Nothing would be left.
        """
        count = len(self.ends)
        if not 0 < held_out < count:
            raise ValueError(
                f"of {count} trajectories {held_out} cannot be held out: at least one must be, and "
                "one must be left"
            )
        return self._part(0, count - held_out), self._part(count - held_out, count)

    def take(self, chosen: NDArray[np.integer]) -> "Trajectories":
        """Return a copy of some trajectories, without the extras.

        Args:
            chosen: Their numbers, ascending.
        """
        begins = self.ends - self.lengths
        rows = np.concatenate([np.arange(begins[i], self.ends[i]) for i in chosen])
        finals = self.final_observations
        return dataclasses.replace(
            self,
            **self._rows(rows),
            ends=np.cumsum(self.lengths[chosen]),
            final_observations=None if finals is None else finals[chosen],
            final_rows={name: array[chosen] for name, array in self.final_rows.items()},
            extras={},
        )

    def split_rows(self, row: int) -> tuple["Trajectories", "Trajectories"]:
        """Part the only trajectory in two: what comes before a row, and what comes from it on.

        Raises:
            ValueError: There are several trajectories, or one part would be empty.
        """
        if len(self.ends) != 1 or not 0 < row < self.transitions:
            raise ValueError(f"no single trajectory that can be parted at row {row}")
        parts = []
        for rows, last in ((slice(0, row), False), (slice(row, None), True)):
            following = self.final_observations if last else self.observations[row : row + 1]
            # With a row for the final observation: that of the first part is the second's first.
            stored = rows if last else slice(0, row + 1)
            parts.append(
                dataclasses.replace(
                    self,
                    **self._rows(rows),
                    ends=np.array([row if not last else self.transitions - row]),
                    final_observations=following,
                    final_rows=self.final_rows if last else {},
                    extras={
                        name: array[rows if len(array) == self.transitions else stored]
                        for name, array in self.extras.items()
                    },
                )
            )
        return parts[0], parts[1]

    def pieces(self, rows: int) -> Iterator["Trajectories"]:
        """Yield them in pieces of whole trajectories, each of about so many transitions."""
        first = 0
        while first < len(self.ends):
            begin = int(self.ends[first - 1]) if first else 0
            end = max(int(np.searchsorted(self.ends, begin + rows, side="right")), first + 1)
            yield self if first == 0 and end == len(self.ends) else self._part(first, end)
            first = end

    def _part(self, first: int, end: int) -> "Trajectories":
        """Return the trajectories from one up to another, that one left out."""
        begin = int(self.ends[first - 1]) if first else 0
        rows = slice(begin, int(self.ends[end - 1]))
        stored = slice(begin + first, int(self.ends[end - 1]) + end)
        finals = self.final_observations
        return dataclasses.replace(
            self,
            **self._rows(rows),
            ends=self.ends[first:end] - begin,
            final_observations=None if finals is None else finals[first:end],
            final_rows={name: array[first:end] for name, array in self.final_rows.items()},
            extras={
                name: array[rows if len(array) == self.transitions else stored]
                for name, array in self.extras.items()
            },
        )

    def _rows(self, rows: slice | NDArray[np.integer]) -> dict[str, Any]:
        arrays = {name: getattr(self, name) for name in ("observations", *FINAL_ROWS)}
        return {name: array[rows] for name, array in arrays.items() if array is not None}

    @property
    def sha256(self) -> str:
        """A hash of every number, in hexadecimal: of the contents, whatever the files.

        Without rewards it is of observations, actions and ends alone: runs of earlier versions
        are found by it. With rewards it is of these, the masks and the final observations, too.
        """
        found = hashlib.sha256()
        arrays: list[NDArray | None] = [self.observations, self.actions, self.ends]
        if self.rewards is not None:
            arrays += [self.rewards, self.masks, self.final_observations]
        for array in arrays:
            if array is not None:
                found.update(f"{array.dtype}{array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()
