"""Denoising diffusion of vectors with a discrete, variance-preserving schedule (Ho et al., 2020).

With alphabar_t = prod_{u <= t} (1 - beta_u):

    min E |epsilon(x_t, t, y) - eps|^2,  x_t = sqrt(alphabar_t) x + sqrt(1 - alphabar_t) eps

and a sample is T steps from x_T ~ N(0, I), of which the last adds no noise:

    x_{t-1} = [x_t - beta_t / sqrt(1 - alphabar_t) epsilon(x_t, t, y)] / sqrt(1 - beta_t)
              + sqrt(beta_t) z
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import GLOROT, LECUN
from nfrl.networks import FLAX_EPSILON, MLP, LayerNorm, Linear

Predict = Callable[[Array, Array, Array], Array]
"""epsilon: (x_t of shape (dim,), t as a float in 0 ... T - 1, y) -> a prediction of eps."""


def variance_preserving(
    steps: int, least: float = 0.1, greatest: float = 10.0
) -> Float[np.ndarray, " steps"]:
    """Return beta_1 ... beta_T of the schedule of Xiao et al. (2022), IDQL's.

    The noise rate rises linearly from ``least`` to ``greatest`` over a time of 1, so that
    alphabar_T = exp(-(least + greatest) / 2) however many steps there are.
    """
    t = np.arange(1, steps + 1)
    slope = 0.5 * (greatest - least) * (2 * t - 1) / steps**2
    return (1 - np.exp(-least / steps - slope)).astype(np.float32)


def noise_error(
    predict: Predict,
    data: Float[Array, "batch dim"],
    conditions: Float[Array, "batch condition"],
    key: PRNGKeyArray,
    beta: Float[np.ndarray, " steps"],
) -> Array:
    """Return the diffusion loss: the predicted noise's mean squared error per coordinate."""
    noise_key, time_key = jr.split(key)
    noise = jr.normal(noise_key, data.shape)
    time = jr.randint(time_key, (len(data),), 0, len(beta))
    kept = jnp.asarray(np.cumprod(1 - beta))[time][:, None]
    noisy = jnp.sqrt(kept) * data + jnp.sqrt(1 - kept) * noise
    predicted = jax.vmap(predict)(noisy, time.astype(data.dtype), conditions)
    return jnp.square(predicted - noise).mean()


def sample(
    predict: Predict,
    key: PRNGKeyArray,
    dim: int,
    condition: Float[Array, " condition"],
    beta: Float[np.ndarray, " steps"],
    limit: float = jnp.inf,
) -> Float[Array, " dim"]:
    """Draw one sample.

    Args:
        predict: epsilon.
        key: Random key.
        dim: Width of a sample.
        condition: y.
        beta: The schedule that epsilon was trained with.
        limit: Every step is clipped to +-limit, where the data are known to lie.
    """
    steps = len(beta)
    kept = np.cumprod(1 - beta)
    keys = jr.split(key, steps + 1)
    added = np.sqrt(beta) * (np.arange(steps) > 0)

    def denoise(x: Array, step: tuple) -> tuple[Array, None]:
        time, beta, remaining, added, key = step
        predicted = predict(x, time, condition)
        mean = (x - beta / jnp.sqrt(remaining) * predicted) / jnp.sqrt(1 - beta)
        return jnp.clip(mean + added * jr.normal(key, x.shape), -limit, limit), None

    schedule = (np.arange(steps, dtype=np.float32), beta, 1 - kept, added)
    backwards = [jnp.asarray(values[::-1]) for values in schedule]
    return jax.lax.scan(denoise, jr.normal(keys[0], (dim,)), (*backwards, keys[1:]))[0]


class NoisePredictor(eqx.Module):
    """IDQL's network of epsilon: learned Fourier features of time, then residual blocks.

    A block is x + Linear(swish(Linear(LayerNorm(x)))), four times as wide inside
    (Hansen-Estruch et al., 2023, LN_Resnet; its dropout is left out). Initial weights are the
    code's: Glorot's, and LeCun's inside the blocks, with biases of 0.

    Args:
        key: Random key.
        dim: Width of what is diffused.
        condition_dim: Width of the condition.
        width: Width of the residual stream.
        blocks: How many blocks.
        time_dim: How many features time has.
    """

    frequencies: Float[Array, " time_dim/2"]
    time: MLP
    first: Linear
    blocks: tuple[tuple[LayerNorm, Linear, Linear], ...]
    last: Linear

    def __init__(
        self,
        key: PRNGKeyArray,
        dim: int,
        condition_dim: int,
        *,
        width: int = 256,
        blocks: int = 3,
        time_dim: int = 64,
    ):
        frequency_key, time_key, first_key, last_key, block_key = jr.split(key, 5)
        self.frequencies = 0.2 * jr.normal(frequency_key, (time_dim // 2,))
        features = 2 * time_dim
        self.time = MLP(
            time_key, time_dim, (features,), features, layer_norm=False, initializer=GLOROT
        )
        self.first = Linear(first_key, dim + condition_dim + features, width, initializer=GLOROT)
        self.blocks = tuple(
            (
                LayerNorm(width, FLAX_EPSILON),
                Linear(jr.fold_in(one, 0), width, 4 * width, initializer=LECUN),
                Linear(jr.fold_in(one, 1), 4 * width, width, initializer=LECUN),
            )
            for one in jr.split(block_key, blocks)
        )
        self.last = Linear(last_key, width, dim, initializer=GLOROT)

    def __call__(
        self, x: Float[Array, " dim"], time: Float[Array, ""], condition: Float[Array, " condition"]
    ) -> Float[Array, " dim"]:
        angles = 2 * jnp.pi * time * self.frequencies
        features = self.time(jnp.concatenate((jnp.cos(angles), jnp.sin(angles))))
        h = self.first(jnp.concatenate((x, condition, features)))
        for norm, widen, narrow in self.blocks:
            h = h + narrow(jax.nn.silu(widen(norm(h))))
        return self.last(jax.nn.silu(h))
