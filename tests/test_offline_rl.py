"""Offline RL: exact values on a small chain, gradients where they belong, targets that follow."""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm

from nfrl.agents import (
    BCConfig,
    FQLConfig,
    IDQLConfig,
    IFQLConfig,
    IQLConfig,
    NFRLBCConfig,
    ReBRACConfig,
    agents_that,
)
from nfrl.agents.nf_rlbc import likeliest
from nfrl.agents.parts.critics import aggregate, td_target
from nfrl.agents.parts.diffusion import noise_error, sample, variance_preserving
from nfrl.agents.parts.implicit_q import expectile_loss
from nfrl.agents.parts.optimization import AdamW, constant_adam, gradient_step, initial_state
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import Transitions, sample_transitions
from nfrl.errors import UserError
from nfrl.flows import PLULinear, RealNVPConfig
from nfrl.networks import split_trainable
from nfrl.spec import Spec

STATES, ACTION, BATCH, STEPS = 5, 2, 64, 800
SPEC = Spec.vectors(STATES, ACTION)
DISCOUNT, TAU, EXPECTILE = 0.9, 0.05, 0.9
ADAM = constant_adam(3e-3)
CRITICS = {"critic": (32, 32), "discount": DISCOUNT, "tau": TAU, "optimizer": ADAM}
TINY = {
    "nf-rlbc": NFRLBCConfig(
        flow=RealNVPConfig(blocks=1, channels=16),
        encoder=(32,),
        condition_dim=8,
        alpha=0.01,
        aggregate="mean",
        **CRITICS,
    ),
    "bc": BCConfig(hidden=(32,), optimizer=ADAM),
    "rebrac": ReBRACConfig(hidden=(32, 32), alpha_actor=0.01, **CRITICS),
    "iql": IQLConfig(hidden=(32, 32), expectile=EXPECTILE, **CRITICS),
    "ifql": IFQLConfig(hidden=(32, 32), samples=8, euler_steps=4, **CRITICS),
    "idql": IDQLConfig(width=16, blocks=1, samples=8, **CRITICS),
    "fql": FQLConfig(hidden=(32, 32), alpha=0.3, euler_steps=4, **CRITICS),
}
# A planner of waypoints is tested with the one that seeks goals (test_waypoints.py).
OFFLINE_RL = [name for name in agents_that(rewards=True) if name != "nf-waypoints-rl"]
STOCHASTIC = ["nf-rlbc", "ifql", "idql", "fql"]
WITH_CRITICS = [name for name in TINY if name != "bc"]
IMPLICIT = ["iql", "ifql", "idql"]


@pytest.fixture(scope="module", autouse=True)
def agents():
    """Return every agent, untrained; they are values, so that all tests can share them."""
    return {name: TINY[name].build(jr.key(0), SPEC, STEPS) for name in OFFLINE_RL}


@pytest.fixture(params=list(OFFLINE_RL))
def name(request):
    return request.param


# Compiled once for each kind of agent.
update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))
validate = eqx.filter_jit(lambda agent, batch, key: agent.validate(batch, key))
target_of = eqx.filter_jit(lambda agent, batch, key: agent._target(batch, key))


@eqx.filter_jit
def act(agent, observation, keys):
    return jax.vmap(lambda key: agent.act(observation, observation, key))(keys)


@jax.jit
def q_of(critic, observation, actions):
    return jax.vmap(critic, in_axes=(None, 0))(observation, actions)


def arrays_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(arrays_of(a), arrays_of(b), strict=True))


def with_config(agent, **changes):
    return dataclasses.replace(agent, config=dataclasses.replace(agent.config, **changes))


def draw(seed: int) -> Transitions:
    rng = np.random.default_rng(seed)
    arrays = {
        "observations": rng.normal(size=(BATCH, STATES)),
        "actions": rng.uniform(-1, 1, (BATCH, ACTION)),
        "rewards": rng.normal(size=BATCH),
        "masks": rng.choice([0.0, 1.0], BATCH),
        "next_observations": rng.normal(size=(BATCH, STATES)),
        "next_actions": rng.uniform(-1, 1, (BATCH, ACTION)),
    }
    return Transitions(**{key: jnp.asarray(value, jnp.float32) for key, value in arrays.items()})


def plu_of(policy) -> list[PLULinear]:
    return [b for b in policy.flow.bijection.bijections if isinstance(b, PLULinear)]


class Point(eqx.Module):
    """A stand-in for a flow policy that always does the same: one action for each row."""

    actions: jax.Array

    @property
    def flow(self):
        return self

    def conditions(self, observations):
        return observations

    def sample(self, key, shape, conditions):
        return jnp.broadcast_to(self.actions, (*shape, *self.actions.shape))

    def sample_and_log_prob(self, key, shape, conditions):
        actions = self.sample(key, shape, conditions)
        return actions, jnp.zeros(actions.shape[:-1])

    def noisy_log_prob(self, actions, conditions, key, noise):
        return jnp.zeros(())


def critics_of(agent):
    """Return the critic and its target."""
    holder = agent.critics if hasattr(agent, "critics") else agent
    return holder.critic, holder.target_critic


# Values on a chain of five states: the first coordinate's sign moves one state left or right, the
# second does nothing. Every step costs 1 until the last state is reached, where the episode ends
# and the data go on from the first state.


def successor(state: int, action: float) -> int:
    return 0 if state == STATES - 1 else int(np.clip(state + np.sign(action), 0, STATES - 1))


