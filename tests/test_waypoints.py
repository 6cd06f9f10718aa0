"""Plans of waypoints: the graph of places, its samples, and an agent that goes where it plans."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents import NFWaypointsConfig, NFWaypointsRLConfig
from nfrl.agents.parts.optimization import AdamW
from nfrl.agents.parts.places import FAR, PlaceGraph, jump_distance, spread
from nfrl.cli.words import from_file, with_slots
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import sample_waypoints
from nfrl.errors import UserError
from nfrl.flows import GaussianConfig, RealNVPConfig
from nfrl.spec import Spec

SMALL = NFWaypointsConfig(
    goal_columns=(0, 1),
    steps_ahead=5,
    landmarks=40,
    candidates=16,
    flow=RealNVPConfig(2, 16),
    encoder=(32,),
    condition_dim=16,
    prior=RealNVPConfig(2, 16),
    prior_encoder=(32,),
    prior_condition_dim=16,
    value_hidden=(16,),
    optimizer=AdamW(learning_rate=3e-3, warmup_steps=10),
    plan_optimizer=AdamW(learning_rate=3e-3, warmup_steps=10),
)
SPEC = Spec.vectors(4, 2)


def around_the_wall(walks=40, seed=0):
    """Walks through a U: from (0, 0) along x to (3, 0), up to (3, 1), back to (0, 1), and back."""
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0], [3, 0], [3, 1], [0, 1]], float)
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum()
    observations, actions, terminals = [], [], []
    for walk in range(walks):
        along = np.arange(0, lengths[-1], 0.1)
        if walk % 2:
            along = along[::-1]
        path = np.stack(
            [np.interp(along, [0, *lengths], corners[:, axis]) for axis in range(2)], axis=1
        )
        path += 0.02 * rng.normal(size=path.shape)
        moves = np.diff(path, axis=0, append=path[-1:]) / 0.1
        observations.append(np.concatenate([path, rng.normal(size=path.shape)], axis=1))
        actions.append(np.clip(moves, -1, 1))
        terminals.append(np.arange(len(path)) == len(path) - 1)
    return Dataset.from_arrays(*map(np.concatenate, (observations, actions, terminals)))


@pytest.fixture(scope="module")
def data():
    return around_the_wall()


@pytest.fixture(scope="module")
def graph(data):
    places = np.asarray(data.observations)[:, :2]
    return PlaceGraph.of(places, np.asarray(data.last), landmarks=60, reach=5)


def test_steps_lead_round_a_wall_and_not_through_it(graph):
    goal = jnp.array([0.0, 1.0])
    starts = jnp.array([[0.0, 0.0], [3.0, 0.5], [1.0, 1.0], [0.0, 1.0]])
    below, corner, near, there = graph.steps_between(starts, goal)
    assert below > corner > near > there
    # As the crow flies the first is the nearest but one; along the U it is 70 steps away.
    assert below > 60
    assert there < 3


def test_steps_are_about_as_many_as_a_walk_takes(graph):
    steps = graph.steps_between(jnp.array([[1.0, 0.0]]), jnp.array([2.5, 0.0]))[0]
    assert 10 <= steps <= 40  # a walk takes 15; every edge counts a few steps more


def test_paths_join_pieces_of_different_trajectories():
    line = np.arange(0, 1, 0.1)
    first, second = (np.stack([line + shift, 0 * line], axis=1) for shift in (0.0, 0.9))
    places = np.concatenate([first, second]).astype(np.float32)
    last = np.repeat([9, 19], 10)
    graph = PlaceGraph.of(places, last, landmarks=12, reach=3)
    forth, back = (
        graph.steps_between(jnp.array([a]), jnp.array(b))[0]
        for a, b in (([0.0, 0.0], [1.8, 0.0]), ([1.8, 0.0], [0.0, 0.0]))
    )
    assert forth < 60
    assert back > FAR / 2  # nobody ever went back


def test_no_path_leads_through_a_jump_whose_end_is_chance():
    """From the middle of a line one is thrown to one of two ends; walking takes longer."""
    walk = np.stack([np.arange(0, 4, 0.1), np.zeros(40)], axis=1)
    thrown = [np.concatenate([walk[:20], end + 0 * walk[:20]]) for end in ([3.9, 0], [0, 5])]
    places = np.concatenate([walk, *thrown]).astype(np.float32)
    last = np.repeat([39, 79, 119], 40)
    graph = PlaceGraph.of(places, last, landmarks=45, reach=5)
    walked, chance = (
        graph.steps_between(jnp.array([[1.8, 0.0]]), jnp.array(end))[0]
        for end in ([3.9, 0.0], [0.0, 5.0])
    )
    assert walked > 20
    assert chance > FAR / 2


def test_landmarks_are_spread_over_the_places():
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(size=(5000, 2)) * 0.01, rng.uniform(-1, 1, (200, 2))])
    chosen = spread(places.astype(np.float32), 50)
    distances = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1) + 10 * np.eye(50)
    assert distances.min() > 0.1


def test_waypoints_are_later_states_of_the_same_trajectory(data):
    batch = sample_waypoints(
        data, jr.key(0), 4000, steps_ahead=5, discount=0.9, same=0.2, random=0.3
    )
    rows = {tuple(row): i for i, row in enumerate(np.asarray(data.observations))}
    index = {
        name: np.array([rows[tuple(row)] for row in np.asarray(getattr(batch, name))])
        for name in ("observations", "next_observations", "waypoints", "near_waypoints", "goals")
    }
    here, last = index["observations"], np.asarray(data.last)[index["observations"]]
    assert (index["next_observations"] == here + 1).all()
    assert (index["waypoints"] == np.minimum(here + 5, last)).all()
    ahead = index["near_waypoints"] - here
    assert ahead.min() == 1
    assert ahead.max() == 5
    reached = index["goals"] == here
    assert reached.mean() == pytest.approx(0.2, abs=0.03)
    assert (np.asarray(batch.rewards) == np.where(reached, 0, -1)).all()
    assert (np.asarray(batch.masks) == np.where(reached, 0, 1)).all()
    elsewhere = (index["goals"] < here) | (index["goals"] > last)
    assert elsewhere.mean() == pytest.approx(0.3, abs=0.03)


def test_waypoints_lie_before_a_jump():
    """One walks to 1.9, and is thrown to 9, where one walks on."""
    line = np.concatenate([np.arange(0, 2, 0.1), 9 + np.arange(0, 2, 0.1)])
    places = np.stack([line, 0 * line], axis=1)
    data = Dataset.from_arrays(places, np.zeros((40, 1)), np.arange(40) == 39)
    distance = jump_distance(places, np.asarray(data.last))
    assert 0.1 < distance < 7
    assert jump_distance(places[:20], np.full(20, 19)) is None
    rare = np.repeat([0.0, 1.0, 0.0], 20)[:, None]  # a button: what moves at all moves as far
    assert jump_distance(rare, np.full(60, 59)) is None
    batch = sample_waypoints(
        *(data, jr.key(0), 500),
        **{"steps_ahead": 5, "discount": 0.9, "same": 0.2, "random": 0.3},
        jump=((0, 1), distance),
    )
    for later in (batch.waypoints, batch.near_waypoints):
        here, there = batch.observations[:, 0], later[:, 0]
        assert ((here < 5) == (there < 5)).all()
        free = (here < 1.4) | ((here > 5) & (here < 10.4))
        steps = jnp.round((there - here)[free] / 0.1)
        assert steps.max() == 5
        assert steps.min() == (5 if later is batch.waypoints else 1)
    assert batch.waypoints[batch.observations[:, 0] < 5, 0].max() == pytest.approx(1.9)


def test_a_jump_cuts_waypoints_only_where_places_are_walked_through():
    """With learned values what decides success may be a button among what moves by little."""
    walk = np.cumsum(np.full(40, 0.1))
    button = np.repeat([0.0, 5.0], 20)
    data = Dataset.from_arrays(
        np.stack([walk, button], axis=1), np.zeros((40, 1)), np.arange(40) == 39
    )
    agents = {
        values: dataclasses.replace(SMALL, values=values, landmarks=10).build(
            jr.key(0), Spec.vectors(2, 1), 10, data
        )
        for values in ("graph", "learned")
    }
    reach = {}
    for values, agent in agents.items():
        batch = agent.draw(data, jr.key(1), 500)
        reach[values] = (batch.waypoints[:, 1] - batch.observations[:, 1]).max()
    assert reach == {"graph": 0.0, "learned": 5.0}


@pytest.mark.parametrize("values", ["graph", "learned"])
def test_each_part_learns_from_its_own_loss(data, values):
    config = dataclasses.replace(SMALL, values=values)
    agent = config.build(jr.key(0), SPEC, 100, data)
    batch = agent.draw(data, jr.key(1), 64)
    # Waypoints far away change the prior alone.
    other = batch._replace(waypoints=batch.waypoints + 1.0)
    step = eqx.filter_jit(lambda agent, batch: agent.update(batch, jr.key(2))[0])

    def update(agent, batch):
        """Twice: in the first step of a warm-up the learning rate is zero."""
        return step(step(agent, batch), batch).policy

    first, second = (update(agent, each) for each in (batch, other))
    assert eqx.tree_equal(first.low, second.low)
    assert eqx.tree_equal(first.values, second.values)
    assert not eqx.tree_equal(first.prior, second.prior)
    changed = not eqx.tree_equal(first.values, agent.policy.values)
    assert changed == (values == "learned")


def test_a_saved_agent_has_the_shape_of_one_that_is_built_anew(data):
    agent = SMALL.build(jr.key(0), SPEC, 100, data)
    like = eqx.filter_eval_shape(lambda: SMALL.build(jr.key(0), SPEC, 100))
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(eqx.filter(agent, eqx.is_array))]
    expected = [
        (leaf.shape, leaf.dtype)
        for leaf in jax.tree.leaves(like)
        if isinstance(leaf, jax.ShapeDtypeStruct)
    ]
    assert shapes == expected


def trained(config, spec, data, steps, batch_size=128):
    agent = config.build(jr.key(0), spec, steps, data)
    dynamic, static = eqx.partition(agent, eqx.is_array)

    @jax.jit
    def train(dynamic, keys):
        def step(dynamic, key):
            agent = eqx.combine(dynamic, static)
            draw_key, update_key = jr.split(key)
            agent, metrics = agent.update(agent.draw(data, draw_key, batch_size), update_key)
            return eqx.filter(agent, eqx.is_array), metrics["loss"]

        return jax.lax.scan(step, dynamic, keys)

    return eqx.combine(train(dynamic, jr.split(jr.key(1), steps))[0], static)


def rewarded(data, done):
    """Return data whose reward is -1 in each state but those where the task is done."""
    done = jnp.asarray(done)
    return eqx.tree_at(
        lambda data: (data.rewards, data.masks),
        data,
        (jnp.where(done, 0.0, -1.0), jnp.where(done, 0.0, 1.0)),
        is_leaf=lambda leaf: leaf is None,
    )


END = jnp.array([0.0, 1.0, 0.0, 0.0])


@pytest.mark.parametrize("told", ["by a goal", "by rewards"])
def test_it_goes_round_the_wall(data, told):
    """Trained for seconds, it plans along the U and moves as it plans."""
    config, goal = SMALL, END
    if told == "by rewards":
        config, goal = NFWaypointsRLConfig(**vars(SMALL)), jnp.zeros(0)
        near = jnp.linalg.norm(data.observations[:, :2] - END[:2], axis=1) < 0.2
        data = rewarded(data, near)
    agent = trained(config, SPEC, data, 1500)

    @jax.jit
    def play(key):
        def step(place, key):
            move_key, rest_key = jr.split(key)
            observation = jnp.concatenate((place, jr.normal(rest_key, (2,))))
            return place + 0.1 * agent.act(observation, goal, move_key), place

        return jax.lax.scan(step, jnp.zeros(2), jr.split(key, 120))[1]

    paths = jax.vmap(play)(jr.split(jr.key(2), 64))
    arrived = (jnp.linalg.norm(paths - END[:2], axis=-1).min(1) < 0.3).mean()
    assert arrived >= 0.75
    assert paths[..., 0].max() > 2.5  # by the way round


def pushes(walks=60, length=30, seed=0):
    """A hand and a box on a line: the hand goes to the box, and then both go on to the right."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(walks):
        hand, box = sorted(rng.uniform(-1, 0.5, 2))
        for _ in range(length):
            rows.append((box, hand))
            hand += 0.1
            box = max(box, hand)
    ends = np.arange(len(rows)) % length == length - 1
    return Dataset.from_arrays(np.array(rows), np.ones((len(rows), 1)), ends)


