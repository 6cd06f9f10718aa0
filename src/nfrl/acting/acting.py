"""Agents as plain functions of NumPy arrays, for environments that know nothing of JAX."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array

from nfrl.acting.compiling import compile_for
from nfrl.acting.receding_horizon import ChunkPolicy
from nfrl.agents.wrappers.chunked import Chunked
from nfrl.interfaces.agent import Agent
from nfrl.interfaces.imitation import ImitationAgent

Act = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def batched_policy(agent: Agent | Chunked | ImitationAgent, seed: int = 0) -> Act:
    """Compile an agent's ``act`` for a batch of environments; for one that plans chunks, its plans.

    Args:
        agent: The agent, as it stands now.
        seed: Of the policy's own random numbers.

    Returns:
        A function of (observations, goals, episodes, times), the first two of shape (n, d) and
        the others of shape (n,), to actions of shape (n, action). A row's random key is made of
        the seed, its episode and its time, so its action does not depend on the other rows. A time
        of -1 says that the row has nothing to do.
    """
    if hasattr(agent, "act_chunk"):
        return ChunkPolicy(cast(ImitationAgent | Chunked, agent), seed)
    return compile_act(agent, seed)(agent)


class Policy:
    """An agent that acts in one environment, called once a step.

    What an agent must remember, the actions of its chunk that are still to be executed and the
    latest observations, is remembered here.

    Args:
        agent: The agent, as it stands now.
        observation_dim: Width of an observation, and of a goal.
        seeks_goals: Whether it is to be told a goal.
        seed: Of the policy's own random numbers.
    """

    def __init__(
        self,
        agent: Agent | Chunked | ImitationAgent,
        observation_dim: int,
        *,
        seeks_goals: bool = False,
        seed: int = 0,
    ):
        self._act = batched_policy(agent, seed)
        self._width = observation_dim
        self._seeks_goals = seeks_goals
        self._episode, self._time = 0, 0

    def reset(self) -> None:
        """Begin the next episode: forget what was planned and seen."""
        self._episode, self._time = self._episode + 1, 0

    def __call__(self, observation: np.ndarray, goal: np.ndarray | None = None) -> np.ndarray:
        """Return the next action.

        Args:
            observation: (observation,), as the environment gives it.
            goal: (observation,), for an agent that seeks goals.

        Returns:
            (action,) float32, each in [-1, 1].

        Raises:
            ValueError: A width is not the agent's, or the goal is missing.
        """
        if self._seeks_goals and goal is None:
            raise ValueError("this agent seeks goals: call it with (observation, goal)")
        state = self._row("an observation", observation)
        target = self._row("a goal", goal) if self._seeks_goals else np.empty((1, 0), np.float32)
        action = self._act(state, target, np.array([self._episode]), np.array([self._time]))[0]
        self._time += 1
        return action

    def _row(self, what: str, values: Any) -> np.ndarray:
        row = np.asarray(values, np.float32)
        if row.shape != (self._width,):
            raise ValueError(f"{what} has shape {row.shape}; this agent's have ({self._width},)")
        return row[None]


def compile_act(like: Agent, seed: int) -> Callable[[Agent], Act]:
    """Compile once for agents that come later: what :func:`batched_policy` returns, of each.

    Args:
        like: An agent of the same shape.
        seed: Of the policy's own random numbers.
    """

    def act(
        agent: Agent, observations: Array, goals: Array, episodes: Array, times: Array
    ) -> Array:
        def one(observation: Array, goal: Array, episode: Array, time: Array) -> Array:
            key = jr.fold_in(jr.fold_in(jr.key(seed), episode), time)
            return agent.act(observation, goal, key)

        return jax.vmap(one)(observations, goals, episodes, times)

    bind = compile_for(like, act)

    def policy_of(agent: Agent) -> Act:
        compiled = bind(agent)

        def policy(
            observations: np.ndarray, goals: np.ndarray, episodes: np.ndarray, times: np.ndarray
        ) -> np.ndarray:
            # An idle row's -1 becomes 2^32 - 1, of which a key can be made.
            numbers = (np.asarray(x, np.uint32) for x in (episodes, times))
            return np.asarray(compiled(observations, goals, *numbers))

        return policy

    return policy_of
