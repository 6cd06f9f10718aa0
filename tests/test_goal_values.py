"""Goal-conditioned agents with values: their formulas, what each loss moves, and a line to walk."""

import dataclasses
import functools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from nfrl.agents import GCIQLConfig, GCIVLConfig, HIQLConfig, OfflineCRLConfig, QRLConfig
from nfrl.agents.offline_crl import OfflineCRL
from nfrl.agents.parts.goal_values import implicit_v_loss
from nfrl.agents.parts.optimization import constant_adam
from nfrl.agents.parts.quasimetric import INTERVALS, Quasimetric, covered
from nfrl.benchmarks.ogbench.tasks import TASKS
from nfrl.benchmarks.presets import LAPTOP_AGENTS, find_preset
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import GoalMixture, GoalTransitions
from nfrl.errors import UserError
from nfrl.spec import Spec

SPEC, BATCH = Spec.vectors(2, 1), 64
SIZES = {"hidden": (32, 32), "critic": (32, 32), "optimizer": constant_adam(3e-3)}
FAST = {"tau": 0.05, "discount": 0.9}
TINY = {
    "gcivl": GCIVLConfig(**SIZES, **FAST, alpha=5.0),
    "gciql": GCIQLConfig(**SIZES, **FAST, alpha=0.1),
    "qrl": QRLConfig(**SIZES, latent_dim=16, alpha=0.1),
    "crl": OfflineCRLConfig(**SIZES, discount=0.9, latent_dim=16, alpha=0.1),
    "hiql": HIQLConfig(**SIZES, **FAST, steps_ahead=4, representation_dim=4),
}
PARTS = {  # of an agent, beside what acts
    "gcivl": "values",
    "gciql": "critics",
    "qrl": "distances",
    "crl": "critic",
    "hiql": "values",
}


@functools.cache
def untrained(name: str):
    """Return an agent; agents are values, so that all tests can share them."""
    return TINY[name].build(jr.key(0), SPEC, 400)


# Compiled once for each agent.
update = eqx.filter_jit(lambda agent, batch: agent.update(batch, jr.key(0)))
validate = eqx.filter_jit(lambda agent, batch: agent.validate(batch, jr.key(0)))
each = eqx.filter_jit(lambda network, inputs: jax.vmap(network)(inputs))
draw = eqx.filter_jit(lambda agent, data, keys: jax.vmap(partial(_draw, agent, data))(keys))
jitted = eqx.filter_jit(lambda f, arguments: f(*arguments))


def _draw(agent, data, key):
    return agent.draw(data, key, BATCH)


def call(f, *arguments) -> np.ndarray:
    """Call a method of a network as one compiled program."""
    return np.asarray(jitted(f, arguments))


@pytest.fixture(params=list(TINY))
def name(request):
    return request.param


@pytest.fixture
def batch(name):
    return made(name)


@functools.cache
def made(name: str) -> GoalTransitions:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(6, BATCH, 2)).astype(np.float32)
    there = rng.random(BATCH) < 0.3
    return GoalTransitions(
        states[0],
        rng.uniform(-1, 1, (BATCH, 1)).astype(np.float32),
        np.where(there, 0, -1).astype(np.float32),
        np.where(there, 0, 1).astype(np.float32),
        *states[1:4],
        np.ones(BATCH, np.float32),
        *(states[4:] if name == "hiql" else (None, None)),
    )


# Formulas


def log_density(mean, inputs, actions):
    return norm.logpdf(actions, each(mean, inputs)).sum(-1)


def joined(*parts):
    return np.concatenate(parts, -1)


def awr(mean, inputs, actions, advantages, alpha):
    weights = np.minimum(np.exp(alpha * advantages), 100)
    return -(weights * log_density(mean, inputs, actions)).mean()


def ddpg_bc(agent, inputs, actions, q):
    means = each(agent.policy, inputs)
    values = q(np.clip(means, -1, 1))
    imitated = log_density(agent.policy, inputs, actions).mean()
    return -values.mean() / np.abs(values).mean() - agent.config.alpha * imitated


def implicit_v(values, target, batch, config):
    """Of functions of (states, goals) that return (batch, 2)."""
    after = target(batch.next_observations, batch.goals)
    y = batch.rewards[:, None] + config.discount * batch.masks[:, None] * after
    advantage = y.min(1) - target(batch.observations, batch.goals).mean(1)
    weight = np.where(advantage >= 0, config.expectile, 1 - config.expectile)
    error = y - values(batch.observations, batch.goals)
    return (weight * (error[:, 0] ** 2 + error[:, 1] ** 2)).mean()


