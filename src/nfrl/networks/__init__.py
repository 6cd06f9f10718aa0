"""Networks that flows and agents are built of. Each works on one example; batching is ``vmap``."""

from nfrl.networks.attention import Attention, TransformerLayer, by_row
from nfrl.networks.layers import (
    MLP,
    LayerNorm,
    Linear,
    count_parameters,
    split_trainable,
)

__all__ = [
    "MLP",
    "Attention",
    "LayerNorm",
    "Linear",
    "TransformerLayer",
    "by_row",
    "count_parameters",
    "split_trainable",
]
