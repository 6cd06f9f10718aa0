"""Made-up conditional densities whose modes and log-densities are known exactly.

For showing what a policy can represent: p(x | y) with y one number in [-1, 1] and x a chunk of
actions, (chunk, action), with its values about in [-1, 1].
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfrl.data.samplers import ChunkBatch


class Density(Protocol):
    """p(x | y), one example at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of x: (chunk, action)."""

    @property
    def modes(self) -> int:
        """How many modes there are; each has the same weight."""

    def sample(
        self, key: PRNGKeyArray, condition: Float[Array, ""]
    ) -> Float[Array, "chunk action"]:
        """Draw x."""
        ...

    def log_prob(
        self, x: Float[Array, "chunk action"], condition: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Return log p(x | y), in nats."""
        ...

    def mode_of(
        self, x: Float[Array, "chunk action"], condition: Float[Array, ""]
    ) -> Int[Array, ""]:
        """Return the mode that x lies in, counted from 0; ``modes`` if it lies in none."""
        ...


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Equal spherical bell curves, whose means follow the condition.

        p(x | y) = 1/K sum_k N(x; m_k(y), sigma^2 I)

    x lies in mode k if m_k is the nearest mean and x no further from it than all but a thousandth
    of that bell curve's samples, roughly.
    """

    shape: tuple[int, int]
    modes: int
    sigma: float
    means: Callable[[Float[Array, ""]], Float[Array, "modes chunk action"]]

    def sample(self, key: PRNGKeyArray, condition: Array) -> Array:
        mode_key, noise_key = jr.split(key)
        mode = jr.randint(mode_key, (), 0, self.modes)
        return self.means(condition)[mode] + self.sigma * jr.normal(noise_key, self.shape)

    def log_prob(self, x: Array, condition: Array) -> Array:
        each = norm.logpdf(x, self.means(condition), self.sigma).sum((1, 2))
        return logsumexp(each) - jnp.log(self.modes)

    def mode_of(self, x: Array, condition: Array) -> Array:
        distances = jnp.linalg.norm((x - self.means(condition)).reshape(self.modes, -1), axis=-1)
        # The norm of d standard normals is about N(sqrt(d), 1/2).
        dim = self.shape[0] * self.shape[1]
        far = self.sigma * (jnp.sqrt(dim) + 3.1 / jnp.sqrt(2))
        return jnp.where(distances.min() < far, distances.argmin(), self.modes)


@dataclasses.dataclass(frozen=True)
class Ring:
    """A ring about a centre that follows the condition; its "modes" are equal arcs.

        x = c(y) + r (cos a, sin a), r ~ N(R, sigma^2), a ~ U(0, 2 pi), c(y) = (y/4, 0)

    Negative r, for which the log-density would be wrong, does not occur: R is many sigma.
    """

    radius: float = 0.6
    sigma: float = 0.03
    modes: int = 8

    @property
    def shape(self) -> tuple[int, int]:
        """One action of two numbers."""
        return (1, 2)

    def sample(self, key: PRNGKeyArray, condition: Array) -> Array:
        radius_key, angle_key = jr.split(key)
        radius = self.radius + self.sigma * jr.normal(radius_key)
        angle = jr.uniform(angle_key, maxval=2 * jnp.pi)
        return (self._centre(condition) + radius * jnp.array([jnp.cos(angle), jnp.sin(angle)]))[
            None
        ]

    def log_prob(self, x: Array, condition: Array) -> Array:
        radius = jnp.linalg.norm(x[0] - self._centre(condition))
        return norm.logpdf(radius, self.radius, self.sigma) - jnp.log(2 * jnp.pi * radius)

    def mode_of(self, x: Array, condition: Array) -> Array:
        offset = x[0] - self._centre(condition)
        share = jnp.arctan2(offset[1], offset[0]) / (2 * jnp.pi) % 1
        arc = jnp.minimum((share * self.modes).astype(int), self.modes - 1)
        off = jnp.abs(jnp.linalg.norm(offset) - self.radius)
        return jnp.where(off < 3.3 * self.sigma, arc, self.modes)

    def _centre(self, condition: Array) -> Array:
        return jnp.array([1.0, 0.0]) * condition / 4


def circle_of_gaussians(modes: int = 8, sigma: float = 0.05) -> Mixture:
    """Bell curves on a circle of radius 0.6, which the condition turns by up to half a turn."""

    def means(condition: Array) -> Array:
        angles = 2 * jnp.pi * jnp.arange(modes) / modes + jnp.pi * condition
        return 0.6 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)[:, None]

    return Mixture((1, 2), modes, sigma, means)


def gaussians(dim: int, modes: int = 8, sigma: float = 0.1, seed: int = 0) -> Mixture:
    """Bell curves at random corners of a cube in ``dim`` dimensions, moved by the condition.

    Args:
        dim: 2 to 16, say.
        modes: How many corners, all different; at most 2^dim.
        sigma: Standard deviation.
        seed: Of the corners.
    """
    modes = min(modes, 2**dim)
    numbers = jr.choice(jr.key(seed), 2 ** min(dim, 30), (modes,), replace=False)
    corners = 0.5 * (2.0 * (numbers[:, None] >> jnp.arange(dim) & 1) - 1)
    return Mixture((1, dim), modes, sigma, lambda condition: corners[:, None] + condition / 4)


def left_or_right(chunk: int = 8, sigma: float = 0.03) -> Mixture:
    """Paths (forward, sideways) that pass an obstacle on its left or right, wide as y asks.

    The mean path runs straight into it.
    """
    along = jnp.linspace(0, 1, chunk)

    def means(condition: Array) -> Array:
        width = 0.5 + condition / 4
        paths = [jnp.stack([along, side * width * jnp.sin(jnp.pi * along)], -1) for side in (1, -1)]
        return jnp.stack(paths)

    return Mixture((chunk, 2), 2, sigma, means)


def sample_batch(density: Density, key: PRNGKeyArray, batch_size: int) -> ChunkBatch:
    """Draw conditions y ~ U(-1, 1), as histories (batch, 1, 1), and chunks x ~ p(x | y)."""
    condition_key, sample_key = jr.split(key)
    conditions = jr.uniform(condition_key, (batch_size,), minval=-1, maxval=1)
    chunks = jax.vmap(density.sample)(jr.split(sample_key, batch_size), conditions)
    return ChunkBatch(conditions[:, None, None], chunks)


def mode_shares(
    density: Density, chunks: Float[Array, "samples chunk action"], condition: Float[Array, ""]
) -> Float[Array, " modes_and_none"]:
    """Return the share of samples in each mode, and at last of those in none."""
    found = jax.vmap(lambda x: density.mode_of(x, condition))(chunks)
    return jnp.bincount(found, length=density.modes + 1) / len(chunks)