def losses_of_gcivl(agent, batch):
    gain = [
        call(agent.values.batch, state, batch.actor_goals).mean(1)
        for state in (batch.next_observations, batch.observations)
    ]
    inputs = joined(batch.observations, batch.actor_goals)
    return {
        "value_loss": implicit_v(
            partial(call, agent.values.batch),
            partial(call, agent.target_values.batch),
            batch,
            agent.config,
        ),
        "actor_loss": awr(
            agent.policy, inputs, batch.actions, gain[0] - gain[1], agent.config.alpha
        ),
    }


def losses_of_gciql(agent, batch):
    config, critics = agent.config, agent.critics
    here, after = (
        joined(state, batch.goals) for state in (batch.observations, batch.next_observations)
    )
    u = call(critics.target_critic.batch, here, batch.actions).min(1) - call(critics.values, here)
    y = batch.rewards + config.discount * batch.masks * call(critics.values, after)
    error = call(critics.critic.batch, here, batch.actions) - y[:, None]
    inputs = joined(batch.observations, batch.actor_goals)
    return {
        "value_loss": (np.where(u < 0, 1 - config.expectile, config.expectile) * u**2).mean(),
        "critic_loss": (error**2).mean(),
        "actor_loss": ddpg_bc(
            agent, inputs, batch.actions, lambda a: call(critics.critic.batch, inputs, a).min(1)
        ),
    }


def losses_of_qrl(agent, batch):
    metric = agent.distances.metric
    embedded = {
        field: call(metric.embed, getattr(batch, field))
        for field in ("observations", "next_observations", "goals", "actor_goals")
    }
    here, after = embedded["observations"], embedded["next_observations"]
    between = partial(call, metric.between)
    far, step = (between(here, x) for x in (embedded["goals"], after))
    excess = (np.maximum(step - 1, 0) ** 2).mean()
    model = partial(each, agent.distances.model)
    guess = here + model(joined(here, batch.actions))
    wrong = (between(after, guess) + between(guess, after)).mean() / 2
    weight = np.exp(agent.distances.log_lambda)
    apart = (100 * np.log1p(np.exp(5 - far / 100))).mean()
    inputs = joined(batch.observations, batch.actor_goals)

    def q(actions):
        return -between(here + model(joined(here, actions)), embedded["actor_goals"])

    return {
        "distance_loss": apart + weight * excess + weight * (agent.config.epsilon - excess) + wrong,
        "actor_loss": ddpg_bc(agent, inputs, batch.actions, q),
    }


def losses_of_crl(agent, batch):
    def logits(member, actions, goals):
        phi = each(member.phi, joined(batch.observations, actions))
        return phi @ each(member.psi, goals).T / np.sqrt(16)

    own = np.eye(BATCH)
    entropies = []
    for member in agent.critic:
        f = logits(member, batch.actions, batch.goals)
        entropies.append(own * np.log1p(np.exp(-f)) + (1 - own) * np.log1p(np.exp(f)))
    inputs = joined(batch.observations, batch.actor_goals)

    def log_q(actions):
        both = [np.diag(logits(member, actions, batch.actor_goals)) for member in agent.critic]
        return np.minimum(*both)

    return {
        "critic_loss": np.mean(entropies),
        "actor_loss": ddpg_bc(agent, inputs, batch.actions, log_q),
    }


def losses_of_hiql(agent, batch):
    values = agent.values
    state, config = batch.observations, agent.config

    def phi(states, goals):
        raw = each(values.phi, joined(states, goals))
        return 2 * raw / np.linalg.norm(raw, axis=1, keepdims=True)  # of four numbers

    def of(heads):
        return lambda states, goals: call(heads.batch, states, phi(states, goals))

    def gain(after, goals):
        before = of(values.heads)(state, goals)
        return (of(values.heads)(after, goals) - before).mean(1)

    low_inputs = joined(state, phi(state, batch.subgoals))
    return {
        "value_loss": implicit_v(of(values.heads), of(agent.target_heads), batch, config),
        "high_actor_loss": awr(
            agent.policy.high,
            joined(state, batch.actor_goals),
            phi(state, batch.actor_subgoals),
            gain(batch.actor_subgoals, batch.actor_goals),
            config.high_alpha,
        ),
        "low_actor_loss": awr(
            agent.policy.low,
            low_inputs,
            batch.actions,
            gain(batch.next_observations, batch.subgoals),
            config.low_alpha,
        ),
    }


