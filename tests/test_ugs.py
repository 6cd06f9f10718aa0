"""NF-UGS and its baselines: exact densities, right estimates, and a loop that loses nothing."""

import dataclasses
import json
import os
import shutil
import signal
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from conftest import optimising
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm
from paramax import unwrap

from nfrl.agents import crl
from nfrl.agents.crl import CRLConfig
from nfrl.agents.nf_ugs import NFUGS, NFUGSConfig
from nfrl.agents.parts import soft_actor
from nfrl.analysis.speed_exploring import exploring_speed
from nfrl.benchmarks.mazes.layouts import CELL, Layout
from nfrl.benchmarks.mazes.maze import Maze, goal_of
from nfrl.benchmarks.mazes.point import PointRobot, PointState
from nfrl.data import goal_replay as replay
from nfrl.data.goal_replay import GoalReplay
from nfrl.data.samplers import GoalBatch
from nfrl.errors import UserError
from nfrl.flows import RealNVPConfig
from nfrl.reports.mazes import draw_maze_figures
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training import exploring
from nfrl.training.exploring import ExploreTraining, evaluate, explore, load_explorer
from nfrl.training.loop import NonFiniteLossError

OBSERVATION, ACTION, BATCH = 4, 2, 64
SMALL = NFUGSConfig(
    flow=RealNVPConfig(blocks=1, channels=8),
    condition_dim=4,
    encoder=(16,),
    actor_hidden=(16,),
    goal_scale=5.0,
)
TINY = {
    "nf-ugs": SMALL,
    "nf-ugs-flow": dataclasses.replace(SMALL, actor="flow"),
    "crl-oracle": CRLConfig("oracle", encoder=(16,), representation_dim=4, actor_hidden=(16,)),
    "crl-uniform": CRLConfig("uniform", encoder=(16,), representation_dim=4, actor_hidden=(16,)),
    "crl-minmax": CRLConfig("minmax", encoder=(16,), representation_dim=4, actor_hidden=(16,)),
}
# As the paper's code has it, and with NF-UGS's aids.
CODE = CRLConfig(
    "minmax",
    encoder=(16,),
    representation_dim=4,
    actor_hidden=(16,),
    contrast="backward",
    represent_goals=True,
    minmax_by_mode=True,
    goal_scale=5.0,
    noise=0.1,
)
HALL = Layout("hall", ("#######", "#R....#", "#######"), far=((1, 5),))
# Quick enough to cross its hall in an episode.
HALL_MAZE = Maze("hall", HALL, PointRobot(HALL, acceleration=40.0, episode_length=20))


@pytest.fixture(scope="module")
def agents():
    return {name: build(config, jr.key(0)) for name, config in TINY.items()}


def draw(seed: int = 0) -> GoalBatch:
    generator = np.random.default_rng(seed)
    shapes = ((BATCH, OBSERVATION), (BATCH, ACTION), (BATCH, 2))
    return GoalBatch(*(jnp.asarray(generator.normal(size=s), jnp.float32) for s in shapes))


# Flows are slow where every operation is compiled for itself.
update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))
coverage = eqx.filter_jit(lambda agent, goals: agent.coverage(goals))
log_prob = eqx.filter_jit(lambda critic, goals, condition: critic.log_prob(goals, condition))
quality = eqx.filter_jit(
    lambda agent, observation, action, goal: agent.q(observation, action, goal)
)
encode = eqx.filter_jit(lambda encoder, inputs: jax.vmap(encoder)(inputs))


def build(config, key):
    return config.build(key, Spec.vectors(OBSERVATION, ACTION), 0)