@pytest.fixture(scope="module")
def chain() -> Dataset:
    """Random walks on the chain, half of the actions to the right, none weaker than 0.3."""
    rng = np.random.default_rng(0)
    trajectories, length = 60, 50
    actions = rng.uniform(-1, 1, (trajectories, length, ACTION))
    actions[..., 0] = rng.choice([-1, 1], actions.shape[:2]) * rng.uniform(
        0.3, 1, actions.shape[:2]
    )
    states = rng.integers(STATES, size=(trajectories, length))
    for t in range(length - 1):
        states[:, t + 1] = list(map(successor, states[:, t], actions[:, t, 0]))
    rows = states.reshape(-1)
    data = Dataset.from_arrays(
        np.eye(STATES)[rows],
        actions.reshape(-1, ACTION),
        np.arange(rows.size) % length == length - 1,
    )
    ended = rows == STATES - 1
    return dataclasses.replace(
        data,
        rewards=jnp.asarray(np.where(ended, 0.0, -1.0), jnp.float32),
        masks=jnp.asarray(np.where(ended, 0.0, 1.0), jnp.float32),
    )


def solve(value_of_actions) -> np.ndarray:
    """Return Q of each state to the left and to the right, by dynamic programming."""
    q = np.zeros((STATES, 2))
    for _ in range(200):
        value = value_of_actions(q)
        for state in range(STATES - 1):
            q[state] = [-1 + DISCOUNT * value[successor(state, a)] for a in (-1, 1)]
    return q


def expectile_of_two(q: np.ndarray) -> np.ndarray:
    """The v with EXPECTILE (best - v) = (1 - EXPECTILE) (v - worst), of two equally likely."""
    return EXPECTILE * q.max(1) + (1 - EXPECTILE) * q.min(1)


@pytest.fixture(scope="module")
def trained(agents, chain):
    """Return agents after training on the chain; nothing of the loop is compiled but the update."""
    keys = jr.split(jr.key(1), STEPS)
    sampler = jax.jit(jax.vmap(partial(sample_transitions, chain, batch_size=BATCH)))
    batches = [Transitions(*rows) for rows in zip(*map(np.asarray, sampler(keys)), strict=True)]
    found = {}
    for name in ("nf-rlbc", "iql", "fql"):
        agent = agents[name]
        # Implicit values settle in twice the updates.
        for batch, key in list(zip(batches, keys, strict=True)) * (2 if name == "iql" else 1):
            agent, _ = update(agent, batch, key)
        found[name] = agent
    return found


def table_of(agent) -> np.ndarray:
    """Return the critic's mean Q of each state, for an action to the left and one to the right."""
    actions = jnp.array([[-0.65, 0.0], [0.65, 0.0]])
    critic, _ = critics_of(agent)
    return np.array([q_of(critic, state, actions).mean(-1) for state in jnp.eye(STATES)])


# Another discount (0.95) would change Q by 0.26 to 0.55 in the first state, and values that ran on
# past the end by 2 and more in every state.
@pytest.mark.parametrize("name", ["nf-rlbc", "fql"])
def test_values_are_those_of_dynamic_programming(name, trained):
    """Those of the policy that was learned, which is the best one but for a few slips."""
    agent = trained[name]
    keys = jr.split(jr.key(2), 256)
    right = np.array([(act(agent, state, keys)[:, 0] > 0).mean() for state in jnp.eye(STATES)])
    assert (right[:-1] > 0.9).all()
    expected = solve(lambda q: (1 - right) * q[:, 0] + right * q[:, 1])
    assert np.abs(expected - solve(lambda q: q.max(1))).max() < 0.5
    np.testing.assert_allclose(table_of(agent), expected, atol=0.2)


def test_values_of_chunks_are_those_of_dynamic_programming(chain):
    """Of two steps chosen at once: each chunk's own rewards, then the best chunk that follows."""
    agent = dataclasses.replace(TINY["nf-rlbc"], chunk=2).build(jr.key(0), SPEC, 0)
    draw_chunks = jax.jit(lambda key: agent.draw(chain, key, BATCH))
    for key in jr.split(jr.key(1), STEPS):
        agent, _ = update(agent, draw_chunks(key), key)

    chunks = [(first, second) for first in (-1, 1) for second in (-1, 1)]
    expected = np.zeros((STATES, len(chunks)))
    for _ in range(100):
        value = expected.max(1)
        for state in range(STATES - 1):
            for i, (first, second) in enumerate(chunks):
                middle = successor(state, first)
                rest = -1 + DISCOUNT * value[successor(middle, second)]
                expected[state, i] = -1 + (DISCOUNT * rest if middle < STATES - 1 else 0.0)
    actions = jnp.array([[0.65 * first, 0, 0.65 * second, 0] for first, second in chunks])
    found = [q_of(agent.agent.critic, state, actions).mean(-1) for state in jnp.eye(STATES)]
    np.testing.assert_allclose(found, expected, atol=0.4)

    start, keys = jnp.eye(STATES)[0], jr.split(jr.key(2), 64)
    plans = act(agent, start, keys)
    assert plans.shape == (64, 2, ACTION)
    assert (plans[:, :, 0] > 0).mean() > 0.9, "from the first state both steps go to the right"


def test_implicit_values_are_expectiles(trained):
    """Q and V of the expectile's own dynamic programming; and the mean action is the right one."""
    agent = trained["iql"]
    expected = solve(expectile_of_two)
    np.testing.assert_allclose(table_of(agent), expected, atol=0.15)
    value = agent.critics.values(jnp.eye(STATES))
    np.testing.assert_allclose(value, expectile_of_two(expected), atol=0.15)
    actions = jax.vmap(agent.policy)(jnp.eye(STATES))
    assert (actions[:-1, 0] > 0.3).all()


# Gradients


