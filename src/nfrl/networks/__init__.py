"""Networks that flows and agents are built of. Each works on one example; batching is ``vmap``."""

from nfrl.networks.attention import Attention, TransformerLayer, by_row
from nfrl.networks.layers import (
    FLAX_EPSILON,
    MLP,
    Initializer,
    LayerNorm,
    Linear,
    count_parameters,
    split_trainable,
)

__all__ = [
    "FLAX_EPSILON",
    "MLP",
    "Attention",
    "Initializer",
    "LayerNorm",
    "Linear",
    "TransformerLayer",
    "by_row",
    "count_parameters",
    "split_trainable",
]
