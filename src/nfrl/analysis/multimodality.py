"""How many of a density's modes imitating agents find, and how likely they hold what is new.

On made-up densities (:mod:`nfrl.data.synthetic`), where both are known exactly: every agent sees
the same fresh samples, for the same steps, with about as many parameters.
"""

import bisect
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from nfrl.agents import DiffusionBCConfig, FMBCConfig, GaussianBCConfig, NFBCConfig
from nfrl.agents.parts.chunks import ChunkImitator
from nfrl.agents.parts.optimization import AdamW
from nfrl.data import synthetic
from nfrl.data.normalizer import Normalizers
from nfrl.data.synthetic import Density
from nfrl.flows import FlowConfig, RealNVPConfig
from nfrl.interfaces.agent import ChunkShape
from nfrl.networks import count_parameters

DENSITIES: dict[str, Density] = {
    "circle": synthetic.circle_of_gaussians(),
    "ring": synthetic.Ring(),
    "left-or-right": synthetic.left_or_right(),
    "2-d": synthetic.gaussians(2),
    "4-d": synthetic.gaussians(4),
    "16-d": synthetic.gaussians(16),
}
"""Eight bell curves on a circle; a ring; paths around an obstacle, 8 steps long; bell curves at
corners of a cube, up to eight."""

_OPTIMIZER = AdamW(learning_rate=1e-3)
_PARAMETERS = 100_000
BATCH = 256


def flow_agent(flow: FlowConfig, chunks: ChunkShape) -> NFBCConfig:
    """Return an agent of a flow, whose density is of the data and not of noisy ones."""
    return NFBCConfig(
        flow=flow,
        encoder=(64, 64),
        condition_dim=32,
        chunks=chunks,
        noise=0.0,
        denoising=False,
        optimizer=_OPTIMIZER,
    )


def _flow(chunks: ChunkShape, width: int) -> ChunkImitator:
    return flow_agent(RealNVPConfig(6, width), chunks)


def _gaussian(chunks: ChunkShape, width: int) -> ChunkImitator:
    return GaussianBCConfig(chunks, (width,) * 3, sampling=True, optimizer=_OPTIMIZER)


def _diffusion(chunks: ChunkShape, width: int) -> ChunkImitator:
    return DiffusionBCConfig(chunks, "mlp", (width, width), time_dim=64, optimizer=_OPTIMIZER)


def _flow_matching(chunks: ChunkShape, width: int) -> ChunkImitator:
    return FMBCConfig(chunks, "mlp", (width, width), optimizer=_OPTIMIZER)


Model = Callable[[ChunkShape, int], ChunkImitator]
"""An agent, for the shape of its chunks and a width that decides how many parameters it has."""

MODELS: dict[str, Model] = {
    "nf-bc": _flow,
    "gaussian-bc": _gaussian,
    "diffusion-bc": _diffusion,
    "fm-bc": _flow_matching,
}


@dataclasses.dataclass(frozen=True)
class ModeScore:
    """How close a trained agent came to a density."""

    parameters: int
    log_prob: float | None
    """Mean log-density of held-out samples, in nats; None for agents that have none."""
    true_log_prob: float
    """The same of the density itself, which no model exceeds but by chance."""
    coverage: float
    """Share of the modes that have at least half the samples due to them, in [0, 1]."""
    inside: float
    """Share of the samples that lie in some mode, in [0, 1]; of the density's own, 0.99 or more."""


