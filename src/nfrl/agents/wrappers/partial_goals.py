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
from jaxtyping import Array, Float

from nfrl.agents.wrappers.chunked import Chunkable
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, Wrapper


@dataclasses.dataclass(frozen=True)
class GoalSeeking(Chunkable):
    """What the configurations of goal-conditioned agents have in common."""

    goal_columns: tuple[int, ...] = ()
    """Columns of an observation that goals show; the others are zeros. None named: the whole
    observation, as in the paper. Those that decide success are in the preset far-sighted."""

    def __post_init__(self):
        super().__post_init__()
        if any(column < 0 for column in self.goal_columns):
            raise UserError(f"goal-columns must be at least 0; got {self.goal_columns}")


class PartialGoals(Wrapper):
    """An agent that is shown some columns of its goals alone, as one of whole goals."""

    columns: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, agent: Agent, columns: tuple[int, ...], observation_dim: int) -> "PartialGoals":
        """Wrap an agent.

        Raises:
            UserError: An observation has no such columns.
        """
        if beyond := [column for column in columns if column >= observation_dim]:
            raise UserError(
                f"goal-columns: observations have columns 0 to {observation_dim - 1}, "
                f"and none called {', '.join(map(str, beyond))}"
            )
        return cls(agent, columns)

    def see_batch(self, batch: Any) -> Any:
        """Hide the other columns of its goals."""
        return batch._replace(goals=self._shown(batch.goals))

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Hide the other columns of the goal."""
        return observation, self._shown(goal)

    def _shown(self, goals: Float[Array, "*batch observation"]) -> Array:
        columns = jnp.array(self.columns)
        return jnp.zeros_like(goals).at[..., columns].set(goals[..., columns])
