"""Goals that say how things should be and not how the robot should stand, for manipulation.

A hindsight goal is a whole observation, and so the robot's posture too. In the data a like posture
means that the goal is near; in an evaluation it is whatever the goal was drawn with, and an agent
may go to stand so and stay. Not in the paper, whose goals are whole observations.
"""

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.agent import Agent, Wrapper
from nfrl.agents.chunked import Chunkable
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class GoalSeeking(Chunkable):
    """What the configurations of goal-conditioned agents have in common."""

    goal_from: int = 0
    """First column of an observation that goals show; those before it are zeros. The robot's own
    are the first 19 in OGBench's cube, scene and puzzle. 0, the whole, in the paper."""

    def __post_init__(self):
        super().__post_init__()
        if self.goal_from < 0:
            raise UserError(f"goal-from must be at least 0; got {self.goal_from}")


class ObjectGoals(Wrapper):
    """An agent that is shown the later columns of its goals alone, as one of whole goals."""

    goal_from: int = eqx.field(static=True)

    @classmethod
    def of(cls, agent: Agent, goal_from: int, observation_dim: int) -> "ObjectGoals":
        """Wrap an agent, which is shown its goals' columns from ``goal_from`` on.

        Raises:
            UserError: Of ``observation_dim`` columns none is left.
        """
        if goal_from >= observation_dim:
            raise UserError(
                f"goal-from ({goal_from}) leaves nothing of a goal: observations have "
                f"{observation_dim} columns"
            )
        return cls(agent, goal_from)

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> Any:
        """Draw a batch as the agent does, of whole goals."""
        return self.agent.draw(dataset, key, batch_size)

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple["ObjectGoals", dict[str, Array]]:
        """Take the agent's gradient step on a batch of whole goals."""
        agent, metrics = self.agent.update(self._batch(batch), key)
        return ObjectGoals(agent, self.goal_from), metrics

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the agent's metrics of a held-out batch of whole goals."""
        return self.agent.validate(self._batch(batch), key)

    def act(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " observation"],
        key: PRNGKeyArray,
    ) -> Float[Array, " action"]:
        """Choose an action for a whole goal."""
        return self.agent.act(observation, self._shown(goal), key)

    def _batch(self, batch: Any) -> Any:
        return batch._replace(goals=self._shown(batch.goals))

    def _shown(self, goals: Float[Array, "*batch observation"]) -> Array:
        return goals.at[..., : self.goal_from].set(0.0)
