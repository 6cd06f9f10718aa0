"""Observations of mean 0 and deviation 1 over the data, for agents whose papers give them raw.

A network's first LayerNorm divides by the size of what all inputs add up to: where positions in a
maze go to 36 and a joint moves by tenths, little is left of the joint.
"""

import dataclasses
from typing import Any

from jaxtyping import Array

from nfrl.data.normalizer import Normalizer
from nfrl.interfaces.agent import Wrapper

_OBSERVED = ("observations", "next_observations", "goals")


@dataclasses.dataclass(frozen=True)
class Standardizable:
    """What the configurations of agents have in common that can be standardized."""

    standardize: bool = False
    """Give the networks observations and goals of mean 0 and deviation 1 over the data. Not in the
    paper, whose networks get them raw."""


class Standardized(Wrapper):
    """An agent that lives among standardized observations, as one of the raw ones."""

    normalizer: Normalizer

    def see_batch(self, batch: Any) -> Any:
        """Standardize whatever of it is an observation."""
        observed = {name: getattr(batch, name) for name in _OBSERVED if name in batch._fields}
        encoded = {name: self.normalizer.encode(value) for name, value in observed.items()}
        return batch._replace(**encoded)

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Standardize both; a goal has an observation's width, or none."""
        encode = self.normalizer.encode
        return encode(observation), encode(goal) if goal.size else goal