def arrays_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def same(one, other) -> bool:
    pairs = zip(arrays_of(one), arrays_of(other), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


# The actor


@pytest.mark.parametrize("name", ["nf-ugs", "nf-ugs-flow"])
def test_an_action_has_the_density_of_its_inverse(name, agents):
    """log pi(a) = log p(atanh a) - sum log(1 - a^2), for the Gaussian written out by hand."""
    policy = agents[name].policy
    observation, goal = jnp.linspace(-1, 1, OBSERVATION), jnp.array([0.3, -0.2])
    sample = jax.jit(jax.vmap(lambda key: policy.sample_and_log_prob(observation, goal, key)))
    actions, log_probs = sample(jr.split(jr.key(0), 50))
    assert np.abs(actions).max() < 1
    x, inputs = jnp.arctanh(actions), jnp.concatenate((observation, goal))
    if name == "nf-ugs":
        mean, log_std = jnp.split(policy.network(inputs), 2)
        std = jnp.exp(-5 + 7 * (jnp.tanh(log_std) + 1) / 2)
        expected = norm.logpdf(x, mean, std).sum(-1)
        np.testing.assert_allclose(policy.mode(observation, goal), jnp.tanh(mean), rtol=1e-5)
    else:
        expected = eqx.filter_jit(policy.flow.log_prob)(x, policy.encoder(inputs))
    expected -= jnp.log1p(-(actions**2)).sum(-1)
    np.testing.assert_allclose(log_probs, expected, atol=2e-3)


def test_squashing_survives_far_tails():
    for x in (-50.0, 0.0, 50.0):
        action, log_prob = soft_actor.squash(jnp.array([x]), jnp.array(0.0))
        assert np.isfinite(log_prob)
        assert np.abs(action) <= 1
        slope = jax.grad(lambda x: soft_actor.squash(x[None], jnp.array(0.0))[1])(jnp.array(x))
        np.testing.assert_allclose(slope, 2 * np.tanh(x), atol=1e-5)


@pytest.mark.parametrize("name", ["nf-ugs", "nf-ugs-flow"])
def test_the_temperature_brings_the_entropy_to_its_target(name, agents):
    """-d_a / 2; and meanwhile the actor finds the action that Q prefers."""
    best, rate = jnp.array([0.4, -0.3]), 5e-3
    policy = agents[name].policy
    state = soft_actor.initial_actor_state(policy, rate)

    def q(observation, action, goal):
        return -20 * jnp.square(action - best).sum()

    @eqx.filter_jit
    def steps(policy, log_temperature, state, key):
        arrays, static = eqx.partition((policy, log_temperature, state), eqx.is_array)

        def step(arrays, key):
            now = eqx.combine(arrays, static)
            *new, metrics = soft_actor.improve(*now, q, draw(), key, rate)
            return eqx.filter(tuple(new), eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(step, arrays, jr.split(key, 800))
        return eqx.combine(arrays, static), metrics

    (policy, _, _), metrics = steps(policy, jnp.zeros(()), state, jr.key(0))
    assert np.mean(metrics["entropy"][-50:]) == pytest.approx(-ACTION / 2, abs=0.2)
    assert metrics["temperature"][-1] != 1
    mode = eqx.filter_jit(policy.mode)(jnp.zeros(OBSERVATION), jnp.zeros(2))
    np.testing.assert_allclose(mode, best, atol=0.15)


# The critics


def test_the_coverage_density_integrates_to_one(agents):
    """Per square unit of length, whatever the scale that the flow sees."""
    axis = jnp.linspace(-40, 40, 400)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1)
    agent = agents["nf-ugs"]
    assert agent.config.goal_scale == 5
    square = float((axis[1] - axis[0]) ** 2)
    assert float(jnp.exp(coverage(agent, grid)).sum()) * square == pytest.approx(1, abs=1e-2)
    density = jnp.exp(quality(agent, jnp.ones(OBSERVATION), jnp.zeros(ACTION), grid))
    assert float(density.sum()) * square == pytest.approx(1, abs=1e-2)


def test_coverage_is_the_density_of_a_masked_condition(agents):
    agent, goals = agents["nf-ugs"], draw().goals
    one_by_one = [log_prob(agent.critic, goal, jnp.zeros(4)) for goal in goals]
    np.testing.assert_allclose(coverage(agent, goals), one_by_one, rtol=1e-5)


@pytest.mark.parametrize("masked", [0.0, 1.0])
def test_the_loss_is_that_of_noisy_goals_and_masked_conditions(masked):
    config = dataclasses.replace(SMALL, mask_probability=masked, noise=0.5)
    agent, batch, key = build(config, jr.key(0)), draw(), jr.key(3)
    after, metrics = update(agent, batch, key)
    inputs = jnp.concatenate((batch.observations, batch.actions), -1)
    conditions = (1 - masked) * encode(agent.critic.encoder, inputs)
    # Over many draws of the noise, this one's loss is an ordinary one.
    noise = 0.5 * jr.normal(jr.key(9), (50, *batch.goals.shape))
    losses = -log_prob(agent.critic, batch.goals + noise, conditions).mean(1)
    assert abs(float(metrics["loss"]) - losses.mean()) < 4 * losses.std()
    assert not same(after.critic.flow, agent.critic.flow)
    # A new flow does not look at its condition: only the second update can teach the encoder.
    after, _ = update(after, batch, key)
    assert same(after.critic.encoder, agent.critic.encoder) is (masked == 1), (
        "a masked condition teaches the encoder nothing"
    )


@pytest.mark.parametrize("name", TINY)
def test_the_critic_learns_from_data_and_the_actor_from_the_critic(name, agents):
    agent, batch, key = agents[name], draw(), jr.key(1)
    after, metrics = update(agent, batch, key)
    assert not same(after.critic, agent.critic)
    assert not same(after.policy, agent.policy)
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    assert all(np.isfinite(value) for value in metrics.values())
    assert {"loss", "grad_norm", "actor_loss", "actor_grad_norm"} <= metrics.keys()
    assert same(update(agent, batch, key), (after, metrics)), "pure"
    other = eqx.tree_at(lambda a: a.policy, agent, build(TINY[name], jr.key(5)).policy)
    assert same(update(other, batch, key)[0].critic, after.critic), "the actor moves no critic"


def test_flow_and_encoder_learn_at_rates_of_their_own(agents):
    # A new flow does not look at its condition: only the second update can teach the encoder.
    before, _ = update(agents["nf-ugs"], draw(), jr.key(0))
    parts = (before.policy, before.critic, before.log_temperature, before.optimizer_state)
    for rates in ({"flow_learning_rate": 0.0, "flow_weight_decay": 0.0}, {"learning_rate": 0.0}):
        config = dataclasses.replace(SMALL, **rates)
        after, _ = update(NFUGS(*parts, config), draw(), jr.key(1))
        assert same(after.critic.flow, before.critic.flow) is ("flow_learning_rate" in rates)
        assert same(after.critic.encoder, before.critic.encoder) is ("learning_rate" in rates)


def test_the_contrastive_loss_is_infonce_with_its_penalty(agents):
    agent, batch = agents["crl-uniform"], draw()
    q = jax.vmap(agent.q, in_axes=(0, 0, None))(batch.observations, batch.actions, batch.goals)
    phi = jax.vmap(agent.critic.phi)(jnp.concatenate((batch.observations, batch.actions), -1))
    psi = jax.vmap(agent.critic.psi)(batch.goals)
    np.testing.assert_allclose(q, -np.linalg.norm(phi[:, None] - psi, axis=-1), rtol=1e-3)
    np.testing.assert_allclose(crl.energies(phi, psi), q, rtol=1e-3)
    totals = logsumexp(q, axis=1)
    expected = (totals - jnp.diag(q)).mean() + 0.1 * (totals**2).mean()
    _, metrics = update(agent, batch, jr.key(0))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)


