"""A Gaussian policy of unit variance: its log-density is the squared error of its mean.

It imitates the better actions more, or maximises Q beside what it imitates:

    AWR       max E_D min(exp(alpha A(s, a)), 100) log N(a; mu(s), I)     (Peng et al., 2019)
    DDPG+BC   max E_D [ Q(s, mu(s)) / mean |Q| + alpha log N(a; mu(s), I) ] (Fujimoto and Gu, 2021)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import gelu_network
from nfrl.networks import MLP

WEIGHT_LIMIT = 100.0
"""The largest weight of an action (IQL's code, and OGBench's)."""


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


def awr_loss(
    mean: MLP,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
    advantages: Float[Array, " batch"],
    alpha: float,
) -> tuple[Array, dict[str, Array]]:
    """Return the loss of imitation that advantages weigh, and the mean log-density, in nats.

    Args:
        mean: The network of the mean.
        observations: Its inputs.
        actions: What is imitated.
        advantages: A of each pair; a constant to the gradient.
        alpha: Inverse temperature of the weights.
    """
    weights = jnp.minimum(jnp.exp(alpha * jax.lax.stop_gradient(advantages)), WEIGHT_LIMIT)
    log_prob = unit_log_prob(mean, observations, actions)
    return -(weights * log_prob).mean(), {"log_prob": log_prob.mean()}


def ddpg_bc_loss(
    mean: MLP,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
    q: Callable[[Float[Array, "batch action"]], Float[Array, " batch"]],
    alpha: float,
) -> tuple[Array, dict[str, Array]]:
    """Return the loss of an actor that maximises Q and imitates; its Q and its log-density, too.

    Q is in units of its mean size, so that alpha does not depend on the scale of rewards.

    Args:
        mean: The network of the mean; it is clipped to [-1, 1] before Q sees it.
        observations: Its inputs.
        actions: What is imitated.
        q: Of a batch of actions.
        alpha: Weight of imitation.
    """
    means = jax.vmap(mean)(observations)
    values = q(jnp.clip(means, -1, 1))
    size = jax.lax.stop_gradient(jnp.abs(values).mean() + 1e-6)
    log_prob = jax.scipy.stats.norm.logpdf(actions - means).sum(-1).mean()
    return -values.mean() / size - alpha * log_prob, {"q": values.mean(), "log_prob": log_prob}
