"""What the agents share that imitate chunks of actions from histories of observations."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.wrappers.images import ImageOptions, build_with_images
from nfrl.agents.wrappers.units import build_in_units
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.data.samplers import ChunkBatch, sample_chunks
from nfrl.interfaces.agent import Agent, Capabilities, ChunkShape
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkImitator:
    """What their configurations have in common: a field ``chunks``, and how they are built.

    A configuration adds ``build_algorithm(key, observation_dim, action_dim, steps, normalizers)``.
    """

    chunks: ChunkShape = ChunkShape()
    """History, prediction and execution."""
    images: ImageOptions = ImageOptions()
    """How it sees images, where there are any."""
    likelihood: ClassVar[bool] = False

    @property
    def capabilities(self) -> Capabilities:
        """What the agent will need and be able to do."""
        return Capabilities(
            likelihood=self.likelihood,
            history=self.chunks.history,
            predicted=self.chunks.predicted,
            executed=self.chunks.executed,
        )

    def build(
        self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None = None
    ) -> Agent:
        """Build an untrained agent; see :class:`nfrl.interfaces.agent.AgentConfig`."""
        build = partial(build_with_images, self._build_unit, self.images)
        return build_in_units(build, key, spec, steps, data)

    def _build_unit(self, key: PRNGKeyArray, spec: Spec, steps: int, data: Dataset | None) -> Agent:
        sizes = (spec.observation_dim, spec.action_dim)
        normalizers = Normalizers.identity(*sizes) if data is None else fit_normalizers(data)
        return self.build_algorithm(key, *sizes, steps, normalizers)

    def build_algorithm(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        steps: int,
        normalizers: Normalizers,
    ) -> Any:
        """Build the algorithm's agent, for actions in [-1, 1].

        Args:
            key: Random key of the initial weights.
            observation_dim: Width of an observation.
            action_dim: Width of an action.
            steps: Length of the run, which the learning-rate schedule spans.
            normalizers: Fitted to the data; of any value where a checkpoint is to be loaded.
        """
        raise NotImplementedError


def fit_normalizers(data: Dataset) -> Normalizers:
    """Fit normalisers to all observations, and to the actions that lead somewhere."""
    rows = np.asarray(data.transitions)
    return Normalizers.fit(np.asarray(data.observations), np.asarray(data.actions)[rows])


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
