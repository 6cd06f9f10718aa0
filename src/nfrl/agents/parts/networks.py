"""The networks of the papers' own code: each has its initial weights and its order of layers.

| agents | network | initial weights |
| --- | --- | --- |
| offline RL but IDQL, GCBC | Dense, GELU, LayerNorm (Park et al., 2025) | Glorot, uniform |
| IDQL's values | Dense, ReLU (Hansen-Estruch et al., 2023) | Glorot, uniform |
| NF-UGS, CRL | Dense, LayerNorm, SiLU (Bortkiewicz et al., 2025) | uniform in +-fan_in^(-1/2) |

All begin with a bias of 0, and LayerNorm adds 1e-6 to the variance. What was written in PyTorch
(NF-GCBC, NF-BC, Diffusion Policy) is :class:`nfrl.networks.MLP` as it is. So are NF-RLBC's encoder
and every flow.
"""

from collections.abc import Sequence

import jax
from jaxtyping import PRNGKeyArray

from nfrl.networks import FLAX_EPSILON, MLP

GLOROT = jax.nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
ACTOR_SCALE = 0.01
"""Of the variance of a Gaussian actor's last layer, in units of the other layers'."""
SMALL_GLOROT = jax.nn.initializers.variance_scaling(ACTOR_SCALE, "fan_avg", "uniform")
FAN_IN = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
LECUN = jax.nn.initializers.lecun_normal()


def gelu_network(
    key: PRNGKeyArray,
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    layer_norm: bool,
    small: bool = False,
) -> MLP:
    """Build [Dense -> GELU -> (LayerNorm)] x len(hidden) -> Dense, as OGBench's agents are.

    Args:
        key: Random key.
        inputs: Width of the input.
        hidden: Widths of the hidden layers.
        outputs: Width of the output.
        layer_norm: Whether each hidden layer is normalised.
        small: Whether outputs begin near 0, as a Gaussian actor's do.
    """
    return MLP(
        key,
        inputs,
        hidden,
        outputs,
        activation=jax.nn.gelu,
        layer_norm=layer_norm,
        norm_first=False,
        epsilon=FLAX_EPSILON,
        initializer=GLOROT,
        last_initializer=SMALL_GLOROT if small else None,
    )


def relu_network(key: PRNGKeyArray, inputs: int, hidden: Sequence[int], outputs: int) -> MLP:
    """Build [Dense -> ReLU] x len(hidden) -> Dense, as IDQL's values are."""
    return MLP(
        key,
        inputs,
        hidden,
        outputs,
        activation=jax.nn.relu,
        layer_norm=False,
        initializer=GLOROT,
    )


def exploring_network(key: PRNGKeyArray, inputs: int, hidden: Sequence[int], outputs: int) -> MLP:
    """Build [Dense -> LayerNorm -> SiLU] x len(hidden) -> Dense, as JaxGCRL's are."""
    return MLP(key, inputs, hidden, outputs, epsilon=FLAX_EPSILON, initializer=FAN_IN)