def test_the_actors_gradient_flows_through_the_flow(agents):
    """Equal to finite differences of the loss, in parameters of every array of the policy.

    In double precision, with all three terms and nothing at zero.
    """
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):

        def exactly(leaf):
            if not eqx.is_inexact_array(leaf):
                return leaf
            return jnp.asarray(leaf + 0.1 * rng.normal(size=leaf.shape), jnp.float64)

        agent = jax.tree.map(exactly, (agents["nf-rlbc"].policy, agents["nf-rlbc"].critic))
        agent = dataclasses.replace(agents["nf-rlbc"], policy=agent[0], critic=agent[1])
        agent = with_config(agent, alpha=0.7, entropy=0.3, noise=0.1)
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:8], jnp.float64), draw(0))
        parameters, constants = split_trainable(agent.policy)
        vector, restore = ravel_pytree(parameters)

        def loss(vector):
            policy = eqx.combine(restore(vector), constants)
            return agent._actor_loss(policy, batch, jr.key(3))[0]

        loss_and_gradient = jax.jit(jax.value_and_grad(loss))
        gradient = np.asarray(loss_and_gradient(vector)[1])
        starts = np.cumsum([0, *[leaf.size for leaf in jax.tree.leaves(parameters)][:-1]])
        numbered = restore(jnp.arange(vector.size, dtype=jnp.float64))
        linear = np.concatenate([ravel_pytree(b)[0] for b in plu_of(numbered)]).astype(int)
        assert len(linear) >= 4
        step = 1e-6
        for place in np.union1d(starts, linear):
            up, down = (
                loss_and_gradient(vector + s * np.eye(1, vector.size, place)[0])[0]
                for s in (step, -step)
            )
            np.testing.assert_allclose(
                gradient[place], (up - down) / (2 * step), rtol=1e-5, atol=1e-8
            )
        assert (np.abs(gradient[linear]) > 1e-6).all()


def test_training_leaves_constants_alone(agents, trained):
    """The flow's permutations and signs are integers, which neither gradient nor tau can reach."""
    before, after = (
        [leaf for leaf in arrays_of(agent.policy) if jnp.issubdtype(leaf.dtype, jnp.integer)]
        for agent in (agents["nf-rlbc"], trained["nf-rlbc"])
    )
    assert len(before) == 2  # a permutation and the signs
    assert equal(before, after)


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_critic_and_policy_learn_from_their_own_losses(name, agents):
    """Rewards reach no policy within a step, and what the policy does with Q no critic."""
    agent, batch = agents[name], draw(0)
    if name == "rebrac":
        agent = dataclasses.replace(agent, count=agent.count + 1)  # so that the actor moves
    after, _ = update(agent, batch, jr.key(2))
    other, _ = update(agent, batch._replace(rewards=batch.rewards + 1), jr.key(2))
    assert equal(after.policy, other.policy)
    assert not equal(critics_of(after)[0], critics_of(other)[0])
    assert not equal(after.policy, agent.policy)


def test_the_target_is_a_constant(agents):
    """To whatever made it: neither the next value nor what it depends on has a gradient."""
    gradient = jax.grad(lambda value: td_target(draw(0), value, DISCOUNT).sum())(jnp.ones(BATCH))
    assert not gradient.any()


# The terms of NF-RLBC


class Quadratic(eqx.Module):
    """Q_i(s, a) = -(a - centre)^T precision (a - centre) / 2, for both members."""

    centre: jax.Array
    precision: jax.Array

    def batch(self, observations, actions):
        off = actions - self.centre
        return jnp.tile(-0.5 * jnp.einsum("bi,ij,bj->b", off, self.precision, off)[:, None], 2)


def test_with_entropy_the_policy_becomes_the_boltzmann_density():
    """exp(Q / lambda), with Q quadratic a Gaussian well inside the bounds, correlated."""
    entropy, centre = 0.5, np.array([0.2, -0.1])
    covariance = np.array([[0.04, 0.018], [0.018, 0.0225]])
    # One block would move the mean along one direction only.
    config = dataclasses.replace(
        TINY["nf-rlbc"], flow=RealNVPConfig(blocks=2, channels=16), alpha=0.0, entropy=entropy
    )
    agent = config.build(jr.key(0), SPEC, STEPS)
    precision = entropy * np.linalg.inv(covariance)
    agent = dataclasses.replace(agent, critic=Quadratic(jnp.array(centre), jnp.array(precision)))
    batch = jax.tree.map(jnp.zeros_like, draw(0))
    optimizer = AdamW(1e-2, 0.0, 10, 1e-5).build(STEPS)
    arrays, static = eqx.partition(agent.policy, eqx.is_array)

    @jax.jit
    def actions_after_training(arrays, state, keys):
        def step(carry, key):
            policy, state, _ = gradient_step(
                lambda policy: agent._actor_loss(policy, batch, key),
                eqx.combine(carry[0], static),
                optimizer,
                carry[1],
            )
            return (eqx.filter(policy, eqx.is_array), state), None

        (arrays, _), _ = jax.lax.scan(step, (arrays, state), keys)
        policy = eqx.combine(arrays, static)
        return policy.flow.sample(jr.key(5), (4096,), policy.condition(jnp.zeros(STATES)))

    state, keys = initial_state(optimizer, agent.policy), jr.split(jr.key(4), STEPS)
    actions = np.asarray(actions_after_training(arrays, state, keys))
    np.testing.assert_allclose(actions.mean(0), centre, atol=0.05)
    np.testing.assert_allclose(actions.std(0), np.sqrt(np.diag(covariance)), rtol=0.15)
    assert 0.4 < np.corrcoef(actions.T)[0, 1] < 0.75  # 0.6


