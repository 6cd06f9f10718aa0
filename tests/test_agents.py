"""The agents as values: pure updates, actions from keys, what each can and cannot represent."""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

from nfrl.agents import AGENTS, FMGCBCConfig, GCBCConfig, NFGCBCConfig
from nfrl.agents.acting import batched_policy, without_optimizer
from nfrl.agents.optimization import AdamW, gradient_step, initial_state, mean_metrics
from nfrl.data.samplers import GoalBatch
from nfrl.networks import count_parameters

OBSERVATION, ACTION, STEPS = 3, 2, 300
QUICK = AdamW(learning_rate=5e-3, warmup_steps=10)
TINY = {
    "nf-gcbc": NFGCBCConfig(blocks=2, channels=16, encoder=(32,), condition_dim=8, optimizer=QUICK),
    "gcbc": GCBCConfig(hidden=(32,), optimizer=QUICK),
    "fm-gcbc": FMGCBCConfig(hidden=(32, 32), optimizer=QUICK),
}
STOCHASTIC = ["nf-gcbc", "fm-gcbc"]


@pytest.fixture(params=list(AGENTS))
def name(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def agents():
    """Return every agent, untrained; they are values, so that all tests can share them."""
    # Programs that run once are not worth optimising.
    jax.config.update("jax_disable_most_optimizations", True)
    yield {name: TINY[name].build(jr.key(0), OBSERVATION, ACTION, STEPS) for name in AGENTS}
    jax.config.update("jax_disable_most_optimizations", False)


def draw(key, size: int = 64) -> GoalBatch:
    """Draw a problem with one right action, a smooth function of observation and goal."""
    observation_key, goal_key = jr.split(key)
    observations = jr.normal(observation_key, (size, OBSERVATION))
    goals = jr.normal(goal_key, (size, OBSERVATION))
    return GoalBatch(observations, 0.8 * jnp.tanh(goals - observations)[:, :ACTION], goals)


def two_modes(key, size: int = 64) -> GoalBatch:
    """Draw one of two actions, -0.5 and +0.5 in every coordinate, always in the same situation."""
    sign = jr.rademacher(key, (size, 1), float)
    same = jnp.ones((size, OBSERVATION))
    return GoalBatch(same, jnp.tile(0.5 * sign, (1, ACTION)), same)


@eqx.filter_jit
def train(agent, draw, key, steps: int = STEPS):
    """Train in one scan, which also shows that an update keeps the agent's structure."""
    arrays, static = eqx.partition(agent, eqx.is_array)

    def step(arrays, key):
        draw_key, update_key = jr.split(key)
        agent, metrics = eqx.combine(arrays, static).update(draw(draw_key), update_key)
        return eqx.filter(agent, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(step, arrays, jr.split(key, steps))
    return eqx.combine(arrays, static), metrics


@pytest.fixture(scope="module")
def trained(agents):
    """Return every agent after training on the problem with one right action, and its metrics."""
    return {name: train(agent, draw, jr.key(1)) for name, agent in agents.items()}


update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))
validate = eqx.filter_jit(lambda agent, batch, key: agent.validate(batch, key))


@eqx.filter_jit
def act(agent, observation, goal, keys):
    return jax.vmap(lambda key: agent.act(observation, goal, key))(keys)


def arrays_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def assert_equal(a, b):
    for x, y in zip(arrays_of(a), arrays_of(b), strict=True):
        np.testing.assert_array_equal(x, y)


# Updates


def test_training_lowers_the_loss(name, agents, trained):
    agent, metrics = trained[name]
    losses = np.asarray(metrics["loss"])
    assert np.isfinite(losses).all()
    assert losses[-20:].mean() < losses[:20].mean() - 0.1
    batch, key = draw(jr.key(9), 512), jr.key(3)
    before, after = (validate(a, batch, key) for a in (agents[name], agent))
    if "log_prob" in before:
        assert after["log_prob"] > before["log_prob"] + 0.1
    else:
        assert after["loss"] < before["loss"] - 0.1


def test_training_finds_the_action(name, trained):
    agent, _ = trained[name]
    batch = draw(jr.key(9), 128)
    actions = eqx.filter_jit(eqx.filter_vmap(agent.act))(
        batch.observations, batch.goals, jr.split(jr.key(3), 128)
    )
    error = np.abs(actions - batch.actions).mean()
    assert error < 0.5 * np.abs(batch.actions).mean()