def test_the_codes_contrast_is_over_states_and_its_goals_are_scaled_and_noisy():
    agent, batch, key = build(CODE, jr.key(0)), draw(), jr.key(2)
    goals = batch.goals + 0.1 * jr.normal(jr.split(key)[0], batch.goals.shape)
    phi = jax.vmap(agent.critic.phi)(jnp.concatenate((batch.observations, batch.actions), -1))
    psi = jax.vmap(agent.critic.psi)(goals / 5)
    q = -np.linalg.norm(phi[:, None] - psi, axis=-1)
    against = logsumexp(q, axis=0)
    expected = (against - np.diag(q)).mean() + 0.1 * (logsumexp(q, axis=1) ** 2).mean()
    _, metrics = update(agent, batch, key)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-3)


def test_an_actor_of_represented_goals_sees_the_critics_psi_and_does_not_train_it():
    agent = build(CODE, jr.key(0))
    after, _ = update(agent, draw(), jr.key(1))
    assert same(unwrap(after.policy.psi), after.critic.psi)
    assert not same(after.critic.psi, agent.critic.psi)
    assert not same(after.policy.actor, agent.policy.actor)
    observation, goal = jnp.ones(OBSERVATION), jnp.array([2.0, -1.0])
    shown = after.policy.actor.mode(observation, after.critic.psi(goal / 5))
    np.testing.assert_allclose(after.policy.mode(observation, goal), shown, atol=1e-6)


def test_energies_are_products_of_float32_on_every_device():
    program = jax.jit(crl.energies).lower(jnp.ones((8, 4)), jnp.ones((6, 4))).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    assert all("HIGHEST" in line for line in products)


def test_representations_that_meet_have_a_gradient():
    point = jnp.ones((1, 3))
    gradient = jax.grad(lambda phi: crl.energies(phi, point).sum() + crl.energy(phi, point).sum())
    assert np.isfinite(gradient(point)).all()


