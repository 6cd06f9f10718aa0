"""Soft actor-critic: its density, its replay, its three losses, and what it converges to."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents.parts.tanh_gaussian import LOG_STD_RANGE, TanhGaussian
from nfrl.agents.sac import SAC, SACConfig
from nfrl.data.experience import Experience, add, empty_replay, sample
from nfrl.spec import Spec

TINY = SACConfig(hidden=(16,), critic_hidden=(16,))


def random_batch(key, size=8, observation=3, action=2, masks=None) -> Experience:
    keys = jr.split(key, 5)
    return Experience(
        observations=jr.normal(keys[0], (size, observation)),
        actions=jr.uniform(keys[1], (size, action), minval=-1, maxval=1),
        rewards=jr.normal(keys[2], (size,)),
        masks=jr.bernoulli(keys[3], 0.5, (size,)).astype(float) if masks is None else masks,
        next_observations=jr.normal(keys[4], (size, observation)),
    )


@eqx.filter_jit
def policy_samples(policy, observations, key):
    return jax.vmap(policy.sample_and_log_prob)(observations, jr.split(key, len(observations)))


def with_head(policy: TanhGaussian, mean, log_std) -> TanhGaussian:
    """Replace the last layer by one that gives these, whatever the input."""
    head = policy.mlp.layers[-1]
    bias = jnp.concatenate((jnp.asarray(mean), jnp.asarray(log_std)))
    return eqx.tree_at(
        lambda p: (p.mlp.layers[-1].weight, p.mlp.layers[-1].bias),
        policy,
        (jnp.zeros_like(head.weight), bias),
    )


# The policy's density


def test_the_log_density_is_that_of_the_sample():
    """Against the change of variables, done in float64 by hand."""
    policy = with_head(TanhGaussian(jr.key(0), 3, (8,), 2), [0.3, -1.0], [-0.5, 0.2])
    mean, std = np.array([0.3, -1.0]), np.exp([-0.5, 0.2])
    actions, log_probs = policy_samples(policy, jnp.zeros((20, 3)), jr.key(1))
    a = np.asarray(actions, np.float64)
    normal = -0.5 * ((np.arctanh(a) - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(log_probs, (normal - np.log1p(-(a**2))).sum(1), atol=1e-3)


def test_samples_have_the_density_they_report():
    """E[1 / p(a)] over samples is the volume of where actions lie: 2, for one dimension."""
    policy = with_head(TanhGaussian(jr.key(0), 1, (8,), 1), [0.2], [-0.3])
    actions, log_probs = policy_samples(policy, jnp.zeros((20_000, 1)), jr.key(1))
    inside = np.abs(np.asarray(actions[:, 0])) < 0.9  # The tails' weights vary too much.
    assert np.mean(inside * np.exp(-np.asarray(log_probs))) == pytest.approx(1.8, rel=0.03)


def test_a_saturated_action_has_a_finite_density_and_gradient():
    policy = with_head(TanhGaussian(jr.key(0), 1, (8,), 1), [30.0], [0.0])

    def log_prob(policy):
        return policy.sample_and_log_prob(jnp.zeros(1), jr.key(0))[1]

    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(log_prob))(policy)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_mode_and_the_limits_of_the_deviation():
    policy = with_head(TanhGaussian(jr.key(0), 1, (8,), 2), [0.5, -3.0], [-100.0, 100.0])
    np.testing.assert_allclose(policy.mode(jnp.ones(1)), np.tanh([0.5, -3.0]), rtol=1e-5)
    np.testing.assert_array_equal(policy(jnp.ones(1))[1], LOG_STD_RANGE)


# The replay


def rows(first, count) -> Experience:
    values = np.arange(first, first + count, dtype=np.float32)
    column = values[:, None]
    return Experience(column, -column, values, values + 0.5, column + 1)


def test_the_ring_forgets_the_oldest():
    replay, write = empty_replay(10, 1, 1), jax.jit(add)
    for first in range(0, 16, 4):
        replay = write(replay, rows(first, 4))
    assert int(replay.added) == 16
    assert sorted(replay.rows.rewards.tolist()) == list(range(6, 16))


def test_a_transition_stays_together_and_only_what_was_written_is_drawn():
    write = jax.jit(add)
    replay = write(write(empty_replay(100, 1, 1), rows(1, 4)), rows(5, 4))
    batch = jax.jit(sample, static_argnums=2)(replay, jr.key(0), 4000)
    values, counts = np.unique(np.asarray(batch.rewards), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, 9))
    assert np.abs(counts / 4000 - 1 / 8).max() < 5 * np.sqrt(1 / 8 * 7 / 8 / 4000)
    np.testing.assert_array_equal(batch.observations[:, 0], batch.rewards)
    np.testing.assert_array_equal(batch.actions, -batch.observations)
    np.testing.assert_array_equal(batch.masks, batch.rewards + 0.5)
    np.testing.assert_array_equal(batch.next_observations, batch.observations + 1)


# The losses


def values_of(critic, observations, actions):
    return jax.vmap(lambda s, a: critic(jnp.concatenate((s, a)))[0])(observations, actions)


@eqx.filter_jit
def gradients_by_equation(agent, batch, key):
    """Each network's gradient of the one equation it stands in, and that of the agent's sum."""
    networks, gamma = agent.networks, agent.config.discount
    fold = jnp.minimum if agent.config.aggregate == "min" else lambda a, b: a / 2 + b / 2
    next_key, now_key = jr.split(key)
    next_actions, next_log_probs = policy_samples(
        networks.policy, batch.next_observations, next_key
    )
    q1, q2 = (values_of(c, batch.next_observations, next_actions) for c in agent.target_critics)
    alpha = jnp.exp(networks.log_temperature)
    targets = batch.rewards + gamma * batch.masks * (fold(q1, q2) - alpha * next_log_probs)

    def critic_loss(critics):
        errors = [values_of(c, batch.observations, batch.actions) - targets for c in critics]
        return jnp.square(jnp.stack(errors)).mean()

    def policy_loss(policy):
        actions, log_probs = policy_samples(policy, batch.observations, now_key)
        q1, q2 = (values_of(c, batch.observations, actions) for c in networks.critics)
        return (alpha * log_probs - fold(q1, q2)).mean()

    entropy = -policy_samples(networks.policy, batch.observations, now_key)[1].mean()
    together = eqx.filter_grad(lambda n: agent._loss(n, batch, key)[0])(networks)
    return (
        (together.critics, eqx.filter_grad(critic_loss)(networks.critics)),
        (together.policy, eqx.filter_grad(policy_loss)(networks.policy)),
        (together.log_temperature, alpha * (entropy + 0.5 * 2)),
    )


@pytest.mark.parametrize("aggregate", ["min", "mean"])
def test_each_loss_moves_its_own_networks_as_the_equations_say(aggregate):
    config = SACConfig(hidden=(8,), critic_hidden=(8,), aggregate=aggregate, discount=0.9)
    agent = config.build(jr.key(0), Spec.vectors(3, 2))
    # Targets unlike the critics.
    targets = jax.tree.map(lambda x: x + 0.3 if eqx.is_array(x) else x, agent.target_critics)
    agent = eqx.tree_at(lambda a: a.target_critics, agent, targets)
    for got, wanted in gradients_by_equation(agent, random_batch(jr.key(1)), jr.key(2)):
        for one, two in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


def test_targets_follow_slowly_and_by_no_gradient():
    agent = TINY.build(jr.key(0), Spec.vectors(3, 2))
    targets = jax.tree.map(lambda x: x + 1.0 if eqx.is_array(x) else x, agent.target_critics)
    agent = eqx.tree_at(lambda a: a.target_critics, agent, targets)
    update = eqx.filter_jit(lambda agent, batch: agent.update(batch, jr.key(3)))
    after, metrics = update(agent, random_batch(jr.key(2)))
    for before, now, critic in zip(
        jax.tree.leaves(agent.target_critics),
        jax.tree.leaves(after.target_critics),
        jax.tree.leaves(after.networks.critics),
        strict=True,
    ):
        np.testing.assert_allclose(now, 0.995 * before + 0.005 * critic, rtol=1e-5, atol=1e-7)
    assert {"loss", "grad_norm"} <= set(metrics)


# What it converges to


@pytest.fixture(scope="module")
def bandit() -> SAC:
    """Trained on one-step episodes of reward -2 (a - s / 2)^2, with s uniform in [-1, 1]."""
    config = SACConfig(hidden=(32, 32), critic_hidden=(32, 32), learning_rate=3e-3)
    agent = config.build(jr.key(0), Spec.vectors(1, 1))
    dynamic, static = eqx.partition(agent, eqx.is_array)

    def update(dynamic, key):
        state_key, action_key, update_key = jr.split(key, 3)
        states = jr.uniform(state_key, (128, 1), minval=-1, maxval=1)
        actions = jr.uniform(action_key, (128, 1), minval=-1, maxval=1)
        rewards = -2 * jnp.square(actions - states / 2)[:, 0]
        # Where the episode ends, what comes next must not matter.
        batch = Experience(states, actions, rewards, jnp.zeros(128), jnp.full((128, 1), 1e3))
        agent, metrics = eqx.combine(dynamic, static).update(batch, update_key)
        return eqx.filter(agent, eqx.is_array), metrics

    keys = jr.split(jr.key(1), 4000)
    dynamic, _ = jax.jit(lambda d: jax.lax.scan(update, d, keys))(dynamic)
    return eqx.combine(dynamic, static)


def test_the_mean_goes_to_the_best_action(bandit):
    states = jnp.linspace(-0.9, 0.9, 7)[:, None]
    actions = jax.vmap(bandit.act_mean)(states)
    np.testing.assert_allclose(actions, states / 2, atol=0.06)


def test_entropy_and_temperature_go_to_where_theory_puts_them(bandit):
    """pi is proportional to exp(r / alpha): a Gaussian of variance alpha / 4.

    Its entropy, ln(2 pi e alpha / 4) / 2, is the target, -1/2, at alpha = 4 / (2 pi e^2).
    """
    actions, log_probs = policy_samples(bandit.policy, jnp.zeros((2000, 1)), jr.key(2))
    assert -log_probs.mean() == pytest.approx(-0.5, abs=0.1)
    alpha = 4 / (2 * np.pi * np.e**2)
    assert jnp.exp(bandit.networks.log_temperature) == pytest.approx(alpha, rel=0.2)
    assert actions.var() == pytest.approx(alpha / 4, rel=0.25)
