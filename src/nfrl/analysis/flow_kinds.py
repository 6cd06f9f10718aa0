"""The kinds of flows side by side, with about as many parameters: likelihood, modes, and speed.

On made-up densities that are known exactly (:mod:`nfrl.analysis.multimodality`), inside nf-bc.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.random as jr

from nfrl.analysis.multimodality import DENSITIES, Model, build, flow_agent, trainer
from nfrl.analysis.speed_timing import median_seconds
from nfrl.analysis.speed_training import sampling_milliseconds
from nfrl.flows import (
    AutoregressiveConfig,
    FlowConfig,
    MaskedAutoregressiveConfig,
    NeuralSplineConfig,
    RealNVPConfig,
    TransformerCouplingConfig,
)
from nfrl.networks import count_parameters

TIMED = "left-or-right"
"""The density on whose chunks, of eight actions of two numbers, the time is taken."""


def _model(flow: Callable[[int], FlowConfig]) -> Model:
    return lambda chunks, width: flow_agent(flow(width), chunks)


KINDS: dict[str, Model] = {
    "real-nvp": _model(lambda width: RealNVPConfig(6, width)),
    "masked-autoregressive": _model(lambda width: MaskedAutoregressiveConfig(6, width, 1)),
    "neural-spline": _model(lambda width: NeuralSplineConfig(6, width, 1)),
    "transformer-coupling": _model(lambda width: TransformerCouplingConfig(4, width, 1)),
    "autoregressive": _model(lambda width: AutoregressiveConfig(4, width, 1)),
}
"""nf-bc with each flow, of a width that is to be chosen."""


@dataclasses.dataclass(frozen=True)
class FlowSpeed:
    """How fast a flow is within nf-bc."""

    parameters: int
    steps_per_second: float
    """Updates of 256 chunks."""
    milliseconds_1: float
    """One chunk sampled."""
    milliseconds_50: float
    """50 chunks sampled in one call."""


def flow_speeds(
    names: tuple[str, ...], *, steps: int = 10, rounds: int = 5
) -> dict[str, FlowSpeed]:
    """Time training and sampling, the flows in turn.

    Args:
        names: Some of ``KINDS``.
        steps: Updates in a compiled call.
        rounds: How often each flow's are timed; the medians count.
    """
    density = DENSITIES[TIMED]
    agents = {name: build(KINDS[name], density, jr.key(0), 1_000_000) for name in names}

    def side(name: str) -> Callable[[], None]:
        train = trainer(agents[name], density, steps)

        def run() -> None:
            trained = train(agents[name], jr.key(0))
            jax.block_until_ready(eqx.filter(trained.policy, eqx.is_array))

        return run

    seconds = median_seconds({name: side(name) for name in names}, rounds)
    return {
        name: FlowSpeed(
            parameters=count_parameters(agent.policy),
            steps_per_second=steps / seconds[name],
            milliseconds_1=sampling_milliseconds(agent, 1, 1),
            milliseconds_50=sampling_milliseconds(agent, 1, 50),
        )
        for name, agent in agents.items()
    }
