"""Images, for agents that see vectors alone: an encoder stands before them, and learns with them.

An agent's ``update`` returns its loss, which is a function of what it was shown. The encoder
descends the gradient of that loss with respect to its own weights; the agent's own step is what it
would be anyway. So any agent sees images, and no line of it knows.

What has values learns the encoder by its critics alone: the gradient of an actor, which would make
the images look better than they are, does not reach it (Yarats et al., 2021, "Improving Sample
Efficiency in Model-Free Reinforcement Learning from Images"). Such an agent's metrics call an
actor's loss ``actor_loss``, or ``..._actor_loss``. Next observations, of which targets are made,
hold still. A target that is made of the present observation does not: IQL's Q for its V.
"""

import dataclasses
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.optimization import AdamW, initial_state
from nfrl.agents.wrappers.wrapper import GOALS, Build, Wrapper, replaced
from nfrl.data.dataset import Dataset, PackedRows
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent
from nfrl.networks import split_trainable
from nfrl.networks.image_encoders import ImageEncoder, ImageEncoderConfig, ImpalaConfig
from nfrl.spec import ArraySpec, Spec

_LEARNED_FROM = ("observations", *GOALS)
_OBSERVED = (*_LEARNED_FROM, "next_observations")


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How an agent sees the images of its observations, where there are any."""

    encoder: ImageEncoderConfig = ImpalaConfig()
    """The encoder; every image of an observation has one of its own."""
    frozen: bool = False
    """Leave the encoder as it is built: pretrained, or random."""
    crop: int = 4
    """Pixels by which images are shifted at random in training (Kostrikov et al., 2020); 0 for
    none."""
    optimizer: AdamW = AdamW()
    """Of the encoder."""

    def __post_init__(self):
        if self.crop < 0:
            raise UserError(f"crop must be at least 0; got {self.crop}")


def build_with_images(
    build: Build,
    images: ImageOptions,
    key: PRNGKeyArray,
    spec: Spec,
    steps: int,
    data: Dataset | None,
) -> Agent:
    """Build an agent that sees vectors alone, for a spec with or without images.

    Args:
        build: Builds the agent: of (key, spec, steps, data).
        images: How images are seen.
        key: Random key of the initial weights.
        spec: What is observed and done.
        steps: Length of the run.
        data: What normalisers are fitted to; None for none.
    """
    if not spec.has_images:
        return build(key, spec, steps, data)
    agent_key, *keys = jr.split(key, 1 + len(spec.observation))
    encoders = tuple(
        images.encoder.build(one, array.shape) if array.is_image else None  # type: ignore[arg-type]
        for one, array in zip(keys, spec.observation.values(), strict=True)
    )
    sight = Sight(encoders, tuple(spec.observation.values()))
    seen = {
        name: ArraySpec((width,))
        for name, width in zip(spec.observation, sight.widths, strict=True)
    }
    within = dataclasses.replace(spec, observation=seen, goal_columns=())
    if data is not None:
        data = dataclasses.replace(data, observations=sight.scale(data.observations))
    agent = build(agent_key, within, steps, data)
    learns = not images.frozen and bool(jax.tree.leaves(split_trainable(sight)[0]))
    state = initial_state(images.optimizer.build(steps), sight) if learns else None
    return SeeingAgent(agent, sight, state, images, steps)


class Sight(eqx.Module):
    """Observations laid out as vectors, with encoded images in the place of their pixels.

    Attributes:
        encoders: Of each array of an observation; None for a vector, which stays as it is.
        layout: The arrays of an observation.
    """

    encoders: tuple[ImageEncoder | None, ...]
    layout: tuple[ArraySpec, ...] = eqx.field(static=True)

    @property
    def widths(self) -> list[int]:
        """How wide each array of an observation is when it is seen."""
        return [
            array.size
            if encoder is None
            else eqx.filter_eval_shape(encoder, jnp.zeros(array.shape)).size
            for encoder, array in zip(self.encoders, self.layout, strict=True)
        ]

    def __call__(self, observation: Float[Array, "*batch observation"]) -> Array:
        """Encode the images of observations."""
        if observation.ndim > 1:
            rows = observation.reshape(-1, observation.shape[-1])
            return jax.vmap(self)(rows).reshape(*observation.shape[:-1], -1)
        parts = [
            part if encoder is None else encoder(part.reshape(array.shape) / 255)
            for encoder, array, part in zip(
                self.encoders, self.layout, self._parts(observation), strict=True
            )
        ]
        return jnp.concatenate(parts)

    def shifted(
        self, key: PRNGKeyArray, observation: Float[Array, " observation"], most: int
    ) -> Array:
        """Shift the images of an observation by up to so many pixels; their edges are repeated."""
        parts = []
        for array, part in zip(self.layout, self._parts(observation), strict=True):
            if array.is_image:
                key, one = jr.split(key)
                image = part.reshape(array.shape)
                padded = jnp.pad(image, ((most, most), (most, most), (0, 0)), mode="edge")
                begin = jr.randint(one, (2,), 0, 2 * most + 1)
                part = jax.lax.dynamic_slice(padded, (*begin, 0), array.shape).reshape(-1)
            parts.append(part)
        return jnp.concatenate(parts)

    def scale(self, rows: PackedRows | Array) -> Array:
        """Return rows by which normalisers see how large seen observations are.

        Encoded images are -1 and 1 in turn, so that a normaliser leaves them: an encoder's output
        is of that size already, and changes while it learns.
        """
        assert isinstance(rows, PackedRows), "observations with images are packed"
        count = rows.shape[0]
        sign = jnp.where(jnp.arange(count) % 2, 1.0, -1.0)[:, None]
        columns = [
            jnp.broadcast_to(sign, (count, width)) if numbers is None else numbers
            for numbers, width in zip(rows.arrays(), self.widths, strict=True)
        ]
        return jnp.concatenate(columns, axis=1)

    def _parts(self, observation: Array) -> list[Array]:
        ends = np.cumsum([array.size for array in self.layout])[:-1]
        return jnp.split(observation, ends)


class SeeingAgent(Wrapper):
    """An agent that sees vectors alone, as one that sees images.

    Attributes:
        sight: The encoders.
        sight_state: What their optimiser remembers; None where they are frozen.
    """

    sight: Sight
    sight_state: optax.OptState | None
    images: ImageOptions = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def policy(self) -> Any:
        """The networks that act: the encoders, and the agent's."""
        return self.sight, self.agent.policy

    @property
    def optimizer_state(self) -> Any:
        """What the optimisers of encoders and agent remember."""
        return self.sight_state, self.agent.optimizer_state

    def see_batch(self, batch: Any) -> Any:
        """Encode the images of observations and goals."""
        return replaced(batch, _OBSERVED, self.sight)

    def see(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Encode both; a goal has an observation's width, or none."""
        return self.sight(observation), self.sight(goal) if goal.size else goal

    def update(self, batch: Any, key: PRNGKeyArray) -> tuple[Self, dict[str, Array]]:
        """Take a gradient step of the agent, and one of the encoders on its loss."""
        shift_key, key = jr.split(key)
        batch = self._shifted(batch, shift_key)
        learned, constants = split_trainable(self.sight)

        def loss(learned: Any) -> tuple[Array, tuple[Agent, dict[str, Array]]]:
            sight = eqx.combine(learned, constants)
            still = eqx.combine(jax.lax.stop_gradient(learned), constants)
            seen = replaced(batch, _LEARNED_FROM, sight)
            seen = replaced(seen, ("next_observations",), still)
            agent, metrics = self.agent.update(seen, key)
            return self._loss_of_sight(metrics), (eqx.filter(agent, eqx.is_array), metrics)

        if self.sight_state is None:
            _, (dynamic, metrics) = loss(learned)
            sight, state = self.sight, None
        else:
            gradient, (dynamic, metrics) = jax.grad(loss, has_aux=True)(learned)
            optimizer = self.images.optimizer.build(self.steps)
            updates, state = optimizer.update(gradient, self.sight_state, learned)
            sight = eqx.combine(optax.apply_updates(learned, updates), constants)
            metrics["grad_norm"] = optax.tree.norm([metrics["grad_norm"], gradient])
        agent = eqx.combine(dynamic, eqx.filter(self.agent, eqx.is_array, inverse=True))
        return dataclasses.replace(self, agent=agent, sight=sight, sight_state=state), metrics

    def _loss_of_sight(self, metrics: dict[str, Array]) -> Array:
        """Return what the encoders descend: the agent's loss, without that of actors of values."""
        of_actors = [value for name, value in metrics.items() if name.endswith("actor_loss")]
        return metrics["loss"] - sum(of_actors, jnp.zeros(()))

    def _shifted(self, batch: Any, key: PRNGKeyArray) -> Any:
        """Shift the images of each observation and goal on its own."""
        if not self.images.crop:
            return batch
        keys = iter(jr.split(key, len(_OBSERVED)))

        def shift(observations: Array) -> Array:
            rows = observations.reshape(-1, observations.shape[-1])
            each = jr.split(next(keys), len(rows))
            shifted = jax.vmap(self.sight.shifted, in_axes=(0, 0, None))(
                each, rows, self.images.crop
            )
            return shifted.reshape(observations.shape)

        return replaced(batch, _OBSERVED, shift)
