"""Confidence by likelihood: it ranks states as a density that is known does."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.stats import norm

from nfrl.agents.parts.chunks import draw_chunks
from nfrl.analysis.confidence import SCALES, measure
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizers
from nfrl.errors import UserError
from nfrl.interfaces.agent import Capabilities, ChunkShape
from nfrl.reports.confidence import confidence
from nfrl.reports.style import png


class Policy(eqx.Module):
    normalizers: Normalizers


class Agent(eqx.Module):
    """Acts in proportion to what it sees, and is the surer the nearer that is to the middle."""

    policy: Policy
    sure: float
    capabilities: Capabilities = Capabilities(likelihood=True, history=2, predicted=4)

    def draw(self, dataset, key, batch_size):
        return draw_chunks(dataset, key, batch_size, ChunkShape(2, 4, 2))

    def act(self, history, goal, key):
        return jnp.tile(history[-1, :1], (4, 1)) + jr.normal(key, (4, 1))

    def log_prob(self, history, goal, chunk):
        return self.sure * norm.logpdf(history).sum() + norm.logpdf(chunk - history[-1, 0]).sum()


@pytest.fixture
def held_out():
    rng = np.random.default_rng(0)
    ends = np.arange(4000) % 100 == 99
    return Dataset.from_arrays(rng.uniform(-1, 1, (4000, 3)), rng.uniform(-1, 1, (4000, 1)), ends)


def agent(sure):
    return Agent(Policy(Normalizers.identity(3, 1)), sure)


def test_who_knows_where_it_has_been_tells_states_apart(held_out):
    found = measure(agent(10.0), held_out, jr.key(0))
    areas = [found.auc[scale] for scale in SCALES]
    assert areas == sorted(areas)
    assert areas[0] < 0.6
    assert areas[-1] > 0.85
    figure = confidence("a", found.familiar, found.unfamiliar, found.auc)
    assert png(figure).startswith(b"\x89PNG")


def test_who_does_not_guesses(held_out):
    found = measure(agent(0.0), held_out, jr.key(0))
    assert all(area == pytest.approx(0.5, abs=0.04) for area in found.auc.values())


@pytest.mark.parametrize(
    "can",
    [Capabilities(history=2, predicted=4), Capabilities(goals=True, likelihood=True)],
    ids=["no likelihood", "no chunks"],
)
def test_without_a_likelihood_of_chunks_there_is_none(can, held_out):
    with pytest.raises(UserError, match="an exact likelihood"):
        measure(dataclasses.replace(agent(1.0), capabilities=can), held_out, jr.key(0))
