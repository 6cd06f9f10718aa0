"""Densities whose log-densities and modes are said to be known: held against their samples."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.analysis import multimodality
from nfrl.data import synthetic
from nfrl.interfaces.agent import Capabilities

DENSITIES = {
    "circle": synthetic.circle_of_gaussians(),
    "ring": synthetic.Ring(),
    "2-d": synthetic.gaussians(2),
    "16-d": synthetic.gaussians(16),
    "left or right": synthetic.left_or_right(),
}
PLANE = ["circle", "ring", "2-d"]


@pytest.mark.parametrize("name", PLANE)
def test_the_density_integrates_to_one(name):
    side = jnp.linspace(-1.5, 1.5, 601)
    grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 1, 2)
    for condition in (-0.8, 0.3):
        log_prob = jax.vmap(lambda x, y=condition: DENSITIES[name].log_prob(x, jnp.float32(y)))
        total = jnp.exp(log_prob(grid)).sum() * (side[1] - side[0]) ** 2
        np.testing.assert_allclose(total, 1, rtol=2e-3)


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_fall_into_the_modes_equally(name):
    density, condition = DENSITIES[name], jnp.float32(0.4)
    samples = jax.vmap(lambda key: density.sample(key, condition))(jr.split(jr.key(0), 8000))
    assert samples.shape[1:] == density.shape
    shares = synthetic.mode_shares(density, samples, condition)
    assert len(shares) == density.modes + 1
    assert shares[-1] < 0.02
    np.testing.assert_allclose(shares[:-1], 1 / density.modes, atol=0.02)
    # Of another condition's samples, or none at all, few lie there.
    elsewhere = synthetic.mode_shares(density, 0 * samples, condition)
    assert elsewhere[-1] == 1


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_have_the_densitys_entropy(name):
    """-E log p of well separated modes: log K and a bell curve's own; of a ring, likewise."""
    density, condition = DENSITIES[name], jnp.float32(-0.3)
    samples = jax.vmap(lambda key: density.sample(key, condition))(jr.split(jr.key(1), 20_000))
    found = -jax.vmap(lambda x: density.log_prob(x, condition))(samples).mean()
    one = np.log(2 * np.pi * np.e * density.sigma**2) / 2
    if name == "ring":
        expected = one + np.log(2 * np.pi * density.radius)
    else:
        expected = np.prod(density.shape) * one + np.log(density.modes)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_what_knows_a_density_finds_all_of_it(monkeypatch):
    """A model that is the density has its likelihood, all modes and no sample outside."""
    density = synthetic.gaussians(2)

    class Truth(eqx.Module):
        policy: None = None

        capabilities = Capabilities(likelihood=True, history=1, predicted=1)

        def update(self, batch, key):
            return self, {}

        def log_prob(self, history, goal, chunk):
            return density.log_prob(chunk, history[0, 0])

        def act(self, history, goal, key):
            return density.sample(key, history[0, 0])

    monkeypatch.setattr(multimodality, "build", lambda *_: Truth())
    score, samples = multimodality.compare("nf-bc", density, steps=1)
    assert score.log_prob == pytest.approx(score.true_log_prob, abs=1e-5)
    assert score.coverage == 1
    assert score.inside > 0.99
    assert samples.shape == (500, 1, 2)


def test_batches_are_histories_and_chunks():
    batch = synthetic.sample_batch(DENSITIES["left or right"], jr.key(0), 500)
    assert batch.observations.shape == (500, 1, 1)
    assert batch.actions.shape == (500, 8, 2)
    # How far aside a path goes at its middle is what its condition asks.
    aside = np.abs(batch.actions[:, 3:5, 1]).mean(1)
    asked = (0.5 + batch.observations[:, 0, 0] / 4) * np.sin(np.pi * 3 / 7)
    np.testing.assert_allclose(aside, asked, atol=0.15)
    assert 0.4 < (batch.actions[:, 3, 1] > 0).mean() < 0.6


def test_corners_are_all_different():
    means = synthetic.gaussians(16, modes=16).means(jnp.float32(0))
    assert len(np.unique(np.asarray(means).reshape(16, -1), axis=0)) == 16
    assert synthetic.gaussians(2).modes == 4
