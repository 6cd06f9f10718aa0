"""Goal-conditioned agents as values: pure updates, actions from keys, what each can represent."""

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

from nfrl.acting.acting import batched_policy, compile_act
from nfrl.acting.policy import Policy
from nfrl.agents import (
    FMGCBCConfig,
    GCBCConfig,
    NFGCBCConfig,
)
from nfrl.agents.parts.optimization import (
    AdamW,
    gradient_step,
    initial_state,
    mean_metrics,
    without_optimizer,
)
from nfrl.agents.wrappers.standardized import Standardized
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizer
from nfrl.data.samplers import GoalBatch, Transitions
from nfrl.errors import UserError
from nfrl.flows import RealNVPConfig
from nfrl.networks import count_parameters
from nfrl.runs import checkpoints
from nfrl.spec import Spec

OBSERVATION, ACTION, STEPS, BATCH = 3, 2, 400, 64
SPEC = Spec.vectors(OBSERVATION, ACTION)
QUICK = AdamW(learning_rate=5e-3, warmup_steps=10)
TINY = {
    "nf-gcbc": NFGCBCConfig(
        flow=RealNVPConfig(blocks=2, channels=16),
        encoder=(32,),
        condition_dim=8,
        optimizer=QUICK,
    ),
    "gcbc": GCBCConfig(hidden=(32,), optimizer=QUICK),
    "fm-gcbc": FMGCBCConfig(hidden=(32, 32), optimizer=QUICK),
}
GOAL_CONDITIONED = list(TINY)
STOCHASTIC = ["nf-gcbc", "fm-gcbc"]


@pytest.fixture(params=list(GOAL_CONDITIONED))
def name(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def agents():
    """Return every agent, untrained; they are values, so that all tests can share them."""
    return {name: TINY[name].build(jr.key(0), SPEC, STEPS) for name in GOAL_CONDITIONED}


def draw(seed: int) -> GoalBatch:
    """Draw a problem with one right action, a smooth function of observation and goal."""
    observations, goals = np.random.default_rng(seed).normal(size=(2, BATCH, OBSERVATION))
    actions = 0.8 * np.tanh(goals - observations)[:, :ACTION]
    return GoalBatch(*(jnp.asarray(x, jnp.float32) for x in (observations, actions, goals)))


def two_modes(seed: int, action: int = ACTION) -> GoalBatch:
    """Draw one of two actions, -0.5 and +0.5 in every coordinate, always in the same situation."""
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], (BATCH, 1))
    same = jnp.ones((BATCH, OBSERVATION))
    return GoalBatch(same, jnp.asarray(np.tile(0.5 * sign, action), jnp.float32), same)


def one_mode(seed: int) -> GoalBatch:
    """Draw always the same."""
    same = jnp.ones((BATCH, OBSERVATION))
    return GoalBatch(same, jnp.full((BATCH, ACTION), 0.3), same)


# Compiled once for each kind of agent, whatever the problem.
update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))
validate = eqx.filter_jit(lambda agent, batch, key: agent.validate(batch, key))


@eqx.filter_jit
def act(agent, observation, goal, keys):
    return jax.vmap(lambda key: agent.act(observation, goal, key))(keys)


def train(agent, problem):
    """Return the trained agent and the loss of each step."""
    losses = []
    for seed, key in enumerate(jr.split(jr.key(1), STEPS)):
        agent, metrics = update(agent, problem(seed), key)
        losses.append(metrics["loss"])
    return agent, np.asarray(losses)


@pytest.fixture(scope="module")
def trained(agents):
    """Return every agent after training on the problem with one right action, and its losses."""
    return {name: train(agent, draw) for name, agent in agents.items()}


def arrays_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def assert_equal(a, b):
    for x, y in zip(arrays_of(a), arrays_of(b), strict=True):
        np.testing.assert_array_equal(x, y)


# Updates


def test_training_lowers_the_loss(name, agents, trained):
    agent, losses = trained[name]
    assert np.isfinite(losses).all()
    assert losses[-20:].mean() < losses[:20].mean() - 0.1
    before, after = (validate(a, draw(10_000), jr.key(3)) for a in (agents[name], agent))
    if "log_prob" in before:
        assert after["log_prob"] > before["log_prob"] + 0.1
    else:
        assert after["loss"] < before["loss"] - 0.1


def test_update_is_pure_and_keeps_the_structure(name, agents):
    agent, batch, key = agents[name], draw(0), jr.key(2)
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
    batch, key = draw(0), jr.key(2)
    _, metrics = update(agents[name], batch, key)
    found = validate(agents[name], batch, key)
    for metric, value in found.items():
        np.testing.assert_allclose(value, metrics[metric], rtol=1e-4)