def compare(
    name: str,
    density: Density,
    *,
    steps: int,
    seed: int = 0,
    batch_size: int = BATCH,
    models: Mapping[str, Model] = MODELS,
) -> tuple[ModeScore, Float[np.ndarray, "samples chunk action"]]:
    """Train an agent on samples of a density and hold it against it.

    Args:
        name: One of the models.
        density: One of ``DENSITIES``, or any other.
        steps: Gradient steps.
        seed: Of the weights, the samples and the agent's own.
        batch_size: Fresh samples a step.
        models: What there is.

    Returns:
        The score, and 500 of the agent's samples at condition 0.4, for a picture.
    """
    init_key, train_key, test_key, act_key = jr.split(jr.key(seed), 4)
    agent = build(models[name], density, init_key, steps)
    draw = partial(synthetic.sample_batch, density)
    agent = trainer(agent, density, steps, batch_size)(agent, train_key)
    held_out = draw(test_key, 10_000)
    log_prob = None
    nowhere = jnp.empty(0)
    if agent.capabilities.likelihood:
        each = jax.vmap(lambda history, chunk: agent.log_prob(history, nowhere, chunk))
        log_prob = float(jax.jit(each)(*held_out).mean())
    true = jax.jit(jax.vmap(density.log_prob))(held_out.actions, held_out.observations[:, 0, 0])

    @jax.jit
    def sample(condition: Array, key: Array) -> tuple[Array, Array]:
        keys = jr.split(key, 1000)
        chunks = jax.vmap(lambda key: agent.act(condition[None, None], nowhere, key))(keys)
        return chunks, synthetic.mode_shares(density, chunks, condition)

    conditions = zip(jnp.linspace(-0.9, 0.9, 16), jr.split(act_key, 16), strict=True)
    shares = np.array([sample(condition, key)[1] for condition, key in conditions])
    score = ModeScore(
        parameters=count_parameters(agent.policy),
        log_prob=log_prob,
        true_log_prob=float(true.mean()),
        coverage=float((shares[:, :-1] >= 0.5 / density.modes).mean()),
        inside=float(1 - shares[:, -1].mean()),
    )
    return score, np.asarray(sample(jnp.float32(0.4), jr.fold_in(act_key, 1))[0][:500])


def trainer(
    agent: Any, density: Density, steps: int, batch_size: int = BATCH
) -> Callable[[Any, Array], Any]:
    """Return a compiled function of an agent and a key: so many updates on fresh samples.

    Args:
        agent: What agents it is given are like.
        density: What is sampled.
        steps: How many updates.
        batch_size: Samples of each.
    """
    static = eqx.filter(agent, eqx.is_array, inverse=True)

    @jax.jit
    def train(dynamic: Any, key: Array) -> Any:
        def step(dynamic: Any, key: Array) -> tuple[Any, None]:
            batch_key, update_key = jr.split(key)
            batch = synthetic.sample_batch(density, batch_key, batch_size)
            agent, _ = eqx.combine(dynamic, static).update(batch, update_key)
            return eqx.filter(agent, eqx.is_array), None

        return jax.lax.scan(step, dynamic, jr.split(key, steps))[0]

    return lambda agent, key: eqx.combine(train(eqx.filter(agent, eqx.is_array), key), static)


def true_samples(density: Density, seed: int = 0) -> Float[np.ndarray, "samples chunk action"]:
    """Draw 500 samples at condition 0.4, for a picture."""
    keys = jr.split(jr.key(seed), 500)
    return np.asarray(jax.vmap(lambda key: density.sample(key, jnp.float32(0.4)))(keys))


def build(model: Model, density: Density, key: Array, steps: int) -> Any:
    """Build an agent whose width makes it about 100,000 parameters large.

    Args:
        model: The agent, of any width.
        density: What it is to learn.
        key: Random key of the initial weights.
        steps: Length of the training.
    """
    length, action_dim = density.shape
    ranges = synthetic.sample_batch(density, jr.key(0), 100_000)
    normalizers = Normalizers.fit(
        np.asarray(ranges.observations[:, 0]), np.asarray(ranges.actions).reshape(-1, action_dim)
    )

    def of_width(width: int) -> Any:
        config = model(ChunkShape(1, length, length), width)
        return config.build_algorithm(key, 1, action_dim, steps, normalizers)

    def parameters(width: int) -> int:
        leaves = jax.tree.leaves(eqx.filter_eval_shape(of_width, width).policy)
        shapes = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
        # Not the masks and permutations, which are no floats.
        return sum(each.size for each in shapes if jnp.issubdtype(each.dtype, jnp.inexact))

    # The wider the larger: looked for by halving, since each look traces all that makes an agent.
    widths = range(16, 512, 8)
    above = bisect.bisect_left(widths, _PARAMETERS, hi=len(widths) - 1, key=parameters)
    nearest = widths[max(0, above - 1) : above + 1]
    return of_width(min(nearest, key=lambda width: abs(parameters(width) - _PARAMETERS)))