FORMULAS = {
    "gcivl": losses_of_gcivl,
    "gciql": losses_of_gciql,
    "qrl": losses_of_qrl,
    "crl": losses_of_crl,
    "hiql": losses_of_hiql,
}


def test_the_losses_are_the_formulas_and_what_an_update_reports(name, batch):
    agent, _ = update(untrained(name), batch)  # so that targets differ from what follows them
    found, (_, reported) = validate(agent, batch), update(agent, batch)
    for loss, value in FORMULAS[name](agent, batch).items():
        np.testing.assert_allclose(found[loss], value, rtol=2e-4, atol=1e-5, err_msg=loss)
    for metric, value in found.items():
        np.testing.assert_allclose(reported[metric], value, rtol=1e-4, atol=1e-5, err_msg=metric)


# What each loss moves


def test_values_and_actors_learn_from_their_own_goals(name, batch):
    """Other goals for the actor change no values, and other goals for values no actor."""
    agent, part = untrained(name), PARTS[name]
    elsewhere = {"goals": batch.goals + 1, "rewards": batch.rewards - 1}
    for_actor = {"actor_goals": batch.actor_goals + 1}
    usual, valued, acted = (
        update(agent, batch._replace(**changes))[0] for changes in ({}, elsewhere, for_actor)
    )
    assert eqx.tree_equal(usual.policy, valued.policy)
    assert not eqx.tree_equal(usual.policy, acted.policy)
    assert eqx.tree_equal(getattr(usual, part), getattr(acted, part))
    assert not eqx.tree_equal(getattr(usual, part), getattr(valued, part))
    assert eqx.tree_equal(agent, untrained(name))


def test_both_levels_of_a_hierarchy_learn_from_their_own_subgoals():
    agent, batch = untrained("hiql"), made("hiql")
    usual, low, high = (
        update(agent, batch._replace(**{field: batch.observations} if field else {}))[0].policy
        for field in (None, "subgoals", "actor_subgoals")
    )
    assert eqx.tree_equal(usual.high, low.high)
    assert eqx.tree_equal(usual.low, high.low)
    assert not eqx.tree_equal(usual.low, low.low)
    assert not eqx.tree_equal(usual.high, high.high)


@pytest.mark.parametrize(
    ("name", "online", "target"),
    [
        ("gcivl", lambda agent: agent.values, lambda agent: agent.target_values),
        ("gciql", lambda agent: agent.critics.critic, lambda agent: agent.critics.target_critic),
        ("hiql", lambda agent: agent.values.heads, lambda agent: agent.target_heads),
    ],
)
def test_targets_follow_slowly(name, online, target, batch):
    before = untrained(name)
    after, _ = update(before, batch)
    arrays = [
        jax.tree.leaves(eqx.filter(each, eqx.is_array))
        for each in (target(before), online(after), target(after))
    ]
    for old, new, found in zip(*arrays, strict=True):
        np.testing.assert_allclose(found, 0.95 * old + 0.05 * new, atol=1e-6)


def test_lambda_grows_while_steps_are_too_long():
    agent, batch = untrained("qrl"), made("qrl")
    far = batch._replace(next_observations=batch.observations + 100)
    still = batch._replace(next_observations=batch.observations)
    assert update(agent, far)[0].distances.log_lambda > 0
    assert update(agent, still)[0].distances.log_lambda < 0


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_best_v_is_the_expectile_of_what_follows(expectile):
    """Where the target has come to rest, the gradient vanishes at the expectile, and only there."""
    y = np.random.default_rng(1).normal(size=500).astype(np.float32)
    v = y.mean()
    for _ in range(100):
        weight = np.where(y >= v, expectile, 1 - expectile)
        v = (weight * y).sum() / weight.sum()
    config = dataclasses.replace(TINY["gcivl"], expectile=expectile)
    empty = np.zeros((500, 2), np.float32)
    batch = GoalTransitions(
        empty, empty, y, np.zeros(500, np.float32), empty, empty, empty, np.ones(500, np.float32)
    )

    def loss(v):
        values = jnp.full((500, 2), v)
        return implicit_v_loss(values, jax.lax.stop_gradient(values), values, batch, config)

    slope = jax.grad(loss)
    assert abs(slope(v)) < 1e-4
    assert slope(v - 0.1) < -0.01
    assert slope(v + 0.1) > 0.01


# Quasimetrics


def test_intervals_cover_what_their_union_does():
    rng = np.random.default_rng(0)
    low, high = rng.uniform(0, 1, (2, 50, 5)).astype(np.float32)
    grid = (np.arange(20_000) + 0.5) / 20_000
    inside = (low[..., None] <= grid) & (grid < high[..., None])
    np.testing.assert_allclose(call(covered, low, high), inside.any(1).mean(-1), atol=1e-3)


