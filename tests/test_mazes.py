"""Mazes: the maps, robots that no wall lets through, and noise that does not get far."""

import dataclasses
import sys
from collections import deque
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfrl.benchmarks.mazes import LAYOUTS, MAZES, Layout, find_maze
from nfrl.benchmarks.mazes.ant import AntRobot, maze_xml
from nfrl.benchmarks.mazes.layouts import CELL
from nfrl.benchmarks.mazes.maze import goal_of
from nfrl.benchmarks.mazes.point import PointRobot, PointState
from nfrl.errors import UserError

BIG = LAYOUTS["big-maze"]
FREE = {"u-maze": 7, "big-maze": 26, "hardest-maze": 46}


def distances(layout: Layout) -> dict[tuple[int, int], int]:
    """Return the cells that can be reached from the start, and in how many moves."""
    found, ahead = {layout.start: 0}, deque([layout.start])
    while ahead:
        row, column = ahead.popleft()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if not layout.walls[cell] and cell not in found:
                found[cell] = found[row, column] + 1
                ahead.append(cell)
    return found


# Maps


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_free_cell_can_be_reached_and_the_border_is_wall(name):
    layout = LAYOUTS[name]
    assert len({len(row) for row in layout.rows}) == 1
    walls = layout.walls
    assert walls[[0, -1]].all()
    assert walls[:, [0, -1]].all()
    assert set(distances(layout)) == {*layout.goal_cells, layout.start}
    assert len(distances(layout)) == FREE[name] == (~walls).sum()


@pytest.mark.parametrize("name", LAYOUTS)
def test_far_goals_are_goals_far_away(name):
    layout, moves = LAYOUTS[name], distances(LAYOUTS[name])
    assert set(layout.far) < set(layout.goal_cells)
    assert [cell for cell, far in zip(layout.goal_cells, layout.is_far, strict=True) if far] == [
        *layout.far
    ]
    assert min(moves[cell] for cell in layout.far) > np.median([*moves.values()])


def test_cells_and_places():
    cells = np.stack(np.meshgrid(range(8), range(8), indexing="ij"), -1).reshape(-1, 2)
    places = BIG.centres(tuple(map(tuple, cells)))
    np.testing.assert_array_equal(BIG.cell_of(places), cells)
    inside = np.random.default_rng(0).uniform(-0.49, 0.49, places.shape) * CELL
    np.testing.assert_array_equal(BIG.cell_of(places + inside), cells)
    np.testing.assert_array_equal(BIG.goals, 4.0 * np.array(BIG.goal_cells))


def test_names():
    maze = find_maze("point-hardest-maze")
    assert (maze.name, maze.layout.name) == ("point-hardest-maze", "hardest-maze")
    with pytest.raises(UserError, match=r"did you mean .*point-big-maze"):
        find_maze("point-bigmaze")
    with pytest.raises(UserError, match="unknown maze"):
        find_maze("big-maze")


def test_an_ant_without_its_simulator_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "brax", None)
    ants = [name for name, (robot, _) in MAZES.items() if robot == "ant"]
    assert len(ants) == 3
    for name in ants:
        with pytest.raises(UserError, match=r"pip install 'nfrl\[online\]'"):
            find_maze(name)


# The point robot


@jax.jit
def drive(state: PointState, actions):
    """Return the states that actions lead through."""
    robot = PointRobot(BIG)
    return jax.lax.scan(lambda s, a: (robot.step(s, a),) * 2, state, actions)[1]


def free(positions) -> np.ndarray:
    row, column = np.moveaxis(np.asarray(BIG.cell_of(positions)), -1, 0)
    return ~BIG.walls[row, column]


def test_it_begins_at_rest_near_the_start():
    robot = PointRobot(BIG)
    states = jax.vmap(robot.reset)(jr.split(jr.key(0), 100))
    assert np.abs(states.position - CELL).max() <= 0.1
    assert len(np.unique(states.position)) > 100
    assert (states.velocity == 0).all()
    one = jax.tree.map(lambda leaf: leaf[0], states)
    observation = robot.observation(one)
    assert observation.shape == (robot.observation_dim,)
    np.testing.assert_array_equal(goal_of(observation), one.position)


