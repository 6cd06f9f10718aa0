"""Observations of mean 0 and deviation 1 over the data, for agents whose papers give them raw.

A network's first LayerNorm divides by the size of what all inputs add up to: where positions in a
maze go to 36 and a joint moves by tenths, little is left of the joint.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from nfrl.agents.wrappers.wrapper import GOALS, Wrapper, replaced
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizer
from nfrl.interfaces.agent import Agent, AgentConfig, Capabilities
from nfrl.spec import Spec

_OBSERVED = ("observations", "next_observations", *GOALS)


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Let an agent live among standardized observations: ``Standardize(NFGCBCConfig())``."""

    agent: AgentConfig

    @property
    def capabilities(self) -> Capabilities:
        """The agent's."""
        return self.agent.capabilities

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build it; see :class:`nfrl.interfaces.agent.AgentConfig`."""
        normalizer = (
            Normalizer.identity(spec.observation_dim)
            if data is None
            else Normalizer.standard(np.asarray(data.observations))
        )
        return Standardized(self.agent.build(key, spec, steps, data), normalizer)


class Standardized(Wrapper):
    """An agent that lives among standardized observations, as one of the raw ones."""

    normalizer: Normalizer

    def see_batch(self, batch: Any) -> Any:
        """Standardize whatever of it is an observation."""
        return replaced(batch, _OBSERVED, self.normalizer.encode)

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Standardize both; a goal has an observation's width, or none."""
        encode = self.normalizer.encode
        return encode(observation), encode(goal) if goal.size else goal
