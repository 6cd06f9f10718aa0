"""Agents as plain functions of NumPy arrays, for environments that know nothing of JAX."""

from collections.abc import Callable

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array

from nfrl.acting.compiling import compile_for
from nfrl.acting.receding_horizon import ChunkPolicy
from nfrl.interfaces.agent import Agent

Act = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def batched_policy(agent: Agent, seed: int = 0) -> Act:
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
    if agent.capabilities.plans:
        return ChunkPolicy(agent, seed)
    return compile_act(agent, seed)(agent)


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