def test_noise_bounds_the_density(agents):
    """With noise sigma no density's mean exceeds -H(N(0, sigma^2 I)); without, none is a bound."""
    sigma, agent = 0.1, agents["nf-rlbc"]
    bound = -ACTION / 2 * np.log(2 * np.pi * np.e * sigma**2)
    batch = draw(0)._replace(actions=jnp.zeros((BATCH, ACTION)))

    @partial(jax.jit, static_argnames="noise")
    def log_prob(log_scale, keys, noise):
        # An untrained flow is its linear flows alone: here N(0, exp(-2 log_scale) I).
        zero = jnp.zeros(1)
        (linear,) = plu_of(agent.policy)
        scaled = eqx.tree_at(
            lambda w: (w.log_scale, w.lower, w.upper),
            linear,
            (jnp.full(ACTION, log_scale), zero, zero),
        )
        policy = eqx.tree_at(lambda p: plu_of(p)[0], agent.policy, scaled)
        conditions = policy.conditions(batch.observations)
        noisy = with_config(agent, noise=noise)
        return jax.lax.map(lambda k: noisy._noisy_log_prob(policy, batch, conditions, k), keys)

    keys = jr.split(jr.key(0), 100)
    for log_scale in (1.0, np.log(1 / sigma), 4.0):
        peak = ACTION * (log_scale - 0.5 * np.log(2 * np.pi))
        np.testing.assert_allclose(log_prob(log_scale, keys, 0.0), peak, atol=1e-3)
        found = log_prob(log_scale, keys, sigma).mean()
        lost = ACTION / 2 * np.square(sigma * np.exp(log_scale))
        np.testing.assert_allclose(found, peak - lost, rtol=0.05)
        assert found < bound + 0.05
    assert peak > bound + 1


