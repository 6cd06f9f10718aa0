"""Training from a seed gives the weights that it gave before the house was rebuilt.

The numbers in ``same_weights.json`` are of version 0.1 (commit eec403e), whose runs of 3000 updates
ended with the same bits. Bits differ from processor to processor, so here they are compared to
five digits, after a few updates: another order of random keys, another initial weight or another
loss would be seen.
"""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents import FQLConfig, NFBCConfig, NFGCBCConfig, NFRLBCConfig, NFUGSConfig
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalBatch
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape
from nfrl.networks import split_trainable
from nfrl.spec import Spec

FLOW = RealNVPConfig(blocks=2, channels=16)
SIZES = {"flow": FLOW, "encoder": (16,), "condition_dim": 8}
CONFIGS = {
    "nf-gcbc": NFGCBCConfig(**SIZES),
    "nf-rlbc-chunks": NFRLBCConfig(**SIZES, critic=(16,), chunk=3, candidates=2, standardize=True),
    "fql": FQLConfig(hidden=(16,), critic=(16,), euler_steps=2),
    "nf-bc": NFBCConfig(**SIZES, chunks=ChunkShape(2, 4, 2)),
    "nf-ugs": NFUGSConfig(**SIZES, actor_hidden=(16,)),
}
RECORDED = json.loads(Path(__file__).with_name("same_weights.json").read_text())


def data():
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        rng.normal(size=(400, 6)),
        rng.uniform(-1, 1, size=(400, 3)),
        np.arange(400) % 50 == 49,
        rewards=rng.choice([-1.0, 0.0], size=400),
        masks=np.ones(400),
    )


def goals(key):
    keys = jr.split(key, 3)
    shapes = ((32, 6), (32, 3), (32, 2))
    return GoalBatch(*(jr.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_few_updates_give_the_weights_of_before(name):
    dataset, key = data(), jr.key(0)
    agent = CONFIGS[name].build(key, Spec.vectors(6, 3), 100, dataset)
    update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))
    losses = []
    for step in range(4):
        batch_key, update_key = jr.split(jr.fold_in(key, step))
        explores = CONFIGS[name].capabilities.explores
        batch = goals(batch_key) if explores else agent.draw(dataset, batch_key, 32)
        agent, metrics = update(agent, batch, update_key)
        losses.append(float(metrics["loss"]))
    weights = jax.tree.leaves(split_trainable(agent.policy)[0])
    found = {
        "losses": losses,
        "sum": float(sum(jnp.sum(weight) for weight in weights)),
        "squares": float(sum(jnp.square(weight).sum() for weight in weights)),
        "count": sum(weight.size for weight in weights),
    }
    for measure, value in RECORDED[name].items():
        assert found[measure] == pytest.approx(value, rel=1e-4), measure
