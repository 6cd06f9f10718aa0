"""An agent that stands around another; :mod:`nfrl.agents.wrappers.options` names all of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.data.dataset import Dataset
from nfrl.interfaces.agent import Agent, Capabilities
from nfrl.spec import Spec

Build = Callable[[PRNGKeyArray, Spec, int, Dataset | None], Agent]
"""Builds an agent: of (key, spec, steps, data), as :class:`nfrl.interfaces.agent.AgentConfig`."""
GOALS = ("goals", "actor_goals", "subgoals", "actor_subgoals")
"""What of a batch is a goal, or may be asked for as one."""


class Wrapper(eqx.Module):
    """An agent that stands around another, which it lets see things its own way.

    Everything is the other's, but for what :meth:`see_batch` and :meth:`see` make of what it is
    given.
    """

    agent: Agent

    def see_batch(self, batch: Any) -> Any:
        """Return a batch as the agent within is to see it."""
        return batch

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Return an observation and a goal as the agent within is to see them."""
        return observation, goal

    @property
    def capabilities(self) -> Capabilities:
        """What the agent within needs and can do."""
        return self.agent.capabilities

    @property
    def policy(self) -> Any:
        """The networks that act, in the units of the agent within."""
        return self.agent.policy

    @property
    def optimizer_state(self) -> Any:
        """What the agent's optimisers remember."""
        return self.agent.optimizer_state

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int, **how: int) -> Any:
        """Draw a batch as the agent within does."""
        return self.agent.draw(dataset, key, batch_size, **how)

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take its gradient step."""
        agent, metrics = self.agent.update(self.see_batch(batch), key)
        return dataclasses.replace(self, agent=agent), metrics

    def validate(self, batch: Any, key: PRNGKeyArray) -> dict[str, Array]:
        """Return its metrics of a held-out batch."""
        return self.agent.validate(self.see_batch(batch), key)

    def act(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*predicted action"]:
        """Choose its action; a goal has an observation's width, or none."""
        return self.agent.act(*self.see(observation, goal), key)

    def log_prob(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "*predicted action"],
    ) -> Float[Array, ""]:
        """Return its log-density of an action."""
        return self.agent.log_prob(*self.see(observation, goal), action)  # type: ignore[attr-defined]

    def q(
        self,
        observation: Float[Array, "*history observation"],
        goal: Float[Array, " goal"],
        action: Float[Array, "*predicted action"],
    ) -> Float[Array, ""]:
        """Return its critics' value of an action."""
        return self.agent.q(*self.see(observation, goal), action)  # type: ignore[attr-defined]


def replaced(batch: Any, names: Sequence[str], change: Callable[[Array], Array]) -> Any:
    """Return a batch with some of its fields changed, those of them that it has."""
    found = {name: getattr(batch, name, None) for name in names}
    return batch._replace(
        **{name: change(value) for name, value in found.items() if value is not None}
    )
