"""Q-functions: ensembles, targets and the temporal-difference loss, for all offline RL agents."""

from typing import Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.networks import gelu_network, relu_network
from nfrl.data.samplers import Transitions
from nfrl.networks import MLP

Aggregate = Literal["min", "mean"]
ValueKind = Literal["gelu", "relu"]
Tree = TypeVar("Tree")


class Critic(eqx.Module):
    """An ensemble of Q_i(s, a) = unit * network_i(s, a): OGBench's, with LayerNorm, or IDQL's.

    Adam moves a weight by about its learning rate a step, whatever the loss's scale. Values in the
    hundreds are far away for a network that starts at outputs near one: it spends its steps on
    their size, and learns the differences between states last. In a unit of about
    the values' size the same Q is near.

    Args:
        key: Random key; every member has its own share.
        observation_dim: Width of an observation.
        action_dim: Width of an action.
        hidden: Hidden widths of each member.
        members: How many.
        unit: What an output of one is worth, in rewards.
        kind: Of the networks: "gelu" (with LayerNorm) or "relu".
    """

    members: tuple[MLP, ...]
    unit: float = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        observation_dim: int,
        action_dim: int,
        hidden: tuple[int, ...],
        members: int = 2,
        unit: float = 1.0,
        kind: ValueKind = "gelu",
    ):
        self.unit = unit
        inputs = observation_dim + action_dim
        self.members = tuple(
            value_network(kind, member_key, inputs, hidden) for member_key in jr.split(key, members)
        )

    def __call__(
        self, observation: Float[Array, " observation"], action: Float[Array, " action"]
    ) -> Float[Array, " members"]:
        inputs = jnp.concatenate((observation, action))
        return self.unit * jnp.concatenate([member(inputs) for member in self.members])

    def batch(
        self,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
    ) -> Float[Array, "batch members"]:
        """Return Q_i of every pair of a batch."""
        return jax.vmap(self)(observations, actions)


def value_network(kind: ValueKind, key: PRNGKeyArray, inputs: int, hidden: tuple[int, ...]) -> MLP:
    """Build a network of one value: OGBench's (GELU, LayerNorm) or IDQL's (ReLU)."""
    if kind == "relu":
        return relu_network(key, inputs, hidden, 1)
    return gelu_network(key, inputs, hidden, 1, layer_norm=True)


def least_value(
    critic: Critic, observation: Float[Array, " observation"], action: Float[Array, " action"]
) -> Float[Array, ""]:
    """Return min_i Q_i(s, a) of one pair; the action is clipped to [-1, 1], as in training."""
    return aggregate(critic(observation, jnp.clip(action, -1, 1)), "min")


def aggregate(values: Float[Array, "... members"], how: Aggregate) -> Float[Array, "..."]:
    """Make one value of an ensemble's: its minimum or its mean."""
    return values.min(-1) if how == "min" else values.mean(-1)


def td_target(
    batch: Transitions, next_values: Float[Array, " batch"], discount: float
) -> Float[Array, " batch"]:
    """Return r + discount * mask * V(s'), a constant to the gradient."""
    return jax.lax.stop_gradient(batch.rewards + discount * batch.masks * next_values)


def td_loss(critic: Critic, batch: Transitions, target: Float[Array, " batch"]) -> Array:
    """Return the mean of (Q_i(s, a) - target)^2 over batch and ensemble."""
    values = critic.batch(batch.observations, batch.actions)
    return jnp.square(values - target[:, None]).mean()
