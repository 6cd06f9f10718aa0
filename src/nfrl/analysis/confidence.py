"""Whether the likelihood of what an agent does tells familiar states from unfamiliar ones."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.stats import mannwhitneyu

from nfrl.data.dataset import Dataset, PackedRows
from nfrl.errors import UserError

SCALES = (0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Confidence:
    """Log-likelihoods of chosen chunks, in nats per action."""

    familiar: Float[np.ndarray, " states"]
    """At held-out states of the data."""
    unfamiliar: dict[float, Float[np.ndarray, " states"]]
    """At the same states, moved: by how much."""

    @property
    def auc(self) -> dict[float, float]:
        """Area under the ROC curve: how often a familiar state has the higher one, in [0, 1]."""
        pairs = len(self.familiar) ** 2
        return {
            scale: float(mannwhitneyu(self.familiar, moved).statistic / pairs)
            for scale, moved in self.unfamiliar.items()
        }


def measure(agent: Any, held_out: Dataset, key: PRNGKeyArray, states: int = 2000) -> Confidence:
    """Let an imitating agent act at held-out states, as they are and moved.

    A moved state has N(0, (scale * h)^2) added to each of its numbers, h being half of that
    number's range in the data, the same throughout a history: things lie elsewhere than they
    ever did.

    Args:
        agent: Must have ``log_prob``.
        held_out: Demonstrations that it has not seen.
        key: Chooses the states, their displacements and the actions.
        states: How many.

    Raises:
        UserError: The agent has no likelihood, or it sees images.
    """
    can = agent.capabilities
    if not can.likelihood or can.history is None or can.predicted is None:
        raise UserError(
            "confidence is measured of agents that imitate chunks and have an exact likelihood: "
            "nf-bc and gaussian-bc"
        )
    if isinstance(held_out.observations, PackedRows):
        raise UserError("confidence is measured of observations without images")
    draw_key, move_key, act_key = jr.split(key, 3)
    histories = agent.draw(held_out, draw_key, states).observations
    half_range = agent.policy.normalizers.observation.scale
    directions = half_range * jr.normal(move_key, (states, 1, histories.shape[-1]))

    nowhere = jnp.empty(0)

    @jax.jit
    def confidence(histories: Array) -> Array:
        def one(history: Array, key: Array) -> Array:
            chunk = agent.act(history, nowhere, key)
            return agent.log_prob(history, nowhere, chunk) / len(chunk)

        return jax.vmap(one)(histories, jr.split(act_key, states))

    return Confidence(
        np.asarray(confidence(histories)),
        {scale: np.asarray(confidence(histories + scale * directions)) for scale in SCALES},
    )