@pytest.mark.parametrize("name", ["nf-rlbc", "fql"])
def test_normalising_makes_the_actor_blind_to_the_scale_of_q(name, agents):
    batch = draw(0)
    policy = Point(batch.actions) if name == "nf-rlbc" else agents[name].policy

    @jax.jit
    def gradients(scale):
        critic = Quadratic(jnp.zeros(ACTION), scale * jnp.eye(ACTION))

        def gradient(normalize):
            agent = with_config(agents[name], normalize_q=normalize, alpha=0.0)
            agent = dataclasses.replace(agent, critic=critic)
            return jax.grad(lambda p: agent._actor_loss(p, batch, jr.key(3))[0])(policy)

        return [ravel_pytree(gradient(normalize))[0] for normalize in (False, True)]

    (plain, normal), (plain_7, normal_7) = gradients(1.0), gradients(7.0)
    np.testing.assert_allclose(plain_7, 7 * plain, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(normal_7, normal, rtol=1e-3, atol=1e-6)
    ratio = np.dot(normal, plain) / np.dot(plain, plain)  # 1 / mean |Q|
    np.testing.assert_allclose(normal, ratio * plain, rtol=1e-3, atol=1e-6)
    assert ratio > 1.5


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_in_another_unit_the_same_is_learned(name, agents):
    """Rewards in cents: with the critic's unit a hundred times as large, so is Q, and no weight
    differs, for Adam takes no notice of a loss's scale. What is weighed against Q grows with it.
    """
    weights = {"nf-rlbc": ("alpha", 100), "fql": ("alpha", 100), "rebrac": ("alpha_critic", 100)}
    weights["iql"] = ("alpha", 1 / 100)  # exp(alpha * advantage)
    cents = {"critic_unit": 100.0}
    if name in weights:
        field, factor = weights[name]
        cents[field] = factor * getattr(TINY[name], field)
    plain, batch = agents[name], draw(0)
    scaled = dataclasses.replace(TINY[name], **cents).build(jr.key(0), SPEC, STEPS)
    for step in range(3):
        plain, _ = update(plain, batch, jr.key(step))
        scaled, _ = update(scaled, batch._replace(rewards=100 * batch.rewards), jr.key(step))
    critic, in_cents = (getattr(a, "critics", a).critic for a in (plain, scaled))
    q, q_in_cents = (
        np.asarray(q_batched(one, batch.observations, batch.actions)) for one in (critic, in_cents)
    )
    np.testing.assert_allclose(q_in_cents, 100 * q, rtol=1e-2, atol=0.1)
    assert abs(q).max() > 0.1
    for a, b in zip(arrays_of(plain.policy), arrays_of(scaled.policy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-4)


# Targets


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_targets_follow_by_tau(name, agents):
    agent = agents[name]
    after, _ = update(agent, draw(0), jr.key(2))
    if name == "rebrac":  # in every second update, and the actor with them
        assert equal(after.policy, agent.policy)
        assert equal(after.target_critic, agent.target_critic)
        assert equal(after.target_policy, agent.target_policy)
        assert not equal(after.critic, agent.critic)
        agent, (after, _) = after, update(after, draw(1), jr.key(3))
        moved = (1 - TAU) * ravel_pytree(agent.target_policy)[0] + TAU * ravel_pytree(after.policy)[
            0
        ]
        np.testing.assert_allclose(
            ravel_pytree(after.target_policy)[0], moved, rtol=1e-5, atol=1e-8
        )
        assert not equal(after.policy, agent.policy)
        # Without a gradient its Adam still moves, by what it remembers; the targets rest.
        third, _ = update(after, draw(2), jr.key(4))
        assert not equal(third.policy, after.policy)
        assert equal(third.target_policy, after.target_policy)
        step = np.abs(ravel_pytree(third.policy)[0] - ravel_pytree(after.policy)[0]).max()
        assert step < agent.config.optimizer.learning_rate
    before, (critic, target) = critics_of(agent)[1], critics_of(after)
    old, trained, new = (ravel_pytree(tree)[0] for tree in (before, critic, target))
    np.testing.assert_allclose(new, (1 - TAU) * old + TAU * trained, rtol=1e-5, atol=1e-8)
    assert np.abs(new - old).max() > 1e-5


def test_idql_acts_by_a_running_average(agents):
    agent = agents["idql"]
    after, _ = update(agent, draw(0), jr.key(2))
    old, trained, new = (
        ravel_pytree(tree)[0] for tree in (agent.policy, after.trained, after.policy)
    )
    np.testing.assert_allclose(new, 0.999 * old + 0.001 * trained, rtol=1e-5, atol=1e-8)
    assert not equal(after.trained, agent.policy)


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_masks_cut_the_future(name, agents):
    """Where the mask is 0 the next state cannot matter to the critic; where it is 1 it does."""
    agent, batch = agents[name], draw(0)
    for mask in (0.0, 1.0):
        masked = batch._replace(masks=jnp.full(BATCH, mask, jnp.float32))
        other = masked._replace(
            next_observations=-batch.next_observations, next_actions=-batch.next_actions
        )
        found, changed = (
            critics_of(update(agent, one, jr.key(2))[0])[0] for one in (masked, other)
        )
        assert equal(found, changed) == (mask == 0)


def test_ensembles_are_aggregated():
    values = jnp.array([[1.0, 3.0], [5.0, -1.0]])
    np.testing.assert_array_equal(aggregate(values, "min"), [1, -1])
    np.testing.assert_array_equal(aggregate(values, "mean"), [2, 2])


class Constant(eqx.Module):
    """Q_1 = 3, Q_2 = 5."""

    def batch(self, observations, actions):
        return jnp.tile(jnp.array([3.0, 5.0]), (len(actions), 1))


@pytest.mark.parametrize("name", ["nf-rlbc", "fql"])
def test_the_target_is_the_aggregate_of_the_target_critics(name, agents):
    """r + discount * mask * min or mean of the ensemble."""
    batch, agent = draw(0), dataclasses.replace(agents[name], target_critic=Constant())
    if name == "nf-rlbc":
        agent = dataclasses.replace(agent, policy=Point(batch.actions))
    for how, value in (("min", 3), ("mean", 4)):
        found = target_of(with_config(agent, aggregate=how), batch, jr.key(0))
        expected = batch.rewards + DISCOUNT * batch.masks * value
        np.testing.assert_allclose(found, expected, rtol=1e-5)


# Each agent's own equations, from its networks' outputs


# What the networks say, compiled for the whole batch.
batched = eqx.filter_jit(lambda network, inputs: jax.vmap(network)(inputs))
q_batched = eqx.filter_jit(
    lambda critic, observations, actions: critic.batch(observations, actions)
)


def test_rebracs_target_and_loss(agents):
    agent, batch = agents["rebrac"], draw(0)
    agent = with_config(agent, alpha_actor=0.3, alpha_critic=0.7, target_noise=0.0)
    found = validate(agent, batch, jr.key(0))
    next_actions = np.tanh(batched(agent.target_policy, batch.next_observations))
    q = q_batched(agent.target_critic, batch.next_observations, next_actions).min(-1)
    penalty = 0.7 * np.square(next_actions - batch.next_actions).sum(-1)
    target = batch.rewards + DISCOUNT * batch.masks * (q - penalty)
    q = np.asarray(q_batched(agent.critic, batch.observations, batch.actions))
    expected = np.square(q - np.asarray(target)[:, None]).mean()
    np.testing.assert_allclose(found["critic_loss"], expected, rtol=1e-4)
    actions = np.tanh(batched(agent.policy, batch.observations))
    q = np.asarray(q_batched(agent.critic, batch.observations, actions).min(-1))
    error = np.square(actions - batch.actions).sum(-1).mean()
    expected = -q.mean() / np.abs(q).mean() + 0.3 * error
    np.testing.assert_allclose(found["actor_loss"], expected, rtol=1e-4)


def test_rebracs_noise_is_clipped(agents):
    """With a critic that is the first coordinate, the target shows the noisy action itself."""
    batch = draw(0)._replace(rewards=jnp.zeros(BATCH), masks=jnp.ones(BATCH))

    class First(eqx.Module):
        def batch(self, observations, actions):
            return jnp.tile(actions[:, :1], 2)

    agent = dataclasses.replace(agents["rebrac"], target_critic=First())
    agent = with_config(agent, alpha_critic=0.0, discount=0.99)
    mean = np.tanh(batched(agent.target_policy, batch.next_observations))[:, 0]
    noise = target_of(agent, batch, jr.key(0)) / 0.99 - mean
    assert 0.12 < noise.std() < 0.28  # 0.2
    wild = target_of(with_config(agent, target_noise=100.0), batch, jr.key(0)) / 0.99 - mean
    np.testing.assert_allclose(np.abs(wild), 0.5, atol=1e-4)


def test_iqls_losses(agents):
    agent, batch = agents["iql"], draw(0)
    _, metrics = update(agent, batch, jr.key(0))
    critics = agent.critics
    v = batched(critics.value, batch.observations)[:, 0]
    next_v = batched(critics.value, batch.next_observations)[:, 0]
    q = np.asarray(q_batched(critics.critic, batch.observations, batch.actions))
    u = q.min(-1) - v  # the target critic equals the critic at first
    expected = np.where(u < 0, 1 - EXPECTILE, EXPECTILE) * np.square(u)
    np.testing.assert_allclose(metrics["value_loss"], expected.mean(), rtol=1e-4)
    target = batch.rewards + DISCOUNT * batch.masks * next_v
    expected = np.square(q - np.asarray(target)[:, None]).mean()
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)
    log_prob = norm.logpdf(batch.actions, batched(agent.policy, batch.observations)).sum(-1)
    weights = np.minimum(np.exp(agent.config.alpha * u), 100)
    assert np.ptp(weights) > 0.1
    np.testing.assert_allclose(metrics["actor_loss"], -(weights * log_prob).mean(), rtol=1e-4)
    # Far better than its state's value, every action has the largest weight.
    low = eqx.tree_at(lambda a: a.critics.value.layers[-1].bias, agent, jnp.array([-5.0]))
    _, metrics = update(low, batch, jr.key(0))
    np.testing.assert_allclose(metrics["actor_loss"], -100 * log_prob.mean(), rtol=1e-4)


def test_an_expectile_minimises_its_loss():
    u = np.random.default_rng(0).normal(size=500).astype(np.float32)
    grid = np.linspace(-1, 2, 3001)
    for expectile in (0.5, 0.9):
        losses = [expectile_loss(jnp.asarray(u - v), expectile).mean() for v in grid[::10]]
        best = grid[::10][np.argmin(losses)]
        above, below = np.maximum(u - best, 0).mean(), np.maximum(best - u, 0).mean()
        assert abs(expectile * above - (1 - expectile) * below) < 0.01
    assert best > u.mean() + 0.5


def test_fql_may_take_the_best_of_several_samples(agents):
    one, observation, key = agents["fql"], draw(0).observations[0], jr.key(4)
    several = dataclasses.replace(TINY["fql"], samples=6).build(jr.key(0), SPEC, STEPS)
    for ours, theirs in zip(arrays_of(one.policy), arrays_of(several.policy), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    noise = jr.normal(key, (6, ACTION))
    inputs = jnp.concatenate((noise, jnp.tile(observation, (6, 1))), -1)
    actions = jnp.clip(batched(several.policy, inputs), -1, 1)
    q = q_of(several.critic, observation, actions).min(-1)
    found = several.act(observation, observation, key)
    np.testing.assert_allclose(found, actions[int(np.argmax(q))], rtol=1e-5)


def test_fqls_loss(agents, monkeypatch):
    """alpha |mu(s, z) - mu_v(s, z)|^2 - mean_i Q_i, the flow's end from the very same z."""
    agent, batch = agents["fql"], draw(0)
    noise = jr.normal(jr.key(5), batch.actions.shape)
    flow = noise
    for k in range(4):
        time = jnp.full((BATCH, 1), k / 4)
        inputs = jnp.concatenate((flow, time, batch.observations), -1)
        flow = flow + batched(agent.flow.network, inputs) / 4
    actions = batched(agent.policy, jnp.concatenate((noise, batch.observations), -1))
    distance = np.square(actions - np.clip(flow, -1, 1)).mean()
    q = q_batched(agent.critic, batch.observations, jnp.clip(actions, -1, 1)).mean()
    monkeypatch.setattr(jr, "normal", lambda *_: noise)
    loss = jax.jit(lambda batch: agent._actor_loss(agent.policy, batch, jr.key(3)))
    found, metrics = loss(batch)
    np.testing.assert_allclose(metrics["distillation"], distance, rtol=1e-4)
    np.testing.assert_allclose(found, 0.3 * distance - q, rtol=1e-4)


targets_of = eqx.filter_jit(
    lambda agent, batch, keys: jax.vmap(partial(agent._target, batch))(keys)
)


@eqx.filter_jit
def act_alone(policy, observation, keys):
    """Return what a policy does without a critic."""
    return jax.vmap(lambda key: policy.act(key, 0.0, observation))(keys)


@eqx.filter_jit
def sample_for(policy, observations, key, shape):
    """Return samples of a flow for each observation."""
    return policy.flow.sample(key, shape, policy.conditions(observations))


def test_of_several_candidates_the_best_is_taken(agents):
    """Where Q grows with an action's first coordinate: in acting as in the critic's target."""

    class Climb(eqx.Module):
        def __call__(self, observation, action):
            return action[:1]

        def batch(self, observations, actions):
            return actions[:, :1]

    plain = dataclasses.replace(agents["nf-rlbc"], critic=Climb(), target_critic=Climb())
    choosing = with_config(plain, candidates=8)
    choosy = with_config(plain, candidates=2, acting_candidates=16)
    batch, keys = draw(0), jr.split(jr.key(0), 200)
    # Of sixteen samples in each place; fewer candidates are the first of them.
    samples = np.asarray(act_alone(plain.policy, batch.observations[0], jr.split(jr.key(1), 3200)))
    several = np.asarray(sample_for(plain.policy, batch.next_observations, jr.key(2), (50, 8)))
    goes_on = np.asarray(batch.masks > 0)
    for agent, acting, valued in ((plain, 1, 1), (choosing, 8, 8), (choosy, 16, 2)):
        taken = act(agent, batch.observations[0], keys)[:, 0]
        target = np.asarray(targets_of(agent, batch, keys[:50]))
        value = (target - batch.rewards)[:, goes_on] / DISCOUNT
        expected = samples[:, 0].reshape(200, 16)[:, :acting].max(1)
        assert abs(taken.mean() - expected.mean()) < 0.15
        best = np.clip(several, -1, 1)[:, :valued, goes_on, 0].max(1)
        assert abs(value.mean() - best.mean()) < 0.1


def test_the_best_is_chosen_among_the_likely():
    """Whatever Q promises: samples between two ways of acting have the lowest density."""
    rng = np.random.default_rng(0)
    log_pi = rng.normal(size=(8, 50)).astype(np.float32)
    actions = np.stack((log_pi, -log_pi), -1)
    for share, kept in ((1.0, 8), (0.5, 4), (0.3, 3), (0.01, 1)):
        found = np.asarray(likeliest(jnp.asarray(actions), jnp.asarray(log_pi), share))
        expected = np.sort(log_pi, 0)[-kept:]
        np.testing.assert_array_equal(np.sort(found[..., 0], 0), expected)
        np.testing.assert_array_equal(found[..., 0], -found[..., 1])


def test_an_agent_acts_by_the_likely(agents):
    """With a Q that is all for unlikely actions, of which fewer are taken the fewer may be."""
    agent, observation = agents["nf-rlbc"], draw(0).observations[0]
    condition = agent.policy.condition(observation)
    log_pi = jax.jit(lambda actions: agent.policy.flow.log_prob(actions, condition))

    class Adventure(eqx.Module):
        def __call__(self, observation, action):
            return -agent.policy.flow.log_prob(action, condition)[None]

        def batch(self, observations, actions):
            conditions = agent.policy.conditions(observations)
            return -agent.policy.flow.log_prob(actions, conditions)[:, None]

    batch, density, value = draw(0), [], []
    for share in (1.0, 0.5, 0.1):
        rash = dataclasses.replace(agent, critic=Adventure(), target_critic=Adventure())
        rash = with_config(rash, candidates=8, likely=share)
        actions = act(rash, observation, jr.split(jr.key(0), 200))
        density.append(float(log_pi(actions).mean()))
        value.append(float(target_of(rash, batch, jr.key(1)).mean()))
    assert density[0] < density[1] - 0.3 < density[2] - 0.6
    assert value[0] > value[1] + 0.1 > value[2] + 0.2


def test_a_policy_can_imitate_before_the_critic_learns():
    """The critic waits; then both go on as an agent would that had this policy from the start."""
    first = dataclasses.replace(TINY["nf-rlbc"], imitate_first=2)
    agent = first.build(jr.key(0), SPEC, STEPS)
    waiting = agent
    for step in range(2):
        waiting, metrics = update(waiting, draw(step), jr.key(step))
        assert equal(waiting.critic, agent.critic)
        assert equal(waiting.target_critic, agent.critic)
        assert not equal(waiting.policy, agent.policy)
        assert metrics["critic_loss"] == 0
        np.testing.assert_allclose(metrics["loss"], -first.alpha * metrics["log_prob"], rtol=1e-5)
    batch, key = draw(2), jr.key(2)
    both, metrics = update(waiting, batch, key)
    assert not equal(both.critic, agent.critic)
    assert metrics["critic_loss"] > 0
    usual = dataclasses.replace(waiting, config=TINY["nf-rlbc"])
    for a, b in zip(arrays_of(both), arrays_of(update(usual, batch, key)[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_seeds_side_by_side_imitate_first_without_the_critics_cost():
    """Under vmap a condition of each seed's own would compute both branches, and choose."""
    config = dataclasses.replace(TINY["nf-rlbc"], imitate_first=2)
    built = [config.build(jr.key(seed), SPEC, STEPS) for seed in range(2)]
    arrays, rest = zip(*(eqx.partition(agent, eqx.is_array) for agent in built), strict=True)
    seeds = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)

    def step(arrays, key):
        agent, _ = eqx.combine(arrays, rest[0]).update(draw(0), key)
        return eqx.filter(agent, eqx.is_array)

    keys = jr.split(jr.key(0), 2)
    both = jax.jit(jax.vmap(step)).trace(seeds, keys)
    (condition,) = [equation for equation in both.jaxpr.eqns if equation.primitive.name == "cond"]
    assert len(condition.params["branches"]) == 2
    together, (alone, _) = both.lower().compile()(seeds, keys), update(built[1], draw(0), keys[1])
    for a, b in zip(jax.tree.leaves(together), arrays_of(alone), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-6)


def test_imitating_first_leaves_time_for_the_critic():
    with pytest.raises(UserError, match=r"imitate-first \(800\) must be less than .* \(800\)"):
        dataclasses.replace(TINY["nf-rlbc"], imitate_first=800).build(jr.key(0), SPEC, 800)
    with pytest.raises(UserError, match="imitate-first must be at least 0"):
        dataclasses.replace(TINY["nf-rlbc"], imitate_first=-1)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(UserError, match="likely must lie in"):
        dataclasses.replace(TINY["nf-rlbc"], likely=share)


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_a_unit_of_nothing_is_refused(name):
    with pytest.raises(UserError, match="critic-unit must be greater than 0"):
        dataclasses.replace(TINY[name], critic_unit=0.0)


@pytest.mark.parametrize("name", ["ifql", "idql"])
def test_the_best_of_the_candidates_acts(name, agents):
    """Of highest min_i Q_i: for IFQL the critic's, for IDQL the target's."""
    turned = jax.tree.map(lambda leaf: -leaf, agents[name].critics.critic)
    agent = eqx.tree_at(lambda a: a.critics.target_critic, agents[name], turned)
    observation, keys = jnp.ones(STATES), jr.split(jr.key(0), 16)

    @eqx.filter_jit
    def look(agent, key):
        candidates = agent.candidates(observation, key)
        q = jax.vmap(critics_of(agent)[0 if name == "ifql" else 1], in_axes=(None, 0))
        return candidates, q(observation, candidates), agent.act(observation, observation, key)

    candidates, q, acted = jax.jit(jax.vmap(partial(look, agent)))(keys)
    best = q.min(-1).argmax(-1)
    assert candidates.shape == (16, 8, ACTION)
    assert len(np.unique(candidates.reshape(-1, ACTION), axis=0)) > 60  # some lie on a bound
    np.testing.assert_allclose(acted, candidates[np.arange(16), best], atol=1e-6)
    assert len(np.unique(best)) > 2
    assert (best != q.max(-1).argmax(-1)).any()


# Diffusion


def test_the_schedule_preserves_variance():
    """alphabar_T = exp(-(0.1 + 10) / 2) however many steps there are."""
    for steps in (1, 5, 100):
        beta = variance_preserving(steps)
        assert beta.shape == (steps,)
        assert (np.diff(beta) > 0).all()
        np.testing.assert_allclose(np.prod(1 - beta), np.exp(-5.05), rtol=1e-3)


@pytest.mark.parametrize("steps", [5, 100])
def test_diffusion_samples_what_its_noise_predictor_says(steps):
    """For data N(y, 0.3^2) the best prediction is known, and a chain's moments with it."""
    beta, std = variance_preserving(steps), 0.3
    kept = jnp.asarray(np.cumprod(1 - beta))

    def predict(x, time, mean):
        k = kept[time.astype(int)]
        return jnp.sqrt(1 - k) * (x - jnp.sqrt(k) * mean) / (k * std**2 + 1 - k)

    draw_one = jax.jit(jax.vmap(lambda key: sample(predict, key, 2, jnp.array([0.5, -1.0]), beta)))
    found = np.asarray(draw_one(jr.split(jr.key(0), 4000)))
    mean, variance = np.zeros(2), 1.0  # of x_T; every step is linear in x
    for t in reversed(range(steps)):
        k = float(kept[t])
        slope = np.sqrt(1 - k) / (k * std**2 + 1 - k) * beta[t] / np.sqrt(1 - k)
        mean = (mean - slope * (mean - np.sqrt(k) * np.array([0.5, -1.0]))) / np.sqrt(1 - beta[t])
        variance = variance * (1 - slope) ** 2 / (1 - beta[t]) + beta[t] * (t > 0)
    np.testing.assert_allclose(found.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(found.std(0), np.sqrt(variance), rtol=0.05)
    if steps == 100:
        np.testing.assert_allclose(mean, [0.5, -1.0], atol=0.05)
        np.testing.assert_allclose(np.sqrt(variance), std, rtol=0.1)


def test_the_noise_in_a_known_point_is_known():
    """Around data that are always y the noise can be told exactly."""
    beta = variance_preserving(5)
    kept = jnp.asarray(np.cumprod(1 - beta))
    data = jnp.tile(jnp.array([0.3, -0.8]), (500, 1))

    def predict(x, time, y):
        k = kept[time.astype(int)]
        return (x - jnp.sqrt(k) * y) / jnp.sqrt(1 - k)

    @jax.jit
    def errors(key):
        return [noise_error(f, data, data, key, beta) for f in (predict, lambda x, *_: 0 * x)]

    found = errors(jr.key(0))
    np.testing.assert_allclose(found, [0, 1], atol=0.15)
    assert found[0] < 1e-8


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *[("nf-rlbc", "candidates"), ("nf-rlbc", "acting_candidates")],
        *[("nf-rlbc", "chunk"), ("fql", "chunk")],
        *[("ifql", "samples"), ("ifql", "euler_steps"), ("ifql", "chunk")],
        *[("idql", "samples"), ("idql", "diffusion_steps"), ("idql", "chunk")],
        *[("fql", "euler_steps"), ("rebrac", "actor_every")],
    ],
)
def test_counts_below_one_are_refused(name, count):
    """Before any training: of none of a thing an agent would act by noise, or not at all."""
    for value in (0, -3):
        with pytest.raises(UserError, match=f"^{count.replace('_', '-')} must .* 1; got {value}$"):
            dataclasses.replace(TINY[name], **{count: value})
    dataclasses.replace(TINY[name], **{count: 1})


# Agents as values


def test_update_is_pure_and_keeps_the_structure(name, agents):
    agent, batch, key = agents[name], draw(0), jr.key(2)
    before = jax.tree.map(np.array, arrays_of(agent))
    (first, metrics), (second, again) = update(agent, batch, key), update(agent, batch, key)
    assert equal(first, second)
    assert equal(metrics, again)
    assert equal(agent, before)
    assert jax.tree.structure(first) == jax.tree.structure(agent)
    for old, new in zip(arrays_of(agent), arrays_of(first), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
    assert {"loss", "grad_norm"} <= metrics.keys()
    assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
    parts = [value for key, value in metrics.items() if key.endswith("_loss")]
    if parts:
        np.testing.assert_allclose(metrics["loss"], sum(parts), rtol=1e-5)


def test_validation_is_the_training_objective(name, agents):
    batch, key = draw(0), jr.key(2)
    _, metrics = update(agents[name], batch, key)
    found = validate(agents[name], batch, key)
    assert found
    for metric, value in found.items():
        np.testing.assert_allclose(value, metrics[metric], rtol=1e-4)


def test_an_update_uses_its_key(name, agents):
    losses = [float(update(agents[name], draw(0), key)[1]["loss"]) for key in jr.split(jr.key(0))]
    assert (losses[0] != losses[1]) == (name not in ("bc", "iql"))


def test_updates_can_be_scanned(name, agents, chain):
    """Tracing suffices: a scan checks that its carry keeps structure, shapes and types."""

    arrays, static = eqx.partition(agents[name], eqx.is_array)

    def step(arrays, key):
        agent = eqx.combine(arrays, static)
        agent, metrics = agent.update(agent.draw(chain, key, 7), key)
        return eqx.filter(agent, eqx.is_array), metrics

    keys = jr.split(jr.key(0), 3)
    after, metrics = jax.eval_shape(partial(jax.lax.scan, step), arrays, keys)
    assert jax.tree.structure(after) == jax.tree.structure(arrays)
    assert metrics["loss"].shape == (3,)


def test_actions_lie_in_range_and_follow_the_key(name, agents):
    agent, keys = agents[name], jr.split(jr.key(4), 256)
    for observation in (jnp.ones(STATES), jnp.full(STATES, 1e3)):
        actions = act(agent, observation, keys)
        assert actions.shape == (256, ACTION)
        assert np.isfinite(actions).all()
        assert (np.abs(actions) <= 1).all()
        np.testing.assert_array_equal(actions, act(agent, observation, keys))
    different = len(np.unique(np.round(act(agent, jnp.ones(STATES), keys), 5), axis=0))
    assert different > 100 if name in STOCHASTIC else different == 1