def test_in_the_open_it_obeys_newton():
    """v' = a u - drag v, whose solution it approaches as steps shrink, and its top speed."""
    robot, seconds = PointRobot(BIG, step_seconds=1e-3), 0.5
    state = PointState(jnp.array([4.0, 4.0]), jnp.zeros(2))
    action = jnp.array([0.5, -0.3])
    state = jax.lax.fori_loop(0, 500, lambda _, s: robot.step(s, action), state)
    top = robot.acceleration / robot.drag * np.array([0.5, -0.3])
    decay = 1 - np.exp(-robot.drag * seconds)
    np.testing.assert_allclose(state.velocity, top * decay, rtol=2e-3)
    moved = top * (seconds - decay / robot.drag)
    np.testing.assert_allclose(state.position - 4.0, moved, rtol=1e-2)


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 1.0, 30.0, 1e3, 1e9]),
    st.sampled_from([0.3, 1.0, 100.0]),
)
@settings(max_examples=40, deadline=None)
def test_no_wall_is_passed_or_entered_at_any_speed(seed, speed, push):
    """From anywhere, corners and faces among it: every step ends in the same cell or the next."""
    generator = np.random.default_rng(seed)
    cells = np.array([BIG.start, *BIG.goal_cells])
    # Half of the places are at the very edge of a cell, next to a wall or a corner.
    edge = np.where(generator.random((64, 2)) < 0.5, 1, generator.random((64, 2)))
    offset = (CELL / 2 - 1e-3) * edge * generator.choice([-1, 1], (64, 2))
    places = CELL * cells[generator.integers(len(cells), size=64)] + offset
    velocities = speed * generator.normal(size=(64, 2))
    actions = push * generator.normal(size=(64, 5, 2))
    states = PointState(*(np.asarray(x, np.float32) for x in (places, velocities)))
    trail = np.asarray(jax.vmap(drive)(states, actions.astype(np.float32)).position)
    trail = np.concatenate([places[:, None].astype(np.float32), trail], axis=1)
    assert free(trail).all()
    cells = np.asarray(BIG.cell_of(trail))
    steps = np.diff(cells, axis=1)
    assert np.abs(steps).max() <= 1
    # Around a corner it goes through a free cell, not between two walls.
    rows, columns = cells[:, :-1, 0], cells[:, :-1, 1]
    assert not BIG.walls[rows + steps[..., 0], columns].any()


def test_a_wall_stops_one_axis_and_lets_the_other_slide():
    state = PointState(jnp.array([3.0, 4.0]), jnp.zeros(2))
    trail = drive(state, jnp.broadcast_to(jnp.array([-1.0, 0.2]), (60, 2)))
    np.testing.assert_allclose(trail.position[-1, 0], CELL / 2, atol=2e-3)
    assert trail.velocity[-1, 0] == 0
    assert (np.diff(trail.position[:, 1]) > 0).all()


def test_actions_beyond_the_bounds_count_as_the_bounds():
    state = PointState(jnp.array([4.0, 4.0]), jnp.zeros(2))
    far, near = (drive(state, jnp.full((3, 2), value)) for value in (7.0, 1.0))
    np.testing.assert_array_equal(far.position, near.position)


def test_the_furthest_goal_of_every_maze_is_within_an_episode():
    for layout in LAYOUTS.values():
        robot = PointRobot(layout)
        top = robot.acceleration / robot.drag * robot.step_seconds
        assert CELL * max(distances(layout).values()) < 0.8 * top * robot.episode_length