# Commands


@eqx.filter_jit
def command(agent, keys, candidates, start):
    return jax.vmap(lambda key: agent.command(key, candidates, start))(keys)


def test_commands(agents):
    candidates, start = 3 * draw().goals, jnp.ones(OBSERVATION)
    keys = jr.split(jr.key(0), 2000)
    density = coverage(agents["nf-ugs"], candidates)
    chosen = command(agents["nf-ugs"], keys[:1], candidates, start)[0]
    np.testing.assert_array_equal(chosen, candidates[np.argmin(density)])
    for name in ("crl-oracle", "crl-uniform"):
        many = command(agents[name], keys, candidates[:5], start)
        counts = (np.asarray(many)[:, None] == np.asarray(candidates[:5])).all(-1).sum(0)
        assert counts.sum() == 2000
        assert np.abs(counts - 400).max() < 4 * np.sqrt(400)
    assert [agents[name].commands_test_goals for name in TINY] == [False, False, True, False, False]


def test_minmax_commands_the_goal_of_lowest_q_from_the_start(agents):
    """With an actor of the least noise, whose actions are all but known."""
    agent, start, candidates = agents["crl-minmax"], jnp.ones(OBSERVATION), 5 * draw(5).goals
    last = agent.policy.network.layers[-1].bias
    quiet = last.at[ACTION:].set(-100.0)
    agent = eqx.tree_at(lambda a: a.policy.network.layers[-1].bias, agent, quiet)
    actions = jax.vmap(lambda goal: agent.policy.mode(start, goal))(candidates)
    q = jax.vmap(agent.q, in_axes=(None, 0, 0))(start, actions, candidates)
    first, second = np.sort(q)[:2]
    assert second - first > 0.005, "a clear case"
    chosen = command(agent, jr.split(jr.key(0), 1), candidates, start)[0]
    np.testing.assert_array_equal(chosen, candidates[np.argmin(q)])


def test_minmax_by_mode_commands_the_same_goal_whatever_the_key():
    agent, start, candidates = build(CODE, jr.key(0)), jnp.ones(OBSERVATION), 5 * draw().goals
    actions = jax.vmap(lambda goal: agent.policy.mode(start, goal))(candidates)
    q = jax.vmap(agent.q, in_axes=(None, 0, 0))(start, actions, candidates)
    chosen = command(agent, jr.split(jr.key(0), 5), candidates, start)
    np.testing.assert_array_equal(chosen, np.tile(candidates[np.argmin(q)], (5, 1)))


# Estimates


ROOM = Layout("room", ("#####", "#R..#", "#####"), far=((1, 3),))
ROBOT = PointRobot(ROOM, acceleration=40.0, episode_length=200)
DISCOUNT, SLICES = 0.9, 6
STARTS = (
    # A place, a velocity and an action each: one flies to the right, one to the left.
    (PointState(jnp.array([4.0, 5.0]), jnp.array([0.0, 5.0])), jnp.array([0.0, 1.0])),
    (PointState(jnp.array([4.0, 11.0]), jnp.array([0.0, -5.0])), jnp.array([0.0, -1.0])),
)


@jax.jit
def wander(state: PointState, key):
    """Return the (observation, action) of every step of a robot with random actions."""
    actions = jr.uniform(key, (ROBOT.episode_length, 2), minval=-1, maxval=1)

    def step(state, action):
        return ROBOT.step(state, action), ROBOT.observation(state)

    return jax.lax.scan(step, state, actions)[1], actions


def histogram(places) -> np.ndarray:
    """Return the shares of places in slices of the room along its length, y from 2 to 14."""
    counts, _ = np.histogram(np.asarray(places)[..., 1], SLICES, (CELL / 2, 3.5 * CELL))
    return counts / counts.sum()


def occupancy(state: PointState, action, discount: float) -> np.ndarray:
    """Estimate p(g | s, a) by brute force: s_{t + Delta} of many rollouts."""
    after = ROBOT.step(state, action)
    keys = jr.split(jr.key(100), 4000)
    observations, _ = jax.vmap(wander, in_axes=(None, 0))(after, keys)
    generator = np.random.default_rng(0)
    delta = np.minimum(generator.geometric(1 - discount, len(keys)), ROBOT.episode_length)
    return histogram(goal_of(observations)[np.arange(len(keys)), delta - 1])