def test_a_quasimetric_keeps_the_triangle_inequality():
    metric = Quasimetric(jr.key(0), 3, (16,), 4 * INTERVALS)
    states = np.random.default_rng(1).normal(size=(600, 3)).astype(np.float32)
    x, y, z = call(metric.embed, states).reshape(3, 200, -1)
    between = partial(call, metric.between)
    there, back = between(x, y), between(y, x)
    assert (there >= 0).all()
    assert (np.abs(there - back) > 1e-3).mean() > 0.9  # a distance in one direction
    assert (between(x, z) <= there + between(y, z) + 1e-5).all()
    np.testing.assert_array_equal(between(x, x), 0)
    gradient = jax.jit(jax.grad(lambda x: metric.between(x, y).sum()))(x)
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any()


# Goals as the options show them


def test_options_see_every_goal_of_a_batch():
    """Two of three goals of a batch would otherwise be of whole and of raw observations."""
    batch = made("hiql")
    data = Dataset.from_arrays(
        np.random.default_rng(0).normal(5, 3, (20, 2)), np.zeros((20, 1)), np.arange(20) == 19
    )
    config = dataclasses.replace(
        TINY["hiql"], goal_columns=(1,), standardize=True, chunk=3, executed=2
    )
    agent = config.build(jr.key(0), SPEC, 10, data)
    drawn = draw(agent, data, jr.split(jr.key(1), 2))
    assert drawn.actions.shape == (2, BATCH, 3)
    assert drawn.steps.max() == 3
    seen = agent.agent.agent.see_batch(agent.agent.see_batch(batch))
    mean, deviation = (np.asarray(f(data.observations, 0)) for f in (np.mean, np.std))
    for field in ("observations", "next_observations"):
        expected = (getattr(batch, field) - mean) / deviation
        np.testing.assert_allclose(getattr(seen, field), expected, rtol=1e-3, atol=1e-4)
    for field in ("goals", "actor_goals", "subgoals", "actor_subgoals"):
        shown = getattr(batch, field) * [0, 1]
        expected = (shown - mean) / deviation
        np.testing.assert_allclose(getattr(seen, field), expected, rtol=1e-3, atol=1e-4)
    assert agent.act(jnp.zeros(2), jnp.ones(2), jr.key(0)).shape == (3, 1)
    assert (agent.capabilities.predicted, agent.capabilities.executed) == (3, 2)