@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_noise_sees_less_than_a_third_of_the_big_maze(noise):
    """In 200,000 steps, whatever the noise: an untrained policy's, or the widest there is."""
    robot = PointRobot(BIG)
    keys = jr.split(jr.key(0), 200_000 // robot.episode_length)

    @jax.jit
    def episodes(keys):
        def one(key):
            reset_key, action_key = jr.split(key)
            shape = (robot.episode_length, 2)
            if noise == "uniform":
                actions = jr.uniform(action_key, shape, minval=-1, maxval=1)
            else:
                actions = jnp.tanh(jr.normal(action_key, shape))
            return drive(robot.reset(reset_key), actions).position

        return jax.vmap(one)(keys)

    positions = np.asarray(episodes(keys))
    assert free(positions).all()
    seen = np.unique(np.asarray(BIG.cell_of(positions)).reshape(-1, 2), axis=0)
    assert 1 < len(seen) < FREE["big-maze"] / 3


def test_a_robot_is_a_value_that_compiled_programs_may_depend_on():
    assert hash(PointRobot(BIG)) == hash(PointRobot(BIG))
    assert PointRobot(BIG) != dataclasses.replace(PointRobot(BIG), drag=1.0)


# The ant


@pytest.fixture(scope="module")
def ants():
    """Ants beside one wall, and 60 steps of four of them: torques, then every pose.

    One wall, since every pair of a part and a wall is compiled for itself.
    """
    robot = AntRobot(Layout("wall", ("R", "#"), ()))

    @jax.jit
    def run(keys, velocities, actions):
        def begin(key, velocity):
            state = robot.reset(key)
            qd = state.qd.at[:2].set(velocity)
            return robot._pipeline.init(robot._system, state.q, qd)

        def step(states, _):
            states = jax.vmap(robot.step)(states, actions)
            return states, (jax.vmap(robot.observation)(states), states.x.pos)

        return jax.lax.scan(step, jax.vmap(begin)(keys, velocities), None, length=60)[1]

    return robot, run


def test_the_ant_stands_and_moves_by_its_torques(ants):
    robot, run = ants
    observation = robot.observation(robot.reset(jr.key(0)))
    assert observation.shape == (robot.observation_dim,) == (29,)
    np.testing.assert_allclose(goal_of(observation), 0, atol=0.1)
    assert 0.4 < observation[2] < 0.7, "it stands"
    same = jnp.broadcast_to(jr.key(0), 4)
    torques = jnp.array([0.0, 1.0, 9.0, -1.0])[:, None] * jnp.ones(8)
    poses = run(same, jnp.zeros((4, 2)), torques)[0][40]
    still, pushed, clipped, _ = poses
    np.testing.assert_array_equal(pushed, clipped, "torques are clipped")
    assert np.isfinite(poses).all()
    assert np.abs(still[:2]).max() < 0.4
    assert np.abs(pushed - still).max() > 0.3


def test_no_part_of_the_ant_enters_a_wall(ants):
    """Thrown at a wall at 5 m/s, the torso stays its radius away; Brax's own went 0.2 inside."""
    _, run = ants
    nearest = -np.inf
    for seed in range(4):
        keys = jr.split(jr.key(seed), 4)
        angles = jr.uniform(jr.key(seed), 4, minval=-0.7, maxval=0.7)
        velocities = 5 * jnp.stack((jnp.cos(angles), jnp.sin(angles)), axis=1)
        actions = jr.uniform(keys[0], (4, 8), minval=-1, maxval=1)
        _, places = run(keys, velocities, actions)
        beyond = np.asarray(places)[..., 0].max((0, 1)) - CELL / 2
        torso, legs = beyond[0], beyond[1:]
        nearest = max(nearest, torso)
        assert torso < -0.25 + 0.05
        assert (legs < 0.2).all(), "lower legs end in solid feet, so they bend but a little inside"
    assert nearest > -0.4, "one came to the wall"


def test_the_ants_walls_are_those_of_the_map():
    pytest.importorskip("brax")
    for layout in LAYOUTS.values():
        covered = np.zeros(layout.shape, int)
        for (top, left), (bottom, right) in layout.blocks:
            covered[top : bottom + 1, left : right + 1] += 1
        np.testing.assert_array_equal(covered, layout.walls)
        geoms = ElementTree.fromstring(maze_xml(layout)).iter("geom")
        sizes = [g.get("size").split() for g in geoms if g.get("name", "").startswith("wall")]
        area = sum(4 * float(x) * float(y) for x, y, _ in sizes)
        assert area == pytest.approx(CELL**2 * layout.walls.sum())
