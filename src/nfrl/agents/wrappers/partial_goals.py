"""Goals that say what is wanted and nothing else, for agents that are given whole observations.

A hindsight goal is a whole observation: how the robot stands and how a cube is turned, too. In the
data these tell much of where the trajectory came from and of how near the goal is; in an evaluation
they are arbitrary, and an agent that reads them is misled. OGBench knows goals of what decides
success alone as its oracle representations (Park et al., 2025). The paper's are whole observations.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.wrappers.wrapper import GOALS, Wrapper, replaced
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, AgentConfig, Capabilities
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class ShowGoals:
    """Show an agent some columns of its goals alone: ``ShowGoals(NFGCBCConfig(), (0, 1))``."""

    agent: AgentConfig
    columns: tuple[int, ...]

    @property
    def capabilities(self) -> Capabilities:
        """The agent's."""
        return self.agent.capabilities

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build it; see :class:`nfrl.interfaces.agent.AgentConfig`.

        Raises:
            UserError: An observation has no such columns.
        """
        width = spec.observation_dim
        if beyond := [column for column in self.columns if column >= width]:
            raise UserError(
                f"goal-columns: observations have columns 0 to {width - 1}, "
                f"and none called {', '.join(map(str, beyond))}"
            )
        return PartialGoals(self.agent.build(key, spec, steps, data), self.columns)


class PartialGoals(Wrapper):
    """An agent that is shown some columns of its goals alone, as one of whole goals."""

    columns: tuple[int, ...] = eqx.field(static=True)

    def see_batch(self, batch: Any) -> Any:
        """Hide the other columns of its goals."""
        return replaced(batch, GOALS, self._shown)

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Hide the other columns of the goal."""
        return observation, self._shown(goal)

    def _shown(self, goals: Float[Array, "*batch observation"]) -> Array:
        columns = jnp.array(self.columns)
        return jnp.zeros_like(goals).at[..., columns].set(goals[..., columns])
