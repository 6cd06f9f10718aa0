"""A Gaussian policy of unit variance: its log-density is the squared error of its mean."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import gelu_network
from nfrl.networks import MLP


def mean_network(
    key: PRNGKeyArray, inputs: int, hidden: tuple[int, ...], action_dim: int, *, layer_norm: bool
) -> MLP:
    """Build the network of the mean action."""
    return gelu_network(key, inputs, hidden, action_dim, layer_norm=layer_norm, small=True)


def unit_log_prob(
    mean: MLP,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
) -> Float[Array, " batch"]:
    """Return log N(a; mean(s), I) of every pair of a batch, in nats."""
    return jax.scipy.stats.norm.logpdf(actions - jax.vmap(mean)(observations)).sum(-1)
