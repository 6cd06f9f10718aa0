"""Speed of training against the size of a batch and the number of seeds, beside its limit."""

import dataclasses
from collections.abc import Iterator

import jax.random as jr

from nfrl.analysis.speed_timing import median_seconds
from nfrl.analysis.speed_training import compiled_side, product_shapes, product_side, synthetic
from nfrl.interfaces.agent import AgentConfig
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class ScalingSpeed:
    """What :func:`scaling_speed` measured at one batch size and number of seeds."""

    batch_size: int
    seeds: int
    updates_per_second: float
    """Of all seeds together."""
    products_per_second: float
    """How often the bare matrix products of an update can be made: the limit of such updates."""
    gflop: float
    """Arithmetic of an update's products: of each weight one forward and two backward."""

    @property
    def share(self) -> float:
        """How much of the limit training reaches, in [0, 1]."""
        return self.updates_per_second / self.products_per_second


def scaling_speed(
    config: AgentConfig,
    *,
    observation_dim: int,
    action_dim: int,
    batch_sizes: tuple[int, ...],
    seeds: tuple[int, ...],
    steps: int = 20,
    rounds: int = 3,
) -> Iterator[ScalingSpeed]:
    """Measure training at each batch size and number of seeds.

    Args:
        config: An agent whose policy is passed through once an update.
        observation_dim: Width of an observation.
        action_dim: Width of an action.
        batch_sizes: Transitions an update.
        seeds: Agents that train at once: side by side on an accelerator, in turn on a CPU.
        steps: Updates of each seed in a compiled call.
        rounds: How often each is timed, training and its products in turn; the medians count.
    """
    data = synthetic(observation_dim, action_dim)
    agent = config.build(jr.key(0), Spec.vectors(observation_dim, action_dim), 1_000_000, data)
    shapes = product_shapes(agent.policy)
    for count in seeds:
        for batch_size in batch_sizes:
            seconds = median_seconds(
                {
                    "training": compiled_side(agent, data, batch_size, steps, count),
                    "products": product_side(shapes, batch_size, steps, count),
                },
                rounds,
            )
            updates = steps * count
            yield ScalingSpeed(
                batch_size=batch_size,
                seeds=count,
                updates_per_second=updates / seconds["training"],
                products_per_second=updates / seconds["products"],
                gflop=3 * 2 * batch_size * sum(a * b for a, b in shapes) / 1e9,
            )