@pytest.mark.parametrize("config", [NFWaypointsConfig, NFWaypointsRLConfig])
def test_learned_values_are_of_all_that_a_waypoint_shows(config):
    """A box as far from its goal is worth more where the hand is nearer to the box."""
    data = pushes()
    data = rewarded(data, data.observations[:, 0] > 1.0)
    values = {"goal_columns": (0,), "shown_columns": (1,), "values": "learned", "tau": 0.2}
    agent = trained(config(**vars(SMALL) | values), Spec.vectors(2, 1), data, 1500, batch_size=64)
    goal, far, near = agent.policy.normalizer.encode(
        jnp.array([[1.2, 0.0], [0.3, -0.9], [0.3, 0.2]])
    )
    told = goal[:1] if agent.capabilities.goals else goal[:0]
    for value in agent.policy.values:
        assert value(jnp.concatenate((near, told)))[0] > value(jnp.concatenate((far, told)))[0] + 1


def test_a_graph_must_know_where_a_task_ends(data):
    config = NFWaypointsRLConfig(**vars(SMALL))
    endless = rewarded(data, jnp.zeros(len(data.first), bool))
    with pytest.raises(UserError, match=r"--agent\.values learned"):
        config.build(jr.key(0), SPEC, 100, endless)


def test_what_a_place_is_must_be_said(data):
    with pytest.raises(UserError, match="goal-columns"):
        dataclasses.replace(SMALL, goal_columns=()).build(jr.key(0), SPEC, 100, data)
    with pytest.raises(UserError, match="columns 0 to 3"):
        dataclasses.replace(SMALL, goal_columns=(0, 9)).build(jr.key(0), SPEC, 100, data)


def test_the_density_of_waypoints_is_a_slot_as_that_of_actions_is(tmp_path):
    words = ["--agent.prior", "gaussian", "--agent.prior.hidden", "8", "--agent.flow=gaussian"]
    config, left = with_slots(NFWaypointsConfig(), words)
    assert (config.flow, config.prior) == (GaussianConfig(), GaussianConfig())
    assert left == ["--agent.prior.hidden", "8"]
    file = tmp_path / "run.toml"
    file.write_text(
        'task = "pointmaze-medium-navigate-v0"\n[agent]\nname = "nf-waypoints"\n'
        '[agent.prior]\nname = "gaussian"\nhidden = [8]\n'
    )
    assert from_file(file)[2:] == ["--agent.prior", "gaussian", "--agent.prior.hidden", "8"]