def test_an_update_uses_its_key(agents):
    """For the training noise; GCBC has none."""
    batch = draw(0)
    for name, agent in agents.items():
        losses = [float(update(agent, batch, key)[1]["loss"]) for key in jr.split(jr.key(0))]
        assert (losses[0] != losses[1]) == (name in STOCHASTIC)


def test_updates_can_be_scanned(name, agents):
    """Tracing suffices: a scan checks that its carry keeps structure, shapes and types."""
    arrays, static = eqx.partition(agents[name], eqx.is_array)

    def step(arrays, key):
        agent, metrics = eqx.combine(arrays, static).update(draw(0), key)
        return eqx.filter(agent, eqx.is_array), metrics

    after, metrics = jax.eval_shape(partial(jax.lax.scan, step), arrays, jr.split(jr.key(0), 7))
    assert jax.tree.structure(after) == jax.tree.structure(arrays)
    assert metrics["loss"].shape == (7,)


def test_seeds_train_side_by_side(name, agents):
    """Agents of two seeds, stacked and updated under vmap, equal each of them alone."""
    alone = [agents[name], TINY[name].build(jr.key(1), SPEC, STEPS)]
    keys, batches = jr.split(jr.key(0), 2), [draw(0), draw(1)]

    def stack(trees):
        arrays = [eqx.filter(tree, eqx.is_array) for tree in trees]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
        return eqx.combine(stacked, eqx.partition(trees[0], eqx.is_array)[1])

    together, together_batches = stack(alone), stack(batches)
    side_by_side = eqx.filter_jit(eqx.filter_vmap(lambda a, batch, key: a.update(batch, key)))
    for _ in range(3):  # the first has learning rate 0
        together, metrics = side_by_side(together, together_batches, keys)
        found = [update(*arguments) for arguments in zip(alone, batches, keys, strict=True)]
        alone = [agent for agent, _ in found]
        losses = [float(metrics["loss"]) for _, metrics in found]
        np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-3)
        assert losses[0] != losses[1]
    for a, b in zip(arrays_of(together.policy), arrays_of(stack(alone).policy), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_the_objectives_are_the_papers(agents):
    """GCBC: log N(a; mu, I). NF-GCBC: log pi(a + sigma eps), so more noise, less log-density."""
    batch, key = draw(0), jr.key(2)
    gcbc = agents["gcbc"]
    mean = jax.vmap(gcbc.policy)(jnp.concatenate((batch.observations, batch.goals), -1))
    expected = norm.logpdf(batch.actions, mean).sum(-1).mean()
    np.testing.assert_allclose(validate(gcbc, batch, key)["log_prob"], expected, rtol=1e-5)
    # An untrained flow is N(0, I), whose average over a + sigma eps is known.
    nf = agents["nf-gcbc"]
    second_moment = np.square(batch.actions).sum(-1).mean()
    silent = dataclasses.replace(nf, config=dataclasses.replace(nf.config, noise=0.0))
    found = validate(silent, batch, key)["log_prob"]
    np.testing.assert_allclose(
        found, -ACTION / 2 * np.log(2 * np.pi) - second_moment / 2, rtol=1e-4
    )
    noisy = [float(validate(nf, batch, key)["log_prob"]) for key in jr.split(key, 200)]
    np.testing.assert_allclose(np.mean(noisy), found - ACTION * nf.config.noise**2 / 2, atol=3e-3)


# Acting


KEYS = jr.split(jr.key(4), 256)


def test_actions_lie_in_range_and_follow_the_key(name, agents):
    agent, far, some = agents[name], jnp.full(OBSERVATION, 1e3), jnp.ones(OBSERVATION)
    for observation, goal in ((some, some), (far, -far)):
        actions = act(agent, observation, goal, KEYS)
        assert actions.shape == (256, ACTION)
        assert np.isfinite(actions).all()
        assert (np.abs(actions) <= 1).all()
        assert_equal(actions, act(agent, observation, goal, KEYS))
    actions = act(agent, some, some, KEYS)
    different = len(np.unique(np.round(actions, 5), axis=0))
    assert different > 100 if name in STOCHASTIC else different == 1


def test_actions_depend_on_observation_and_goal(name, trained):
    """As the data have it: 0.8 tanh(g - s), within what so short a training finds."""
    agent, _ = trained[name]
    low, high = jnp.full(OBSERVATION, -0.5), jnp.full(OBSERVATION, 0.5)
    up, down = (act(agent, *pair, KEYS).mean(0) for pair in ((low, high), (high, low)))
    assert (up > 0.25).all()
    assert (down < -0.25).all()


@pytest.mark.parametrize("name", ["nf-gcbc", "fm-gcbc"])
def test_a_lower_temperature_narrows_the_actions(name, trained):
    agent, _ = trained[name]
    spreads = []
    for temperature in (0.0, 0.3, 1.0):
        config = dataclasses.replace(agent.config, temperature=temperature)
        cooled = dataclasses.replace(agent, config=config)
        actions = act(cooled, jnp.zeros(OBSERVATION), jnp.full(OBSERVATION, 0.5), KEYS)
        spreads.append(actions.std(0).mean())
    assert spreads[0] < 1e-6
    assert spreads[0] < spreads[1] < spreads[2]
    with pytest.raises(UserError, match="temperature must be at least 0"):
        dataclasses.replace(agent.config, temperature=-0.1)


def test_denoising_takes_the_noise_from_the_actions(agents):
    """On data with one action, trained with noise, little of the noise's spread is left."""
    agent, _ = train(agents["nf-gcbc"], one_mode)
    noisy = dataclasses.replace(agent, config=dataclasses.replace(agent.config, denoising=False))
    same = jnp.ones(OBSERVATION)
    spread, noisy_spread = (act(a, same, same, KEYS).std(0).mean() for a in (agent, noisy))
    assert 0.7 < noisy_spread / agent.config.noise < 1.4
    assert spread < 0.5 * noisy_spread


@pytest.mark.parametrize(
    ("config", "action"),
    [
        pytest.param(TINY["nf-gcbc"], 2, id="affine"),
        pytest.param(
            dataclasses.replace(
                TINY["nf-gcbc"],
                flow=RealNVPConfig(blocks=1, channels=16, transformer="spline"),
            ),
            1,
            id="spline",
        ),
        pytest.param(TINY["fm-gcbc"], 2, id="flow-matching"),
        pytest.param(TINY["gcbc"], 2, id="gaussian"),
    ],
)
def test_flows_find_both_modes_and_a_gaussian_their_mean(config, action):
    agent = config.build(jr.key(0), Spec.vectors(OBSERVATION, action), STEPS)
    agent, _ = train(agent, partial(two_modes, action=action))
    same = jnp.ones(OBSERVATION)
    actions = act(agent, same, same, KEYS)
    near = [(np.abs(actions - mode).max(-1) < 0.3).mean() for mode in (-0.5, 0.5)]
    if isinstance(config, GCBCConfig):
        assert np.abs(actions).max() < 0.2
    else:
        assert min(near) > 0.2
        assert sum(near) > 0.7


# Agents for environments


def call(policy, observations, goals, episodes, times):
    return policy(*map(np.asarray, (observations, goals, episodes, times)))


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_policy_is_one_row_that_counts_its_steps(chunk):
    config = dataclasses.replace(TINY["nf-gcbc"], chunk=chunk, executed=min(chunk, 2))
    agent = config.build(jr.key(0), SPEC, STEPS)
    rows, policy = batched_policy(agent, 4), Policy(agent, config, "nf-gcbc", SPEC, seed=4)
    observations = np.random.default_rng(0).normal(size=(2, 5, OBSERVATION))
    goal = np.ones(OBSERVATION)
    for episode, states in enumerate(observations):
        for step, state in enumerate(states):
            expected = call(rows, state[None], goal[None], [episode], [step])[0]
            np.testing.assert_array_equal(policy(state, goal), expected)
        policy.reset()
    with pytest.raises(ValueError, match=r"an observation has shape \(2,\); .* have \(3,\)"):
        policy(np.zeros(2), goal)
    with pytest.raises(ValueError, match=r"a goal has shape \(1, 3\)"):
        policy(goal, goal[None])
    with pytest.raises(ValueError, match=r"call it with \(observation, goal\)"):
        policy(goal)


def test_a_row_depends_on_itself_and_the_seed_alone(name, trained):
    policy = batched_policy(trained[name][0], seed=5)
    rng = np.random.default_rng(0)
    observations, goals = rng.normal(size=(2, 6, OBSERVATION))
    rows = [observations, goals, np.array([0, 0, 1, 1, 2, 3]), np.array([0, 7, 0, 7, 1, 0])]
    actions = policy(*rows)
    assert isinstance(actions, np.ndarray)
    assert actions.shape == (6, ACTION)
    np.testing.assert_array_equal(policy(*rows), actions)
    # Others in the other rows; another order; fewer rows.
    others = [np.concatenate((x[:2], x[2:] + 3)) for x in rows]
    np.testing.assert_array_equal(policy(*others)[:2], actions[:2])
    assert (policy(*others)[2:] != actions[2:]).any(1).all()
    order = rng.permutation(6)
    np.testing.assert_allclose(policy(*(x[order] for x in rows)), actions[order], atol=1e-4)
    np.testing.assert_allclose(policy(*(x[4:] for x in rows)), actions[4:], atol=1e-4)
    # Seed, episode and time, and nothing else, are the random numbers.
    same = [np.ones((6, OBSERVATION))] * 2 + [np.array([0, 1, 0, 1, 2, 0]), np.arange(6) // 2]
    other_seed = batched_policy(without_optimizer(trained[name][0]), seed=6)
    found = np.concatenate((policy(*same), other_seed(*same), policy(*same)))
    different = len(np.unique(np.round(found, 5), axis=0))
    assert different == (12 if name in STOCHASTIC else 1)
    # Rows that have nothing to do change no other either.
    idle = [*rows[:3], np.array([0, 7, -1, 7, 1, -1])]
    busy = idle[3] >= 0
    np.testing.assert_array_equal(policy(*idle)[busy], actions[busy])
    assert np.isfinite(policy(*idle)).all()


def test_an_integration_without_steps_is_refused():
    with pytest.raises(UserError, match=r"^euler-steps must be at least 1; got 0$"):
        dataclasses.replace(TINY["fm-gcbc"], euler_steps=0)


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
    build = partial(NFGCBCConfig().build, spec=Spec.vectors(28, 5), steps=10)
    shapes = eqx.filter_eval_shape(build, jr.key(0)).policy
    policy = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf, shapes
    )
    assert 2.0e6 < count_parameters(policy) < 2.3e6


def test_neither_gradient_nor_weight_decay_reaches_constants():
    """flowjax keeps constants as floats in NonTrainable: they are no parameters."""
    from paramax import non_trainable, unwrap

    model = {"weight": jnp.ones(3), "constant": non_trainable(jnp.ones(3))}
    optimizer = AdamW(learning_rate=1e-2, weight_decay=0.1, warmup_steps=1).build(100)
    state = initial_state(optimizer, model)
    for _ in range(10):
        model, state, _ = gradient_step(
            lambda m: ((m["weight"] * unwrap(m)["constant"]).sum(), {}), model, optimizer, state
        )
    np.testing.assert_array_equal(unwrap(model)["constant"], jnp.ones(3))
    assert bool((model["weight"] < 1).all())
    assert count_parameters(model) == 3


# Standardized observations


class Mirror(eqx.Module):
    """An agent that shows what it is given."""

    def validate(self, batch, key):
        return batch._asdict()

    def act(self, observation, goal, key):
        return observation, goal


def test_an_agent_that_learns_from_rewards_sees_what_follows_in_the_same_units():
    agent = Standardized(Mirror(), Normalizer(jnp.full(3, 5.0), jnp.full(3, 2.0)))
    sizes = {"observations": 3, "actions": 2, "next_observations": 3, "next_actions": 2}
    fields = {name: jnp.full((4, size), 9.0) for name, size in sizes.items()}
    batch = Transitions(**fields, rewards=jnp.ones(4), masks=jnp.ones(4))
    seen = agent.validate(batch, jr.key(0))
    for name, value in seen.items():
        expected = 2.0 if name.endswith("observations") else getattr(batch, name)
        np.testing.assert_array_equal(value, jnp.broadcast_to(expected, value.shape))
    observation, goal = agent.act(jnp.full(3, 9.0), jnp.zeros(0), jr.key(0))
    np.testing.assert_array_equal(observation, jnp.full(3, 2.0))
    assert goal.shape == (0,), "its tasks have a single goal, which nobody states"


def test_an_agent_of_standardized_observations_is_one_of_raw_ones(name, tmp_path):
    """It does with raw data what the plain agent does with standardized ones."""
    rng = np.random.default_rng(0)
    spread, centre = np.array([10.0, 0.1, 1.0]), np.array([20.0, 0.0, -3.0])
    raw = (centre + spread * rng.normal(size=(500, OBSERVATION))).astype(np.float32)
    raw[:, 2] = -3.0  # a dimension that never changes
    ends = np.arange(500) % 50 == 49
    arrays = {"observations": raw, "actions": np.zeros((500, ACTION), np.float32)}
    np.savez(tmp_path / "it.npz", **arrays, terminals=ends)
    dataset = Dataset.from_file(tmp_path / "it.npz")

    config = dataclasses.replace(TINY[name], standardize=True)
    agent = config.build(jr.key(0), SPEC, STEPS, dataset)
    plain = TINY[name].build(jr.key(0), SPEC, STEPS, dataset)
    seen = agent.normalizer.encode(dataset.observations)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0), (1, 1, 0), atol=1e-4)

    batch = agent.draw(dataset, jr.key(1), BATCH)
    encode = agent.normalizer.encode
    before = agent.normalizer
    encoded = batch._replace(observations=encode(batch.observations), goals=encode(batch.goals))
    for seed in range(3):
        (agent, ours), (plain, theirs) = (
            update(a, b, jr.key(seed)) for a, b in ((agent, batch), (plain, encoded))
        )
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    for ours, theirs in zip(
        validate(agent, batch, jr.key(5)).values(),
        validate(plain, encoded, jr.key(5)).values(),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    goal, keys = raw[7], jr.split(jr.key(2), 4)
    np.testing.assert_allclose(
        act(agent, raw[3], goal, keys), act(plain, encode(raw[3]), encode(goal), keys), atol=1e-4
    )
    # The normaliser is saved with the agent, and nothing trains it.
    assert eqx.tree_equal(agent.normalizer, before)
    assert count_parameters(agent.policy) == count_parameters(plain.policy)
    checkpoints.save(tmp_path / "a.safetensors", agent, step=3)
    like = config.build(jr.key(9), SPEC, STEPS)
    again = checkpoints.load(tmp_path / "a.safetensors", like)
    policy_of = compile_act(agent, seed=0)
    ours, theirs = (
        policy_of(a)(raw[:4], raw[4:8], np.arange(4), np.zeros(4)) for a in (again, agent)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_an_agent_of_chunks_is_one_of_wider_actions(name):
    """Of the data's chunks it learns what the plain agent learns of actions as wide as they."""
    rng = np.random.default_rng(0)
    toy = Dataset.from_arrays(
        observations=rng.normal(size=(200, OBSERVATION)),
        actions=rng.uniform(-1, 1, (200, ACTION)),
        terminals=np.arange(200) % 50 == 49,
    )
    config = dataclasses.replace(TINY[name], standardize=True)
    plain = config.build(jr.key(0), Spec.vectors(OBSERVATION, 2 * ACTION), STEPS, toy)
    chunks = dataclasses.replace(config, chunk=2)
    agent = chunks.build(jr.key(0), SPEC, STEPS, toy)
    batch = agent.draw(toy, jr.key(1), BATCH)
    assert batch.actions.shape == (BATCH, 2 * ACTION)
    for seed in range(2):
        (agent, ours), (plain, theirs) = (update(a, batch, jr.key(seed)) for a in (agent, plain))
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)
    ours, theirs = (
        act(a, batch.observations[0], batch.goals[0], jr.split(jr.key(2), 4))
        for a in (agent, plain)
    )
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, atol=1e-5)