def test_update_is_pure_and_keeps_the_structure(name, agents):
    agent, batch, key = agents[name], draw(jr.key(1)), jr.key(2)
    before = jax.tree.map(np.array, arrays_of(agent))
    (first, metrics), (second, again) = update(agent, batch, key), update(agent, batch, key)
    assert_equal(first, second)
    assert_equal(metrics, again)
    assert_equal(agent, before)
    assert jax.tree.structure(first) == jax.tree.structure(agent)
    for old, new in zip(arrays_of(agent), arrays_of(first), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
    assert {"loss", "grad_norm"} <= metrics.keys()
    assert all(value.shape == () for value in metrics.values())


def test_validation_is_the_training_objective(name, agents):
    batch, key = draw(jr.key(1)), jr.key(2)
    _, metrics = update(agents[name], batch, key)
    found = validate(agents[name], batch, key)
    for metric, value in found.items():
        np.testing.assert_allclose(value, metrics[metric], rtol=1e-4)


def test_an_update_uses_its_key(agents):
    """For the training noise; GCBC has none."""
    batch = draw(jr.key(1))
    for name, agent in agents.items():
        losses = [float(update(agent, batch, key)[1]["loss"]) for key in jr.split(jr.key(0))]
        assert (losses[0] != losses[1]) == (name in STOCHASTIC)


def test_seeds_train_side_by_side(name, agents):
    """Agents of several seeds, built and updated under vmap, equal each of them alone."""
    keys = jr.split(jr.key(0), 2)
    build = partial(TINY[name].build, observation_dim=OBSERVATION, action_dim=ACTION, steps=STEPS)
    stacked = eqx.filter_jit(eqx.filter_vmap(build))(keys)
    batches = jax.vmap(draw)(keys)

    def two_updates(agent, batch, key):  # the first has learning rate 0
        agent, _ = agent.update(batch, key)
        return agent.update(batch, key)

    together, metrics = eqx.filter_jit(eqx.filter_vmap(two_updates))(stacked, batches, keys)
    arrays, static = eqx.partition(stacked, eqx.is_array)
    for i in range(2):
        one = eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), static)
        batch = jax.tree.map(lambda leaf, i=i: leaf[i], batches)
        alone, metrics_alone = eqx.filter_jit(two_updates)(one, batch, keys[i])
        np.testing.assert_allclose(metrics["loss"][i], metrics_alone["loss"], rtol=1e-4)
        for old, a, b in zip(
            arrays_of(one.policy), arrays_of(together.policy), arrays_of(alone.policy), strict=True
        ):
            np.testing.assert_allclose(a[i], b, atol=1e-4)
            if jnp.issubdtype(old.dtype, jnp.integer):
                np.testing.assert_array_equal(old, b)
    assert metrics["loss"][0] != metrics["loss"][1]


def test_the_objectives_are_the_papers(agents):
    """GCBC: log N(a; mu, I). NF-GCBC: log pi(a + sigma eps), so more noise, less log-density."""
    batch, key = draw(jr.key(1)), jr.key(2)
    gcbc = agents["gcbc"]
    mean = jax.vmap(gcbc.policy)(jnp.concatenate((batch.observations, batch.goals), -1))
    expected = norm.logpdf(batch.actions, mean).sum(-1).mean()
    np.testing.assert_allclose(validate(gcbc, batch, key)["log_prob"], expected, rtol=1e-5)
    # An untrained flow is N(0, I), whose average over a + sigma eps is known.
    nf = agents["nf-gcbc"]
    batch = jax.tree.map(lambda leaf: jnp.tile(leaf, (64, 1)), batch)
    second_moment = np.square(batch.actions).sum(-1).mean() + ACTION * nf.config.noise**2
    expected = -ACTION / 2 * np.log(2 * np.pi) - second_moment / 2
    found = validate(nf, batch, key)["log_prob"]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    silent = dataclasses.replace(nf, config=dataclasses.replace(nf.config, noise=0.0))
    difference = validate(silent, batch, key)["log_prob"] - found
    np.testing.assert_allclose(difference, ACTION * nf.config.noise**2 / 2, atol=2e-3)


# Acting