def slices(log_density) -> np.ndarray:
    """Integrate a density of places over the same slices.

    What a smooth density has outside the walls counts as just inside them.
    """
    x, y = np.linspace(0, 8, 81), np.linspace(0, 16, 321)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), -1), jnp.float32)
    mass = np.exp(np.asarray(log_density(grid), np.float64)).sum(1) * (x[1] - x[0]) * (y[1] - y[0])
    inside = np.clip(y, CELL / 2 + 0.01, 3.5 * CELL - 0.01)
    return np.histogram(inside, SLICES, (CELL / 2, 3.5 * CELL), weights=mass)[0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the total variation."""
    return 0.5 * float(np.abs(one - other).sum())


# Seen: 0.03 to 0.10, as the keys and the last bits of the arithmetic have it; the wrong ones 0.29
# and more.
BOUND = 0.12


def test_the_estimate_is_right():
    """exp(log p(g)) and exp(log p(g | s, a)) are the occupancies of a fixed random policy.

    Within a total variation of 0.12, which a mask that never or always masks, a wrong discount,
    or goals that cross episodes would all miss.
    """
    environments = 64
    reset_keys, wander_keys = jr.split(jr.key(0), (2, environments))
    places = jr.uniform(jr.key(5), (environments, 2), minval=2.1, maxval=5.9)
    places = places.at[:, 1].set(jr.uniform(jr.key(6), (environments,), minval=2.1, maxval=13.9))
    states = PointState(places, 5 * jr.normal(reset_keys[0], (environments, 2)))
    observations, actions = jax.vmap(wander)(states, wander_keys)
    buffer = GoalReplay.empty(environments, ROBOT.episode_length, OBSERVATION, ACTION)
    begins = jnp.zeros(actions.shape[:2], bool)
    buffer = replay.insert(buffer, observations, actions, begins)
    config = NFUGSConfig(
        flow=RealNVPConfig(blocks=3, channels=24),
        condition_dim=16,
        encoder=(64, 64),
        actor_hidden=(4,),
        goal_scale=5.0,
        flow_learning_rate=3e-3,
        learning_rate=3e-3,
    )
    with optimising():
        agent = build(config, jr.key(0))
    arrays, static = eqx.partition(agent, eqx.is_array)

    @jax.jit
    def learn(arrays, keys):
        def step(arrays, key):
            batch = replay.sample(buffer, key, 256, DISCOUNT)
            batch = batch._replace(goals=goal_of(batch.goals))
            agent, metrics = eqx.combine(arrays, static).update(batch, jr.fold_in(key, 1))
            return eqx.filter(agent, eqx.is_array), metrics["loss"]

        return jax.lax.scan(step, arrays, keys)

    with optimising():
        arrays, losses = learn(arrays, jr.split(jr.key(1), 3000))
    agent = eqx.combine(arrays, static)
    # No density of noisy data can on average be above the noise's own, -(d/2) ln(2 pi e sigma^2).
    assert -np.mean(losses[-100:]) < -np.log(2 * np.pi * np.e * config.noise**2)
    goals = goal_of(replay.sample(buffer, jr.key(2), 20_000, DISCOUNT).goals)
    marginal = histogram(goals)
    found = {"p(g)": (slices(lambda grid: coverage(agent, grid)), marginal)}
    for i, (state, action) in enumerate(STARTS):
        observation = ROBOT.observation(state)
        mass = slices(lambda grid, o=observation, a=action: quality(agent, o, a, grid))
        found[f"p(g | s{i}, a{i})"] = (mass, occupancy(state, action, DISCOUNT))
    print({name: round(distance(*pair), 3) for name, pair in found.items()})
    for name, (ours, true) in found.items():
        assert 0.97 < ours.sum() < 1.03, name
        assert distance(ours, true) < BOUND, name
    # The bound means something: what other readings of the method would give is further away.
    for i, (state, action) in enumerate(STARTS):
        true = found[f"p(g | s{i}, a{i})"][1]
        others = [occupancy(state, action, 0.5), occupancy(state, action, 0.99), marginal]
        print([round(distance(true, other), 3) for other in others])
        assert min(distance(true, other) for other in others) > 2 * BOUND


# The loop


TRAINING = ExploreTraining(
    environment_steps=240,
    environments=4,
    unroll=5,
    updates=2,
    batch_size=16,
    discount=0.9,
    buffer_steps=40,
    prefill=10,
    candidates=8,
    evaluation_episodes=2,
    log_every=5,
    checkpoint_every=5,
    keep=9,
)


def folders(root, seeds) -> list[RunFolder]:
    return [RunFolder(root / f"seed-{seed}") for seed in seeds]


def lines(run: RunFolder) -> list[dict]:
    found = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    for line in found:
        assert line.pop("seconds") >= 0
    return found


def assert_same_runs(ones, others):
    for one, other in zip(ones, others, strict=True):
        files = [checkpoints.steps_in(run.checkpoints) for run in (one, other)]
        assert list(files[0]) == list(files[1])
        for a, b in zip(files[0].values(), files[1].values(), strict=True):
            assert a.read_bytes() == b.read_bytes(), a
        assert lines(one) == lines(other)
        with np.load(one.maze_file) as a, np.load(other.maze_file) as b:
            assert a.files == b.files
            assert all(np.array_equal(a[name], b[name]) for name in a.files)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two seeds of an uninterrupted run."""
    runs = folders(tmp_path_factory.mktemp("whole"), (0, 1))
    agents = explore(runs, (0, 1), TINY["nf-ugs"], TRAINING, HALL_MAZE)
    return runs, agents


def test_two_devices_explore_as_one_does(whole, tmp_path):
    """A seed each: but for rounding, which a simulator soon makes more of, in its first rounds."""
    runs = folders(tmp_path, (0, 1))
    training = dataclasses.replace(TRAINING, devices=2)
    explore(runs, (0, 1), TINY["nf-ugs"], training, HALL_MAZE)
    for ours, theirs in zip(runs, whole[0], strict=True):
        for line, other in zip(lines(ours)[:2], lines(theirs)[:2], strict=True):
            assert line.keys() == other.keys()
            assert line["cells"] == other["cells"]


def test_the_speed_of_exploring_is_measured():
    speed = exploring_speed(TINY["crl-uniform"], TRAINING, HALL_MAZE, rounds=1)
    assert all(value > 0 for value in dataclasses.astuple(speed))
    # An update for 10 steps: 2 in a round of 4 robots' 5.
    assert speed.steps_per_second == pytest.approx(10 * speed.updates_per_second)
    assert speed.environment_steps_per_second > speed.steps_per_second
    assert speed.gain > 1, "a call for each step costs more than the step"
    too_large = dataclasses.replace(TRAINING, batch_size=1000)
    with pytest.raises(UserError, match="batch-size"):
        exploring_speed(TINY["crl-uniform"], too_large, HALL_MAZE)


def test_resume_is_equal_to_the_bit(whole, tmp_path):
    runs, _ = whole
    # Prefill of 2 rounds, and then chunks of 5.
    assert [line["step"] for line in lines(runs[0])] == [40, 140, 240]
    assert list(checkpoints.steps_in(runs[0].checkpoints)) == [40, 140, 240]
    assert lines(runs[0]) != lines(runs[1]), "seeds differ"
    broken = folders(tmp_path, (0, 1))
    for run, other in zip(broken, runs, strict=True):
        shutil.copytree(other.path, run.path)
        for step in (140, 240):
            checkpoints.path_of(run.checkpoints, step).unlink()
    # Killed past the checkpoint of step 40: what came after it is measured and drawn again.
    explore(broken, (0, 1), TINY["nf-ugs"], TRAINING, HALL_MAZE)
    assert_same_runs(broken, runs)


def test_ctrl_c_saves_what_was_done_and_loses_nothing(tmp_path):
    """Between checkpoints; and the last chunk may be short."""
    training = dataclasses.replace(
        TRAINING, environment_steps=260, log_every=4, checkpoint_every=12, batch_size=8
    )
    common = ((0,), TINY["crl-minmax"], training, HALL_MAZE)
    whole, stopped = folders(tmp_path / "whole", (0,)), folders(tmp_path / "stopped", (0,))
    explore(whole, *common)
    assert list(checkpoints.steps_in(whole[0].checkpoints)) == [40, 260]

    def interrupt(step: int, _: dict[str, float]) -> None:
        if step == 120:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        explore(stopped, *common, interrupt)
    # The chunk in hand was finished.
    assert list(checkpoints.steps_in(stopped[0].checkpoints)) == [40, 200]
    explore(stopped, *common)
    checkpoints.path_of(stopped[0].checkpoints, 200).unlink()
    assert_same_runs(stopped, whole)


def test_metrics_count_what_happened(whole):
    (run, _), _ = whole
    first, *later = lines(run)
    assert "loss" not in first, "the prefill has no updates"
    assert [line["updates"] for line in (first, *later)] == [0, 10, 20]
    for line in later:
        assert np.isfinite([line["loss"], line["grad_norm"], line["entropy"]]).all()
        assert len(line["successes"]) == len(HALL.goals) == 4
        np.testing.assert_allclose(line["success"], np.mean(line["successes"]), rtol=1e-6)
        assert line["success_hard"] == line["successes"][-1]
        assert line["success_easy"] >= line["success"]
        assert line["coverage"] == pytest.approx(line["cells"] / 5)
    with np.load(run.maze_file) as maze:
        assert maze["steps"].tolist() == [40, 140, 240]
        np.testing.assert_array_equal(maze["visits"].sum((1, 2)), maze["steps"])
        assert (maze["visits"][:, HALL.walls] == 0).all()
        assert maze["coverage"].shape == (3, 12, 28)
        assert maze["q"].shape == (3, 2, 12, 28)


def test_a_loaded_explorer_is_the_one_that_was_trained(whole):
    runs, agents = whole
    for run, agent in zip(runs, agents, strict=True):
        loaded = load_explorer(run, TINY["nf-ugs"], HALL_MAZE)
        assert same(loaded, agent)
        batch = (jnp.ones(OBSERVATION), jnp.ones(2), jr.key(0))
        np.testing.assert_array_equal(loaded.act(*batch), agent.act(*batch))
    assert load_explorer(runs[0], TINY["nf-ugs"], HALL_MAZE, 40) is not None
    with pytest.raises(UserError, match="no checkpoint"):
        load_explorer(RunFolder(runs[0].path / "none"), TINY["nf-ugs"], HALL_MAZE)


@pytest.mark.parametrize("name", ["nf-ugs", "crl-oracle"])
def test_rounds_move_remember_and_command(name):
    """The buffer holds what the robots did, and goals are the buffer's or the test's."""
    training = dataclasses.replace(TRAINING, updates=1)
    state = exploring.initial_state(TINY[name], training, HALL_MAZE, jr.key(0))
    arrays, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def one_round(arrays, index):
        state = eqx.combine(arrays, static)
        command_key, act_key, _, _ = exploring._round_keys(jr.key(7), index)
        state = exploring.command(state, training, HALL_MAZE, index, command_key)
        state = exploring.move(state, training, HALL_MAZE, index, act_key)
        return eqx.filter(state, eqx.is_array)

    for index in range(8):  # two episodes of four rounds fill the ring
        before = eqx.combine(arrays, static)
        arrays = one_round(arrays, index)
        state = eqx.combine(arrays, static)
        new = index % 4 == 0
        assert np.array_equal(before.goals, state.goals) is not new, "a goal is for an episode"
    robot, buffer = HALL_MAZE.robot, state.replay
    assert int(buffer.inserted) == 40
    np.testing.assert_array_equal(
        np.unique(buffer.episodes, return_counts=True), [[0, 1], [80, 80]]
    )
    was = buffer.observations[:, :-1].reshape(-1, OBSERVATION)
    states = PointState(was[:, :2], was[:, 2:])
    moved = jax.vmap(robot.step)(states, buffer.actions[:, :-1].reshape(-1, ACTION))
    found = buffer.observations[:, 1:].reshape(-1, OBSERVATION)
    within = np.tile(np.arange(39) % 20 != 19, 4)
    np.testing.assert_allclose(jnp.concatenate(moved, 1)[within], found[within], atol=1e-5)
    begun = goal_of(buffer.observations[:, [0, 20]])
    assert np.abs(begun - CELL).max() <= 0.1, "both episodes begin at the start"
    known = HALL.goals if name == "crl-oracle" else goal_of(buffer.observations[:, :20])
    known = np.asarray(known).reshape(-1, 2)
    assert all((goal == known).all(1).any() for goal in np.asarray(state.goals))
    cells, counts = np.unique(
        HALL.cell_of(goal_of(buffer.observations)).reshape(-1, 2), axis=0, return_counts=True
    )
    np.testing.assert_array_equal(state.visits[cells[:, 0], cells[:, 1]], counts)


def test_goals_commanded_every_round_are_later_states_and_leave_the_episodes_alone():
    """As in the paper's code. Robots that wait are nowhere twice: only later rows are hindsight."""
    training = dataclasses.replace(
        TRAINING, updates=1, command_every="round", candidate_goals="hindsight"
    )
    state = exploring.initial_state(TINY["crl-uniform"], training, HALL_MAZE, jr.key(0))

    @eqx.filter_jit
    def one_round(state, index):
        command_key, act_key, _, _ = exploring._round_keys(jr.key(7), index)
        commanded = exploring.command(state, training, HALL_MAZE, index, command_key)
        return commanded, exploring.move(commanded, training, HALL_MAZE, index, act_key)

    for index in range(8):
        commanded, after = one_round(state, jnp.asarray(index))
        if index:
            assert not np.array_equal(commanded.goals, state.goals)
            kept = [
                np.array_equal(*pair) for pair in zip(commanded.robots, state.robots, strict=True)
            ]
            assert all(kept) is (index % 4 != 0), "robots begin anew with an episode alone"
            # Goals are of rows that have an earlier one in their episode.
            rows = np.asarray(goal_of(state.replay.observations))[:, : 5 * index]
            later = np.delete(rows, np.arange(0, 5 * index, 20), axis=1).reshape(-1, 2)
            for goal in np.asarray(commanded.goals):
                assert (goal == later).all(1).any()
        state = after


def test_evaluation_counts_who_comes_near():
    """A robot that heads for its goal reaches all, one that stays reaches none."""

    def heading(observation, goal):
        return jnp.clip(2 * (goal - observation[:2]) - 0.5 * observation[2:], -1, 1)

    def stays(observation, goal):
        return jnp.zeros(2)

    def halfway(observation, goal):
        return heading(observation, jnp.minimum(goal, jnp.array([4.0, 12.0])))

    expected = {heading: [1, 1, 1, 1], stays: [0, 0, 0, 0], halfway: [1, 1, 0, 0]}
    for mode, right in expected.items():
        agent = SimpleNamespace(policy=SimpleNamespace(mode=mode))
        found = jax.jit(lambda key, a=agent: evaluate(a, HALL_MAZE, 3, key))(jr.key(0))
        assert found["successes"].tolist() == right
        assert float(found["success"]) == np.mean(right)
        assert float(found["success_hard"]) == right[-1]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = dataclasses.replace(TINY["crl-uniform"], learning_rate=1e30)
    with pytest.raises(NonFiniteLossError, match="last good checkpoint") as caught:
        explore(folders(tmp_path, (3,)), (3,), config, TRAINING, HALL_MAZE)
    assert caught.value.seed == 3
    assert "\n" not in str(caught.value)
    assert list(checkpoints.steps_in(tmp_path / "seed-3" / "checkpoints")) == [40]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unroll": 7}, r"unroll \(7\) must divide the 20 steps"),
        ({"buffer_steps": 15}, "an episode of hall .20 steps. does not fit the buffer"),
        ({"batch_size": 37}, r"batch-size \(37\) is more than the 36 transitions"),
        ({"discount": 1.0}, "discount must lie"),
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"checkpoint_every": 7}, "multiple of"),
    ],
)
def test_values_that_cannot_work_are_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        explore(
            folders(tmp_path, (0,)),
            (0,),
            TINY["nf-ugs"],
            dataclasses.replace(TRAINING, **changes),
            HALL_MAZE,
        )
    assert not list(tmp_path.iterdir())