# Goals of some columns alone


def test_of_a_goal_only_the_columns_named_are_told(name):
    """Whatever stands in the others, in learning, in scoring and in acting."""
    config = dataclasses.replace(TINY[name], goal_columns=(2, 0))
    agent = config.build(jr.key(0), SPEC, STEPS)
    rng = np.random.default_rng(0)
    toy = Dataset.from_arrays(
        observations=rng.normal(size=(200, OBSERVATION)),
        actions=rng.uniform(-1, 1, (200, ACTION)),
        terminals=np.arange(200) % 50 == 49,
    )
    batch = agent.draw(toy, jr.key(1), BATCH)
    posture, thing = (batch._replace(goals=batch.goals.at[:, i].add(9.0)) for i in (1, 2))
    for seed in range(5):  # at first a flow asks nothing of its condition
        agent, _ = update(agent, batch, jr.key(seed))
    losses = [update(agent, seen, jr.key(9))[1]["loss"] for seen in (batch, posture, thing)]
    assert losses[0] == losses[1] != losses[2]
    scores = [validate(agent, seen, jr.key(3)) for seen in (batch, posture, thing)]
    scores = [float(value) for score in scores for value in score.values()]
    assert scores[0] == scores[1] != scores[2]
    actions = [
        act(agent, batch.observations[0], seen.goals[0], jr.split(jr.key(4), 4))
        for seen in (batch, posture, thing)
    ]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.allclose(actions[0], actions[2])


def test_goals_of_columns_that_are_not_there_are_refused(name):
    config = dataclasses.replace(TINY[name], goal_columns=(0, OBSERVATION))
    with pytest.raises(UserError, match=f"goal-columns.*called {OBSERVATION}$"):
        config.build(jr.key(0), SPEC, STEPS)
    with pytest.raises(UserError, match="goal-columns"):
        dataclasses.replace(config, goal_columns=(-1,))
