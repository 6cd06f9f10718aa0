"""Our flow beside flowjax's own coupling flow with as much arithmetic, in the same agent."""

import bisect
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from flowjax.bijections import Affine
from flowjax.distributions import AbstractDistribution, Normal
from flowjax.flows import coupling_flow
from jaxtyping import PRNGKeyArray

from nfrl.analysis.speed_timing import median_seconds
from nfrl.analysis.speed_training import compiled_side, product_shapes, product_side, synthetic
from nfrl.flows import FlowConfig
from nfrl.interfaces.agent import AgentConfig
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class FlowjaxCouplingConfig(FlowConfig):
    """flowjax's ``coupling_flow``: affine couplings of one network each, without LayerNorm."""

    blocks: int = 6
    """Couplings, a permutation after each."""
    width: int = 256
    """Width of the two hidden layers of a coupling's network."""

    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> AbstractDistribution:
        return coupling_flow(
            key,
            base_dist=Normal(jnp.zeros(dim)),
            transformer=Affine(),
            cond_dim=cond_dim,
            flow_layers=self.blocks,
            nn_width=self.width,
            nn_depth=2,
        )


@dataclasses.dataclass(frozen=True)
class BesideSpeed:
    """What :func:`beside_flowjax` measured of one flow: medians over its rounds."""

    megaflop: float
    """Arithmetic of its products for one transition, forward and backward."""
    steps_per_second: float
    """Updates in a compiled call of many."""
    products_per_second: float
    """How often the bare matrix products of an update can be made."""


def beside_flowjax(
    config: AgentConfig,
    *,
    observation_dim: int,
    action_dim: int,
    batch_size: int = 256,
    steps: int = 20,
    rounds: int = 5,
) -> dict[str, BesideSpeed]:
    """Train an agent with its flow and with flowjax's, in turn.

    flowjax's is the narrowest whose products are no fewer than ours.

    Args:
        config: An agent with a field ``flow`` of blocks, which imitates with goals.
        observation_dim: Width of an observation.
        action_dim: Width of an action.
        batch_size: Transitions a step.
        steps: Updates in a compiled call.
        rounds: How often each side is timed.
    """
    data, spec = synthetic(observation_dim, action_dim), Spec.vectors(observation_dim, action_dim)
    flow: Any = config.flow  # type: ignore[attr-defined]

    def shapes(flow: FlowConfig) -> list[tuple[int, int]]:
        built = eqx.filter_eval_shape(
            lambda: dataclasses.replace(config, flow=flow).build(jr.key(0), spec, 1000, data)  # type: ignore[type-var]
        )
        stacked = [x for x in jax.tree.leaves(built.policy.flow) if getattr(x, "ndim", 0) == 3]
        if not stacked:
            return product_shapes(built.policy)
        # flowjax stacks its couplings: weights have three axes, and biases two.
        weights = [each.shape[1:] for each in stacked for _ in range(len(each))]
        return product_shapes(built.policy.encoder) + weights

    def products(flow: FlowConfig) -> int:
        return sum(inputs * outputs for inputs, outputs in shapes(flow))

    theirs = [FlowjaxCouplingConfig(flow.blocks, width) for width in range(1, 2049)]
    like = theirs[bisect.bisect_left(theirs, products(flow), key=products)]
    sides, arithmetic = {}, {}
    for name, each in (("nfrl", flow), ("flowjax", like)):
        agent = dataclasses.replace(config, flow=each).build(jr.key(0), spec, 1_000_000, data)  # type: ignore[type-var]
        sides[name] = compiled_side(agent, data, batch_size, steps)
        sides[f"{name} products"] = product_side(shapes(each), batch_size, steps)
        arithmetic[name] = 3 * 2 * products(each) / 1e6
    seconds = median_seconds(sides, rounds)
    return {
        name: BesideSpeed(megaflop, steps / seconds[name], steps / seconds[f"{name} products"])
        for name, megaflop in arithmetic.items()
    }
