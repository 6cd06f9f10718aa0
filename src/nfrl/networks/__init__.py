"""Networks that flows and agents are built of. Each works on one example; batching is ``vmap``."""

from nfrl.networks.layers import (
    MLP,
    LayerNorm,
    Linear,
    count_parameters,
    split_trainable,
)

__all__ = ["MLP", "LayerNorm", "Linear", "count_parameters", "split_trainable"]