def test_actions_lie_in_range_and_follow_the_key(name, agents):
    keys = jr.split(jr.key(4), 32)
    far = jnp.full(OBSERVATION, 1e3)
    some = jnp.ones(OBSERVATION)
    for observation, goal in ((some, some), (far, -far)):
        actions = act(agents[name], observation, goal, keys)
        assert actions.shape == (32, ACTION)
        assert np.isfinite(actions).all()
        assert (np.abs(actions) <= 1).all()
        assert_equal(actions, act(agents[name], observation, goal, keys))
    actions = act(agents[name], some, some, keys)
    assert len(np.unique(actions, axis=0)) > 16 if name in STOCHASTIC else 1
    assert (np.ptp(actions, axis=0) > 0).all() == (name in STOCHASTIC)


def test_actions_depend_on_observation_and_goal(name, trained):
    agent, keys = trained[name][0], jr.split(jr.key(4), 1)
    a, b = jnp.ones(OBSERVATION), jnp.zeros(OBSERVATION)
    actions = [act(agent, *pair, keys) for pair in ((a, b), (b, a), (a, a))]
    assert len(np.unique(np.round(np.concatenate(actions), 2), axis=0)) == 3


def test_denoising_takes_the_noise_from_the_actions(trained):
    """On data with one right action, trained with noise, what is left of the spread is small."""
    agent, _ = trained["nf-gcbc"]
    noisy = dataclasses.replace(agent, config=dataclasses.replace(agent.config, denoising=False))
    keys = jr.split(jr.key(4), 256)
    situation = jnp.full(OBSERVATION, 0.2), jnp.zeros(OBSERVATION)
    spread, noisy_spread = (act(a, *situation, keys).std(0).mean() for a in (agent, noisy))
    assert noisy_spread > 0.7 * agent.config.noise
    assert spread < 0.6 * noisy_spread


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TINY["nf-gcbc"], id="affine"),
        pytest.param(dataclasses.replace(TINY["nf-gcbc"], transformer="spline"), id="spline"),
        pytest.param(TINY["fm-gcbc"], id="flow-matching"),
        pytest.param(TINY["gcbc"], id="gaussian"),
    ],
)
def test_flows_find_both_modes_and_a_gaussian_their_mean(config):
    agent = config.build(jr.key(0), OBSERVATION, ACTION, STEPS)
    agent, _ = train(agent, two_modes, jr.key(1))
    same = jnp.ones(OBSERVATION)
    actions = act(agent, same, same, jr.split(jr.key(2), 400))
    near = [(np.abs(actions - mode).max(-1) < 0.3).mean() for mode in (-0.5, 0.5)]
    if isinstance(config, GCBCConfig):
        assert np.abs(actions).max() < 0.2
    else:
        assert min(near) > 0.2
        assert sum(near) > 0.7


# Agents for environments


def call(policy, observations, goals, episodes, times):
    return policy(*map(np.asarray, (observations, goals, episodes, times)))


def test_a_row_depends_on_itself_alone(name, trained):
    policy = batched_policy(trained[name][0], seed=5)
    rng = np.random.default_rng(0)
    observations, goals = rng.normal(size=(2, 6, OBSERVATION))
    episodes, times = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 7, 0, 7, 1, 0])
    actions = call(policy, observations, goals, episodes, times)
    assert isinstance(actions, np.ndarray)
    assert actions.shape == (6, ACTION)
    assert_equal(actions, call(policy, observations, goals, episodes, times))
    # Others in the other rows; another order; fewer rows.
    others = np.arange(6) >= 2
    changed = [
        np.where(others.reshape(-1, *[1] * (x.ndim - 1)), x + 3, x)
        for x in (observations, goals, episodes, times)
    ]
    np.testing.assert_array_equal(call(policy, *changed)[:2], actions[:2])
    order = rng.permutation(6)
    shuffled = call(policy, observations[order], goals[order], episodes[order], times[order])
    np.testing.assert_allclose(shuffled, actions[order], atol=1e-5)
    fewer = call(policy, observations[4:], goals[4:], episodes[4:], times[4:])
    np.testing.assert_allclose(fewer, actions[4:], atol=1e-5)
    # The optimiser's state plays no part.
    bare = batched_policy(without_optimizer(trained[name][0]), seed=5)
    assert_equal(actions, call(bare, observations, goals, episodes, times))


