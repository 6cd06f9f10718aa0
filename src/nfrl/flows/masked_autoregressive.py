"""flowjax's masked autoregressive flow (Papamakarios et al., 2017), as a configuration."""

import dataclasses

from flowjax.distributions import StandardNormal, Transformed
from flowjax.flows import masked_autoregressive_flow
from jaxtyping import PRNGKeyArray

from nfrl.flows.config import FlowConfig, check_sizes
from nfrl.flows.float32 import Float32Chain


@dataclasses.dataclass(frozen=True)
class MaskedAutoregressiveConfig(FlowConfig):
    """The sizes of a masked autoregressive flow: each coordinate moves as those before it say.

    The density is one parallel pass. A sample takes one pass for each coordinate.
    """

    blocks: int = 6
    """Blocks; the coordinates are permuted between them."""
    channels: int = 256
    """Hidden width of each block's masked network."""
    layers: int = 2
    """Hidden layers of each block's masked network."""

    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> Transformed:
        check_sizes(dim=dim, blocks=self.blocks, channels=self.channels, layers=self.layers)
        flow = masked_autoregressive_flow(
            key,
            base_dist=StandardNormal((dim,)),
            cond_dim=cond_dim,
            flow_layers=self.blocks,
            nn_width=self.channels,
            nn_depth=self.layers,
        )
        return Transformed(flow.base_dist, Float32Chain([flow.bijection]))