def test_chunks_for_partial_goals_are_learned_like_actions(name):
    """Tracing suffices: shapes and structure are those of before."""
    config = dataclasses.replace(TINY[name], goal_columns=(1,), standardize=True, chunk=3)
    agent, data = config.build(jr.key(0), SPEC, 10), on_a_line()
    shapes = eqx.filter_eval_shape(lambda: agent.update(agent.draw(data, jr.key(1), 8), jr.key(2)))
    arrays = [eqx.filter_eval_shape(lambda: agent), shapes[0]]
    before, after = ([(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x)] for x in arrays)
    assert before == after
    assert shapes[1]["loss"].shape == ()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (partial(GoalMixture, 0.6, 0.5), "same and random together at most 1; got 0.6 and 0.5"),
        (partial(GCIVLConfig, expectile=1.0), r"expectile must lie in \(0, 1\); got 1.0"),
        (partial(GCIQLConfig, discount=1.0), r"discount must lie in \[0, 1\)"),
        (partial(HIQLConfig, steps_ahead=0), "steps-ahead must be at least 1; got 0"),
        (partial(OfflineCRLConfig, latent_dim=0), "latent-dim must be at least 1; got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, line):
    with pytest.raises(UserError, match=line):
        make()


def test_a_quasimetrics_width_is_whole_groups():
    with pytest.raises(UserError, match="latent-dim must be a multiple of 8; got 12"):
        dataclasses.replace(TINY["qrl"], latent_dim=12).build(jr.key(0), SPEC, 10)


# Presets


@pytest.mark.parametrize(
    ("agent", "task", "expected"),
    [
        ("gciql", "pointmaze-medium-navigate-v0", {"alpha": 0.003, "discount": 0.99}),
        ("gciql", "cube-single-play-v0", {"alpha": 1.0}),
        ("gciql", "antmaze-medium-explore-v0", {"alpha": 0.01}),
        ("qrl", "humanoidmaze-medium-navigate-v0", {"alpha": 0.001, "discount": 0.995}),
        ("crl", "scene-noisy-v0", {"alpha": 0.1}),
        ("crl", "antsoccer-arena-navigate-v0", {"alpha": 0.3, "discount": 0.99}),
        ("gcivl", "antmaze-giant-navigate-v0", {"alpha": 10.0, "discount": 0.995}),
        ("hiql", "humanoidmaze-large-stitch-v0", {"steps_ahead": 100, "high_alpha": 3.0}),
        ("hiql", "antmaze-large-explore-v0", {"steps_ahead": 25, "low_alpha": 10.0}),
        ("hiql", "puzzle-3x3-play-v0", {"steps_ahead": 10, "expectile": 0.7}),
    ],
)
def test_the_paper_preset_is_ogbenchs(agent, task, expected):
    config = type(TINY[agent])()
    for name, batch_size in (("paper", 1024), ("laptop", 256)):
        preset = find_preset(name, agent, config, TASKS[task])
        assert {field: getattr(preset.agent, field) for field in expected} == expected
        assert preset.training.batch_size == batch_size
        kinds = {"stitch": 0.5, "explore": 1.0}
        assert preset.agent.actor_goals.random == kinds.get(task.split("-")[-2], 0.0)
    assert find_preset("paper", agent, config, TASKS[task]).training.steps == 1_000_000


def test_on_a_laptop_all_are_about_as_large(name):
    """On cube-single, actors and values together; a target learns nothing."""
    config = LAPTOP_AGENTS[name]
    agent = eqx.filter_eval_shape(lambda: config.build(jr.key(0), Spec.vectors(28, 5), 10))
    learned = [agent.policy, getattr(agent, PARTS[name])]
    if name == "gciql":
        learned[1] = agent.critics.value, agent.critics.critic
    sizes = [leaf.size for leaf in jax.tree.leaves(learned) if hasattr(leaf, "size")]
    assert 270_000 < sum(sizes) < 330_000


# Learning

PLACES = np.linspace(-0.9, 0.9, 7)


def on_a_line() -> Dataset:
    """Random walks between -1 and 1, in steps of up to 0.3; the second column says nothing."""
    rng = np.random.default_rng(0)
    walks, length = 60, 30
    place, rows = rng.uniform(-1, 1, walks), []
    for _ in range(length):
        action = rng.uniform(-1, 1, walks)
        rows.append((place, rng.normal(size=walks), action))
        place = np.clip(place + 0.3 * action, -1, 1)
    x, noise, actions = np.array(rows).transpose(1, 2, 0).reshape(3, -1)
    ends = np.arange(walks * length) % length == length - 1
    return Dataset.from_arrays(np.stack((x, 0.1 * noise), 1), actions[:, None], ends)


@eqx.filter_jit
def walk(agent, starts, goals):
    """Return where 25 steps from each start lead, on the way to each goal."""

    def one(start, goal):
        def move(x, _):
            action = agent.act(jnp.stack((x, 0.0)), jnp.stack((goal, 0.0)), jr.key(0))[0]
            return jnp.clip(x + 0.3 * action, -1, 1), None

        return jax.lax.scan(move, start, None, length=25)[0]

    return jax.vmap(one)(starts, goals)


def values_of(agent, places, goal):
    """Return how good places are on the way to a goal; doing nothing there, if need be."""
    still = np.zeros((len(places), 1), np.float32)
    if isinstance(agent, OfflineCRL):
        goals = np.tile(goal, (len(places), 1))
        phi, psi = jitted(agent.critic[0].embed, (places, still, goals))
        return (phi * psi).sum(1)
    if agent.capabilities.values:
        return [
            call(agent.q, place, goal, action) for place, action in zip(places, still, strict=True)
        ]
    return [call(agent.value, place, goal) for place in places]


def test_values_order_a_line_and_the_policy_walks_it(name):
    agent, data = untrained(name), on_a_line()
    batches = jax.tree.map(np.asarray, draw(agent, data, jr.split(jr.key(1), 400)))
    for i in range(400):
        agent, metrics = update(agent, jax.tree.map(lambda leaf, i=i: leaf[i], batches))
    assert np.isfinite(metrics["loss"])
    # A random walk, as the data's, ends about 0.7 away.
    goals = np.array([0.6, -0.6, -0.8], np.float32)
    ends = walk(agent, np.array([-0.9, 0.9, 0.0], np.float32), goals)
    assert np.abs(ends - goals).max() < 0.35, ends
    places = np.stack((PLACES, np.zeros(7)), 1).astype(np.float32)
    values = values_of(agent, places, places[-1])
    assert spearmanr(values, PLACES).statistic > 0.9, values
