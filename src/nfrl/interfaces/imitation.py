"""What every imitating agent can do, as types; the agents do not inherit from them."""

import dataclasses
from typing import Any, Protocol, Self

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.data.samplers import ChunkBatch, sample_chunks
from nfrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class ChunkShape:
    """How far back an agent looks, how far ahead it plans, and how much of that it does."""

    history: int = 2
    """Observations H that it sees, the present one included."""
    predicted: int = 16
    """Actions P that it predicts."""
    executed: int = 8
    """Actions E that it executes before it predicts anew."""

    def __post_init__(self):
        if self.history < 1 or not 1 <= self.executed <= self.predicted:
            raise UserError(
                "history must be at least 1, and executed from 1 to predicted; got "
                f"{self.history}, {self.executed} and {self.predicted}"
            )


class ImitationAgent(Protocol):
    """A value: a pytree of networks and optimiser state, whose methods are pure functions."""

    @property
    def policy(self) -> Any:
        """The networks that act, and their normalisers: what is needed after training."""

    @property
    def config(self) -> "ImitationConfig":
        """What it was built from."""

    def draw(self, dataset: Dataset, key: PRNGKeyArray, batch_size: int) -> ChunkBatch:
        """Draw the batch that an update takes."""
        ...

    def update(self, batch: ChunkBatch, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take one gradient step; return the new agent and scalar metrics."""
        ...

    def validate(self, batch: ChunkBatch, key: PRNGKeyArray) -> dict[str, Array]:
        """Return scalar metrics of held-out data."""
        ...

    def act_chunk(
        self, history: Float[Array, "history observation"], key: PRNGKeyArray
    ) -> Float[Array, "predicted action"]:
        """Choose the next actions, in the data's units and within their range."""
        ...


class ImitationConfig(Protocol):
    """A frozen dataclass of hyperparameters that builds an agent."""

    @property
    def chunks(self) -> ChunkShape:
        """History, prediction and execution."""

    def build(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        steps: int,
        normalizers: Normalizers,
    ) -> ImitationAgent:
        """Build an untrained agent.

        Args:
            key: Random key of the initial weights.
            observation_dim: Width of an observation.
            action_dim: Width of an action.
            steps: Length of the run, which the learning-rate schedule spans.
            normalizers: Fitted to the data; of any value where a checkpoint is to be loaded.
        """
        ...


def draw_chunks(
    dataset: Dataset, key: PRNGKeyArray, batch_size: int, shape: ChunkShape
) -> ChunkBatch:
    """Draw histories and the chunks that follow, of an agent's lengths."""
    return sample_chunks(dataset, key, batch_size, history=shape.history, chunk=shape.predicted)


def flat_histories(
    normalizers: Normalizers, observations: Float[Array, "*batch history observation"]
) -> Float[Array, "*batch history*observation"]:
    """Normalise histories and lay each out as one vector."""
    encoded = normalizers.observation.encode(observations)
    return encoded.reshape(*encoded.shape[:-2], -1)


def flat_chunks(
    normalizers: Normalizers, actions: Float[Array, "*batch predicted action"]
) -> Float[Array, "*batch predicted*action"]:
    """Normalise chunks and lay each out as one vector."""
    encoded = normalizers.action.encode(actions)
    return encoded.reshape(*encoded.shape[:-2], -1)


def to_actions(
    normalizers: Normalizers, flat: Float[Array, "*batch predicted*action"]
) -> Float[Array, "*batch predicted action"]:
    """Undo :func:`flat_chunks`, after clipping to the data's range."""
    chunk = flat.reshape(*flat.shape[:-1], -1, normalizers.action.dim)
    return normalizers.action.decode(jnp.clip(chunk, -1, 1))