def test_the_random_numbers_are_those_of_seed_episode_and_time(name, trained):
    agent = trained[name][0]
    same = np.ones((4, OBSERVATION))
    episodes, times = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    actions = [call(batched_policy(agent, seed), same, same, episodes, times) for seed in (0, 1)]
    different = len(np.unique(np.round(np.concatenate(actions), 5), axis=0))
    assert different == (8 if name in STOCHASTIC else 1)


# Optimisation


def updates(optimizer: AdamW, gradients, steps: int, parameter=0.0):
    """Return the update of each step of a run, for a parameter that stays where it is."""
    transformation = optimizer.build(steps)
    parameters = {"w": jnp.full_like(gradients[0], parameter)}

    def step(state, gradient):
        update, state = transformation.update({"w": gradient}, state, parameters)
        return state, update["w"]

    return np.asarray(jax.lax.scan(step, transformation.init(parameters), gradients)[1])


@pytest.mark.parametrize(("steps", "warmup"), [(1000, 100), (20_000, 500)])
def test_the_learning_rate_warms_up_and_decays(steps, warmup):
    """Under a constant gradient Adam's step is the learning rate."""
    optimizer = AdamW(learning_rate=3e-4, weight_decay=0.0, final_learning_rate=1e-6)
    rate = -updates(optimizer, jnp.ones((steps + 1, 1)), steps)[:, 0]
    assert rate[0] == 0
    assert rate.argmax() == warmup  # 500 steps, or a tenth of a short run
    np.testing.assert_allclose(rate.max(), 3e-4, rtol=1e-2)
    np.testing.assert_allclose(rate[warmup // 2], 1.5e-4, rtol=1e-2)
    np.testing.assert_allclose(rate[(steps + warmup) // 2], (3e-4 + 1e-6) / 2, rtol=1e-2)
    np.testing.assert_allclose(rate[-1], 1e-6, rtol=1e-2)
    assert (np.diff(rate[: warmup + 1]) > 0).all()
    assert (np.diff(rate[warmup:]) < 1e-9).all()


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_shortest_runs_have_a_schedule(steps):
    assert np.isfinite(updates(AdamW(), jnp.ones((steps, 1)), steps)).all()


def test_weight_decay_shrinks_and_scales_with_the_learning_rate():
    optimizer = AdamW(learning_rate=1e-2, weight_decay=0.5)
    step = updates(optimizer, jnp.zeros((100, 1)), 100, parameter=2.0)[:, 0]
    rate = -updates(dataclasses.replace(optimizer, weight_decay=0.0), jnp.ones((100, 1)), 100)[:, 0]
    np.testing.assert_allclose(step, -rate * 0.5 * 2.0, rtol=1e-3, atol=1e-9)
    assert step[1:].max() < 0


def test_gradients_are_clipped_to_their_global_norm():
    """With ``clip_norm`` all goes as if long gradients had been shortened before."""
    gradients = np.random.default_rng(0).normal(size=(20, 4)) * np.logspace(-2, 2, 20)[:, None]
    length = np.linalg.norm(gradients, axis=1, keepdims=True)
    short = gradients * np.minimum(1, 0.5 / length)
    found = updates(AdamW(clip_norm=0.5), jnp.asarray(gradients), 20)
    np.testing.assert_allclose(found, updates(AdamW(), jnp.asarray(short), 20), rtol=1e-4)
    assert np.abs(found - updates(AdamW(), jnp.asarray(gradients), 20)).max() > 1e-5


def test_a_gradient_step_goes_down_and_reports():
    model = {"w": jnp.array([3.0, 4.0]), "count": jnp.array([7])}

    def loss(model):
        return jnp.square(model["w"]).sum() / 2, {"first": model["w"][0]}

    optimizer = optax.sgd(0.1)
    state = initial_state(optimizer, model)
    after, _, metrics = gradient_step(loss, model, optimizer, state)
    np.testing.assert_allclose(after["w"], [2.7, 3.6], rtol=1e-6)
    assert after["count"].tolist() == [7]
    assert {key: float(value) for key, value in metrics.items()} == pytest.approx(
        {"loss": 12.5, "grad_norm": 5.0, "first": 3.0}
    )
    assert mean_metrics({"loss": jnp.array([1.0, 3.0])})["loss"] == 2


def test_the_papers_size():
    agent = NFGCBCConfig().build(jr.key(0), observation_dim=28, action_dim=5, steps=10)
    assert 2.0e6 < count_parameters(agent.policy) < 2.3e6