def test_the_largest_batch_is_what_the_buffer_holds():
    dataclasses.replace(TRAINING, batch_size=36).check(HALL_MAZE)
    state = exploring.initial_state(TINY["crl-oracle"], TRAINING, HALL_MAZE, jr.key(0))
    taken = sum(array.nbytes for array in arrays_of(state.replay)) - state.replay.inserted.nbytes
    assert exploring.buffer_bytes(TRAINING, HALL_MAZE) == taken


# Figures


def test_figures_of_a_run_and_of_one_without_a_density(whole, tmp_path):
    runs, _ = whole
    names = ["coverage", "visits", "commanded", "density", "conditional", "goals"]
    paths = draw_maze_figures(runs[0].path, tmp_path / "figures")
    assert paths == [tmp_path / "figures" / f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    with np.load(runs[0].maze_file) as maze:
        # One moment alone, and the agent of a baseline.
        along = ("steps", "visits", "commanded", "q", "successes")
        arrays = {k: maze[k][:1] if k in along else maze[k] for k in maze.files if k != "coverage"}
    np.savez(other.maze_file, **arrays)
    names = [path.stem for path in draw_maze_figures(other.path, tmp_path / "more")]
    assert names == ["visits", "commanded", "conditional", "goals"]
    with pytest.raises(UserError, match=r"no maze\.npz"):
        draw_maze_figures(tmp_path, tmp_path)
