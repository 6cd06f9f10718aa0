"""Observations of mean 0 and deviation 1 over the data, for agents whose papers give them raw.

A network's first LayerNorm divides by the size of what all inputs add up to: where positions in a
maze go to 36 and a joint moves by tenths, little is left of the joint.
"""

import dataclasses
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.agent import Wrapper
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizer

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

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Any:
        """Draw a batch as the agent does, of raw observations."""
        return self.agent.draw(dataset, key, batch_size)

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple["Standardized", dict[str, Array]]:
        """Take the agent's gradient step on a raw batch."""
        agent, metrics = self.agent.update(self._encode(batch), key)
        return Standardized(agent, self.normalizer), metrics

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the agent's metrics of a raw held-out batch."""
        return self.agent.validate(self._encode(batch), key)

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose an action; a goal has an observation's width, or none."""
        encode = self.normalizer.encode
        return self.agent.act(encode(observation), encode(goal) if goal.size else goal, key)

    def _encode(self, batch: Any) -> Any:
        observed = {name: getattr(batch, name) for name in _OBSERVED if name in batch._fields}
        encoded = {name: self.normalizer.encode(value) for name, value in observed.items()}
        return batch._replace(**encoded)
