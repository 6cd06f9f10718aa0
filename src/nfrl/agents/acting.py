"""Agents as plain functions of NumPy arrays, for environments that know nothing of JAX."""

from collections.abc import Callable
from functools import partial
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from nfrl.agents.agent import Agent
from nfrl.agents.chunks import ChunkPolicy
from nfrl.agents.imitation import ImitationAgent
from nfrl.agents.optimization import without_optimizer

Act = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def batched_policy(agent: Agent | ImitationAgent, seed: int = 0) -> Act:
    """Compile an agent's ``act`` for a batch of environments; for one that plans chunks, its plans.

    Args:
        agent: The agent, as it stands now.
        seed: Of the policy's own random numbers.

    Returns:
        A function of (observations, goals, episodes, times), the first two of shape (n, d) and
        the others of shape (n,), to actions of shape (n, action). A row's random key is made of
        the seed, its episode and its time, so its action does not depend on the other rows.
    """
    if hasattr(agent, "act_chunk"):
        return ChunkPolicy(cast(ImitationAgent, agent), seed)
    return partial(compile_act(seed), without_optimizer(agent))


def compile_act(seed: int) -> Callable[..., np.ndarray]:
    """Return what :func:`batched_policy` does as a function of the agent too, which may change."""

    @eqx.filter_jit
    def act(
        agent: Agent, observations: Array, goals: Array, episodes: Array, times: Array
    ) -> Array:
        def one(observation: Array, goal: Array, episode: Array, time: Array) -> Array:
            key = jr.fold_in(jr.fold_in(jr.key(seed), episode), time)
            return agent.act(observation, goal, key)

        return jax.vmap(one)(observations, goals, episodes, times)

    def policy(
        agent: Agent,
        observations: np.ndarray,
        goals: np.ndarray,
        episodes: np.ndarray,
        times: np.ndarray,
    ) -> np.ndarray:
        return np.asarray(
            act(
                without_optimizer(agent),
                jnp.asarray(observations),
                jnp.asarray(goals),
                jnp.asarray(episodes, jnp.uint32),
                jnp.asarray(times, jnp.uint32),
            )
        )

    return policy
