"""Receding-horizon execution: plan a chunk of actions, do its beginning, plan anew."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from nfrl.acting.compiling import compile_for
from nfrl.interfaces.agent import Agent


class ChunkPolicy:
    """An agent that plans chunks as a function of NumPy arrays, for a batch of environments.

    Called once a step for all environments with (observations, goals, episodes, times). A row
    whose time is 0 begins an episode and forgets what was before; it plans at times 0, E, 2E, ...
    with a random key made of the seed, its episode and its time. A row whose time is -1 has nothing
    to do, and never plans. So what a row does depends on the row alone; the number of rows may not
    change. Imitating agents do not look at the goals.

    Args:
        agent: The agent, as it stands now.
        seed: Of the policy's own random numbers.
        confidence: Whether to keep each plan's log-likelihood; the agent must have ``log_prob``.

    Attributes:
        confidence: (rows,) float32, each row's exact log-likelihood of the chunk in hand, in nats
            per action; None if it is not kept.
    """

    def __init__(self, agent: Agent, seed: int = 0, *, confidence: bool = False):
        self._history = agent.capabilities.history or 1
        self._executed = agent.capabilities.executed
        self._plan = _compiled(agent, seed, confidence)
        self._keep_confidence = confidence
        self._histories = np.empty((0, 0, 0), np.float32)
        self._pending = np.empty((0, 0, 0), np.float32)
        self.confidence: np.ndarray | None = None

    def __call__(
        self, observations: np.ndarray, goals: np.ndarray, episodes: np.ndarray, times: np.ndarray
    ) -> np.ndarray:
        rows, begins = len(observations), times == 0
        if len(self._histories) != rows:
            if (times > 0).any():
                raise ValueError(f"there were {len(self._histories)} rows, and now {rows}")
            self._histories = np.zeros((rows, self._history, observations.shape[1]), np.float32)
            self._pending = np.empty((0, 0, 0), np.float32)
        self._histories[begins] = observations[begins, None]
        self._histories = np.concatenate(
            (self._histories[:, 1:], observations[:, None].astype(np.float32)), axis=1
        )
        # Whole chunks for all rows, whoever needs one: a product's rounding depends on its shape,
        # and a row's actions must not depend on how many others plan with it.
        due = (times >= 0) & (times % self._executed == 0)
        if due.any():
            self._replan(due, goals, episodes, times)
        return self._pending[np.arange(rows), times % self._executed]

    def _replan(
        self, due: np.ndarray, goals: np.ndarray, episodes: np.ndarray, times: np.ndarray
    ) -> None:
        chunks, log_probs = self._plan(self._histories, goals, episodes, times)
        if not len(self._pending):
            self._pending = np.zeros_like(chunks)
            self.confidence = np.zeros(len(due), np.float32) if self._keep_confidence else None
        self._pending[due] = chunks[due]
        if self.confidence is not None:
            self.confidence[due] = log_probs[due]


Plan = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _compiled(agent: Agent, seed: int, confidence: bool) -> Plan:
    """Return (histories, goals, episodes, times) -> (the chunks' beginnings, log-likelihoods)."""
    capabilities = agent.capabilities

    def plan(
        agent: Any, histories: Array, goals: Array, episodes: Array, times: Array
    ) -> tuple[Array, Array]:
        def one(history: Array, goal: Array, episode: Array, time: Array) -> tuple[Array, Array]:
            key = jr.fold_in(jr.fold_in(jr.key(seed), episode), time)
            observation = history[-1] if capabilities.history is None else history
            actions = agent.act(observation, goal, key)
            log_prob = jnp.zeros(())
            if confidence:
                log_prob = agent.log_prob(observation, goal, actions) / (
                    capabilities.predicted or 1
                )
            chunk = actions[None] if capabilities.predicted is None else actions
            return chunk[: capabilities.executed], log_prob

        return jax.vmap(one)(histories, goals, episodes, times)

    compiled = compile_for(agent, plan)(agent)

    def call(
        histories: np.ndarray, goals: np.ndarray, episodes: np.ndarray, times: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        # An idle row's -1 becomes 2^32 - 1, of which a key can be made.
        numbers = (np.asarray(x, np.uint32) for x in (episodes, times))
        chunks, log_probs = compiled(histories, np.asarray(goals, np.float32), *numbers)
        return np.asarray(chunks), np.asarray(log_probs)

    return call
