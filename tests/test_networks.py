"""Networks: each paper's own order of layers and its own initial weights."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents import CRLConfig, FQLConfig, GCBCConfig, IDQLConfig, NFGCBCConfig, NFUGSConfig
from nfrl.agents.parts.networks import exploring_network, gelu_network, relu_network
from nfrl.networks import MLP, LayerNorm
from nfrl.spec import Spec

INPUTS, HIDDEN, OUTPUTS = 30, (40, 50), 20
WIDTHS = [(30, 40), (40, 50), (50, 20)]


def normalised(x, epsilon):
    return (x - x.mean()) / np.sqrt(x.var() + epsilon)


def by_hand(network, x, *steps):
    """Apply dense layers, and after each but the last the steps in their order."""
    for layer in network.layers[:-1]:
        x = x @ np.asarray(layer.weight) + np.asarray(layer.bias)
        for step in steps:
            x = np.asarray(step(x))
    return x @ np.asarray(network.layers[-1].weight) + np.asarray(network.layers[-1].bias)


def limits(network):
    """Return the largest initial weight of each layer, and the largest bias of all."""
    bias = max(np.abs(layer.bias).max() for layer in network.layers)
    return [np.abs(layer.weight).max() for layer in network.layers], bias


@pytest.mark.parametrize("small", [False, True])
def test_ogbenchs_networks_normalise_after_the_activation_and_begin_as_glorot_says(small):
    network = gelu_network(jr.key(0), INPUTS, HIDDEN, OUTPUTS, layer_norm=True, small=small)
    x = np.random.default_rng(0).normal(size=INPUTS).astype(np.float32)
    expected = by_hand(network, x, jax.nn.gelu, lambda h: normalised(h, 1e-6))
    np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-5)
    found, bias = limits(network)
    glorot = [np.sqrt(6 / (before + after)) for before, after in WIDTHS]
    if small:
        glorot[-1] *= 0.1  # a hundredth of the variance
    np.testing.assert_allclose(found, glorot, rtol=0.02)
    assert bias == 0


def test_exploring_networks_normalise_first_and_begin_within_the_root_of_their_inputs():
    network = exploring_network(jr.key(1), INPUTS, HIDDEN, OUTPUTS)
    x = np.random.default_rng(1).normal(size=INPUTS).astype(np.float32)
    expected = by_hand(network, x, lambda h: normalised(h, 1e-6), jax.nn.silu)
    np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-5)
    found, bias = limits(network)
    np.testing.assert_allclose(found, [before**-0.5 for before, _ in WIDTHS], rtol=0.02)
    assert bias == 0


def test_pytorchs_networks_begin_with_a_bias():
    network = MLP(jr.key(2), INPUTS, HIDDEN, OUTPUTS)
    found, bias = limits(network)
    np.testing.assert_allclose(found, [before**-0.5 for before, _ in WIDTHS], rtol=0.02)
    assert 0.8 * 30**-0.5 < bias <= 30**-0.5
    assert network.norms is not None
    assert network.norm_first
    assert {norm.epsilon for norm in network.norms} == {1e-5}


def test_idqls_values_are_relu_networks_without_normalisation():
    network = relu_network(jr.key(3), INPUTS, HIDDEN, 1)
    x = np.random.default_rng(3).normal(size=INPUTS).astype(np.float32)
    expected = by_hand(network, x, jax.nn.relu)
    np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-5)
    agent = IDQLConfig(width=8, critic=(8,)).build(jr.key(0), Spec.vectors(4, 2), 10)
    values = (agent.critics.value, *agent.critics.critic.members)
    assert all(v.norms is None and v.activation is jax.nn.relu for v in values)


def built(config):
    return config.build(jr.key(0), Spec.vectors(4, 2), 10)


def test_each_agent_has_its_own_papers_networks():
    fql = built(FQLConfig(hidden=(8,), critic=(8,)))
    for member in fql.critic.members:
        assert member.norms is not None
        assert not member.norm_first
    for network in (fql.policy, fql.flow.network, built(GCBCConfig(hidden=(8,))).policy):
        assert network.norms is None
        assert network.activation is jax.nn.gelu
        assert all(not layer.bias.any() for layer in network.layers)
    small = built(GCBCConfig(hidden=(64,))).policy.layers[-1].weight
    assert jnp.abs(small).max() < 0.05, "a Gaussian actor begins near 0"
    crl = built(CRLConfig(encoder=(8,), actor_hidden=(8,)))
    ugs = built(NFUGSConfig(encoder=(8,), actor_hidden=(8,)))
    for network in (crl.critic.phi, crl.policy.network, ugs.critic.encoder, ugs.policy.network):
        assert network.norm_first
        assert all(not layer.bias.any() for layer in network.layers)
    flow = built(NFGCBCConfig(encoder=(8,))).policy.encoder
    assert all(layer.bias.all() for layer in flow.layers), "the paper's code is PyTorch's"


def plain_norm(x, epsilon=1e-5):
    centred = x - x.mean()
    return centred / jnp.sqrt(jnp.square(centred).mean() + epsilon)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_a_normalised_layer_has_the_derivatives_of_its_formula(size):
    """In both directions and twice over: scores of flows are differentiated again."""
    x, weights = size * jr.normal(jr.key(0), (6,)), jnp.arange(6.0)
    norm = LayerNorm(6)
    for derivative in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(
            derivative(norm)(x), derivative(plain_norm)(x), rtol=1e-4, atol=1e-4 / size
        )
    ours, theirs = (
        jax.hessian(lambda x, norm=norm: jnp.sin(norm(x)) @ weights)(x)
        for norm in (norm, plain_norm)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 / size**2)
