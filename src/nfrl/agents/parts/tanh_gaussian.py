"""A Gaussian squashed into [-1, 1] by tanh: the policy of soft actor-critic."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.networks import MLP

LOG_STD_RANGE = (-5.0, 2.0)
INITIAL_SCALE = 0.01


class TanhGaussian(eqx.Module):
    """a = tanh(u), u ~ N(mu(inputs), diag(sigma(inputs))^2) (Haarnoja et al., 2018, appendix C).

    Args:
        key: Random key.
        inputs: Width of what the action depends on.
        hidden: Widths of the hidden layers.
        action_dim: Width of the action.
        layer_norm: LayerNorm in the network.
    """

    mlp: MLP

    def __init__(
        self,
        key: PRNGKeyArray,
        inputs: int,
        hidden: Sequence[int],
        action_dim: int,
        *,
        layer_norm: bool = False,
    ):
        mlp = MLP(
            key, inputs, hidden, 2 * action_dim, activation=jax.nn.relu, layer_norm=layer_norm
        )
        # Close to N(0, 1) before tanh, whatever the input: the first actions try everything.
        self.mlp = eqx.tree_at(
            lambda m: (m.layers[-1].weight, m.layers[-1].bias),
            mlp,
            replace_fn=lambda array: INITIAL_SCALE * array,
        )

    @property
    def action_dim(self) -> int:
        """Width of the action."""
        return self.mlp.layers[-1].bias.size // 2

    def __call__(
        self, inputs: Float[Array, " inputs"]
    ) -> tuple[Float[Array, " action"], Float[Array, " action"]]:
        """Return the mean and the logarithm of the standard deviation, before tanh."""
        mean, log_std = jnp.split(self.mlp(inputs), 2)
        return mean, jnp.clip(log_std, *LOG_STD_RANGE)

    def sample_and_log_prob(
        self, inputs: Float[Array, " inputs"], key: PRNGKeyArray
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """Return an action in [-1, 1], a differentiable function of the networks, and its density.

        log p(a) = log N(u; mu, sigma) - sum log(1 - tanh(u)^2), in nats.
        """
        mean, log_std = self(inputs)
        noise = jr.normal(key, mean.shape)
        u = mean + jnp.exp(log_std) * noise
        log_prob = (jax.scipy.stats.norm.logpdf(noise) - log_std - log_tanh_slope(u)).sum()
        return jnp.tanh(u), log_prob

    def mode(self, inputs: Float[Array, " inputs"]) -> Float[Array, " action"]:
        """Return tanh of the mean: the action without noise."""
        return jnp.tanh(self(inputs)[0])


def log_tanh_slope(u: Array) -> Array:
    """Return log(1 - tanh(u)^2), finite where tanh(u) is 1 in floating point."""
    return 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
