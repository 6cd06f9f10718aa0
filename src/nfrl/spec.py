"""What an observation and an action are: named arrays, each with a shape, a type and bounds."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrl.errors import UserError

VECTOR = "observation"
"""The name of an observation that is one vector and has no other name."""


def split_size(key: str) -> tuple[str, tuple[int, int] | None]:
    """Part an image's name from the size that a key asks of it.

    Args:
        key: ``camera[96x96]``: height times width; or a name without a size.

    Returns:
        The name, and (height, width); None where no size is asked.
    """
    match = re.fullmatch(r"(.+?)\[([1-9]\d*)x([1-9]\d*)\]", key)
    if not match:
        return key, None
    name, height, width = match.groups()
    return name, (int(height), int(width))


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One array of an observation.

    Attributes:
        shape: Of one time step.
        dtype: As NumPy names it: ``float32``, ``uint8`` for an image.
        low: The least value, where there is a bound.
        high: The largest value, where there is a bound.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether it is a picture: (height, width, channels) of bytes."""
        return len(self.shape) == 3 and self.dtype == "uint8"

    @property
    def bytes(self) -> int:
        """How many bytes it takes in a packed row (:mod:`nfrl.data.packed`)."""
        return self.size * (1 if self.is_image else 4)


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """A vector of actions in the data's units, the environment's.

    Attributes:
        low: The least value of each column.
        high: The largest value of each column.
        values: For each column the only values that it takes, in ascending order: one for a
            locked joint, a few for a gripper that is open or shut; None for a continuum.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    values: tuple[tuple[float, ...] | None, ...] = ()

    def __post_init__(self):
        if not self.values:
            object.__setattr__(self, "values", (None,) * len(self.low))
        if not len(self.low) == len(self.high) == len(self.values):
            raise ValueError("low, high and values must have an entry for each column")

    @classmethod
    def unit(cls, dim: int) -> "ActionSpec":
        """Return actions in [-1, 1]^dim, as most simulators of robots take them."""
        return cls((-1.0,) * dim, (1.0,) * dim)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return len(self.low)

    @property
    def is_unit(self) -> bool:
        """Whether the actions are any in [-1, 1]^dim, so that nothing needs to be translated."""
        return self == ActionSpec.unit(self.dim)


@dataclasses.dataclass(frozen=True)
class Spec:
    """What an agent observes and does.

    Attributes:
        observation: The arrays of an observation by name, in the order in which they are laid out
            as one vector.
        action: The action.
        goal_columns: The columns of an observation laid out as a vector that say what a goal is;
            empty where there are no goals, or where they are whole observations.
    """

    observation: Mapping[str, ArraySpec]
    action: ActionSpec
    goal_columns: tuple[int, ...] = ()

    @classmethod
    def vectors(cls, observation_dim: int, action_dim: int) -> "Spec":
        """Return the spec of plain vectors, with actions in [-1, 1]."""
        observation = {VECTOR: ArraySpec((observation_dim,))}
        return cls(observation, ActionSpec.unit(action_dim))

    @property
    def has_images(self) -> bool:
        """Whether an array of an observation is an image."""
        return any(array.is_image for array in self.observation.values())

    @property
    def width(self) -> int:
        """Width of an observation laid out as one vector, the pixels of its images among it."""
        return sum(array.size for array in self.observation.values())

    @property
    def observation_dim(self) -> int:
        """Width of an observation, for an agent that sees vectors alone.

        Raises:
            UserError: One of its arrays is an image, which needs an encoder.
        """
        for name, array in self.observation.items():
            if array.is_image:
                raise UserError(
                    f"{name} is an image {array.shape}, and this agent has no image encoder; name "
                    "the vectors that it is to see with --observation-keys"
                )
        return self.width

    @property
    def action_dim(self) -> int:
        """Width of an action."""
        return self.action.dim

    def flat(self, observation: Any, what: str = "an observation") -> NDArray[np.float32]:
        """Lay one observation out as a vector; pixels are numbers from 0 to 255 in it.

        Args:
            observation: The vector itself, or a mapping with an array for each name.
            what: What to call it where it is refused.

        Raises:
            ValueError: An array is missing, or has another shape.
        """
        if not isinstance(observation, Mapping):
            return _checked(what, observation, (self.width,))
        parts: Sequence[NDArray] = [
            _checked(name, self._get(observation, name), array.shape).reshape(-1)
            for name, array in self.observation.items()
        ]
        return np.concatenate(parts)

    def _get(self, observation: Mapping[str, Any], name: str) -> Any:
        if name not in observation:
            have = ", ".join(map(str, observation)) or "nothing"
            raise ValueError(f"the observation has no {name!r} (it has {have})")
        return observation[name]


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    given = np.asarray(value)
    if given.dtype.kind in "cOSUmM":
        raise ValueError(f"{name} holds values of type {given.dtype}, not numbers")
    array = given.astype(np.float32, copy=False)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; this agent's have {shape}")
    return array
