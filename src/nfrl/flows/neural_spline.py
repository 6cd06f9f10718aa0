"""flowjax's couplings with rational-quadratic splines (Durkan et al., 2019), as a configuration."""

import dataclasses

from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import StandardNormal, Transformed
from flowjax.flows import coupling_flow
from jaxtyping import PRNGKeyArray

from nfrl.flows.config import FlowConfig, check_sizes
from nfrl.flows.float32 import Float32Chain


@dataclasses.dataclass(frozen=True)
class NeuralSplineConfig(FlowConfig):
    """The sizes of a neural spline flow: couplings that bend each coordinate monotonically."""

    blocks: int = 6
    """Couplings; the coordinates are permuted between them."""
    channels: int = 256
    """Hidden width of each coupling's network."""
    layers: int = 2
    """Hidden layers of each coupling's network."""
    knots: int = 8
    """Knots of each spline."""
    interval: float = 4.0
    """Splines bend within [-interval, interval], and are the identity outside. Data in [-1, 1] with
    noise stay well inside."""

    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> Transformed:
        check_sizes(
            dim=dim,
            blocks=self.blocks,
            channels=self.channels,
            layers=self.layers,
            knots=self.knots,
        )
        flow = coupling_flow(
            key,
            base_dist=StandardNormal((dim,)),
            transformer=RationalQuadraticSpline(knots=self.knots, interval=self.interval),
            cond_dim=cond_dim,
            flow_layers=self.blocks,
            nn_width=self.channels,
            nn_depth=self.layers,
        )
        return Transformed(flow.base_dist, Float32Chain([flow.bijection]))
