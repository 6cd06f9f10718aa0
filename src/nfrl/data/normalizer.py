"""Data in units of their range (as Diffusion Policy's, Chi et al., 2023) or of their deviation."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from paramax import NonTrainable

CONSTANT_RANGE = 1e-4
"""A dimension that varies by less is constant: it is centred, and not stretched."""


class Normalizer(eqx.Module):
    """x -> (x - centre) / scale in each dimension.

    The arrays are constants of the agent that holds them: saved with it, never trained.
    """

    _centre: NonTrainable[Float[Array, " dim"]]
    _scale: NonTrainable[Float[Array, " dim"]]

    def __init__(self, centre: ArrayLike, scale: ArrayLike):
        self._centre = NonTrainable(jnp.asarray(centre, jnp.float32))
        self._scale = NonTrainable(jnp.asarray(scale, jnp.float32))

    @classmethod
    def fit(cls, data: np.ndarray) -> "Normalizer":
        """Take the range of data (rows, dim), which is mapped to [-1, 1].

        Raises:
            ValueError: There are no rows.
        """
        data = np.asarray(data, np.float64)
        low, high = data.min(axis=0), data.max(axis=0)
        scale = (high - low) / 2
        return cls((low + high) / 2, np.where(high - low < CONSTANT_RANGE, 1.0, scale))

    @classmethod
    def standard(cls, data: np.ndarray) -> "Normalizer":
        """Take the mean and the standard deviation of data (rows, dim), mapped to 0 and 1."""
        data = np.asarray(data, np.float64)
        deviation = data.std(axis=0)
        return cls(data.mean(axis=0), np.where(deviation < CONSTANT_RANGE, 1.0, deviation))

    @classmethod
    def identity(cls, dim: int) -> "Normalizer":
        """Change nothing; also the form of any normaliser, to load a saved one into."""
        return cls(jnp.zeros(dim), jnp.ones(dim))

    @property
    def centre(self) -> Float[Array, " dim"]:
        """The middle of the data's range, or their mean."""
        return self._centre.tree

    @property
    def scale(self) -> Float[Array, " dim"]:
        """Half the data's range, or their deviation; 1 where they are constant."""
        return self._scale.tree

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return self.scale.shape[-1]

    def encode(self, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        """Map data to their units."""
        return (x - self.centre) / self.scale

    def decode(self, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        """The inverse of ``encode``."""
        return x * self.scale + self.centre

    @property
    def log_det(self) -> Float[Array, ""]:
        """The log-determinant of ``encode``: what it adds to a log-density."""
        return -jnp.log(self.scale).sum()


class Normalizers(eqx.Module):
    """What an imitating agent needs to know of its data's units."""

    observation: Normalizer
    action: Normalizer

    @classmethod
    def fit(cls, observations: np.ndarray, actions: np.ndarray) -> "Normalizers":
        """Take the ranges of data: observations (rows, d), actions (rows, a)."""
        return cls(Normalizer.fit(observations), Normalizer.fit(actions))

    @classmethod
    def identity(cls, observation_dim: int, action_dim: int) -> "Normalizers":
        """Change nothing; also the form of any, to load saved ones into."""
        return cls(Normalizer.identity(observation_dim), Normalizer.identity(action_dim))
