"""Environments of any kind: by reference, through adapters, in a pool, evaluated and filmed."""

import dataclasses
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from nfrl.environments.adapters import Adapter, read_layout
from nfrl.environments.make import environment_spec, make_environment
from nfrl.environments.pool import Pool, WorkerError
from nfrl.environments.rewarded import RewardedEnvironment
from nfrl.environments.slots import fit
from nfrl.environments.worker import RESET, STEP
from nfrl.errors import UserError
from nfrl.evaluation import video as video_module
from nfrl.evaluation.result import Evaluation
from nfrl.evaluation.rollout import evaluate
from nfrl.evaluation.video import VideoUnavailable, record_video
from nfrl.task import Task

HERE = Path(__file__).stem
MAZE = "gymnasium_robotics:PointMaze_UMaze-v3"


def box(*shape, high=np.inf, dtype=np.float32):
    return spaces.Box(-high if dtype == np.float32 else 0, high, shape, dtype)


class Line(gymnasium.Env):
    """A point on a line that goes where it is told, at most 2 a step, and is paid for its place.

    The start is drawn from the seed. It keeps to Gymnasium's interface and to no convention.
    """

    observation_space = box(1)
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        assert options is None, "nobody asked for a goal"
        super().reset(seed=seed)
        self.place = self.np_random.uniform(0, 1, 1)
        return self.place.astype(np.float32), {"goal": "the end", "mode": "human"}

    def step(self, action):
        assert self.action_space.contains(action)
        self.place = self.place + action
        seen = self.place.astype(np.float32)
        return seen, float(self.place[0]), False, False, {"mode": "human", "score": None}


class Seeker(gymnasium.Env):
    """A point on a plane with a goal dictionary; done within 0.1 of the goal."""

    observation_space = spaces.Dict(
        {"achieved_goal": box(2), "desired_goal": box(2), "observation": box(3)}
    )
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = np.zeros(2), self.np_random.uniform(1, 2, 2)
        return self.observe(), {}

    def step(self, action):
        self.place = self.place + 0.5 * action
        done = np.linalg.norm(self.place - self.goal) < 0.1
        return self.observe(), 1.0 * done, False, False, {"is_success": np.bool_(done)}

    def observe(self):
        return {
            "achieved_goal": self.place.copy(),
            "desired_goal": self.goal.copy(),
            "observation": np.array([7.0, 8.0, 9.0]),
        }


class Breaking(Line):
    """Sees what is not finite from the third step on, where the start is small; else earns it."""

    def step(self, action):
        self.steps += 1
        seen, reward, *rest = super().step(action)
        if self.steps == 3:
            return (seen * np.nan, reward, *rest) if self.start < 0.5 else (seen, np.inf, *rest)
        return seen, reward, *rest

    def reset(self, **settings):
        begun = super().reset(**settings)
        self.steps, self.start = 0, self.place[0]
        return begun


class Drawn(Line):
    """Draws itself, wide and red, if it was made for that."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        if self.render_mode == "rgb_array":
            return np.full((50, 100, 3), (255, 0, 0), np.uint8)


class Odd(gymnasium.Env):
    """Has the spaces that it is given."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Doubled(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return 2 * observation


def wrapped():
    return gymnasium.wrappers.TimeLimit(Doubled(Line()), 7)


def broken():
    raise ValueError("no licence\nfor this arm")


def nothing():
    pass


SPACES = {
    "image": box(64, 64, 3, high=255, dtype=np.uint8),
    "robot": spaces.Dict({"joints": box(4, high=3.0), "hand": box(2, 2)}),
    "text": spaces.Text(5),
}


def nested():
    return Odd(spaces.Dict(SPACES), box(2, 2))


def pixels():
    return Odd(SPACES["image"], box(1, high=1))


def said():
    return Odd(SPACES["text"], box(1))


def counted():
    return Odd(box(1), spaces.MultiDiscrete([2, 3]))


gymnasium.register(
    "Line-v3",
    entry_point=Line,
    max_episode_steps=9,
    additional_wrappers=(gymnasium.envs.registration.WrapperSpec("d", f"{HERE}:Doubled", {}),),
)


def task(environment, **changes):
    values = {"discount": 0.99, "horizon": 5, "goals": 1, "family": "imitation"}
    return Task(name="mine", environment=f"{HERE}:{environment}", **{**values, **changes})


def play(task, policy, episodes=4, **settings):
    return evaluate(task, policy, episodes=episodes, workers=1, progress=False, **settings)


# References


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("Pendulum-v1", "PendulumEnv"),
        (f"{HERE}:Line", "Line"),
        (f"{HERE}:Line-v3", "Doubled"),
        (f"{HERE}:wrapped", "Doubled"),
        ("ogbench:pointmaze-medium-v0", "MazeEnv"),
    ],
)
def test_only_gymnasiums_own_wrappers_are_taken_off(reference, what):
    made = make_environment(reference)
    assert type(made).__name__ == what
    own = (gymnasium.wrappers.TimeLimit, gymnasium.wrappers.PassiveEnvChecker)
    while isinstance(made, gymnasium.Wrapper):
        assert not isinstance(made, own), "the horizon is the task's"
        made = made.env


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("Pendulun-v1", r"unknown environment 'Pendulun-v1'; did you mean Pendulum-v1.*package:id"),
        ("ogbench:cube-singel-v0", r"mean cube-single-v0.*ogbench registers none of that name"),
        ("no_such_thing:Door-v0", r"there is no module no_such_thing; is its package installed"),
        (f"{HERE}:broken", r"test_environments:broken cannot be made: ValueError: no licence$"),
        (f"{HERE}:nothing", "made nothing, not a gymnasium.Env"),
        (f"{HERE}:np.zeros", "cannot be made: TypeError"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(reference, message):
    with pytest.raises(UserError, match=message) as caught:
        make_environment(reference)
    assert "\n" not in str(caught.value)


# What an environment is


def test_the_spec_of_a_plain_environment():
    spec, horizon, facts = environment_spec("Pendulum-v1")
    assert (spec.observation_dim, spec.action.low, spec.action.high) == (3, (-2.0,), (2.0,))
    assert horizon == 200
    assert not facts.has_goals
    assert not facts.says_success
    assert facts.has_bounds


def test_the_spec_of_goal_dictionaries_and_of_ogbench():
    spec, horizon, facts = environment_spec(MAZE)
    assert (list(spec.observation), horizon) == (["observation", "achieved_goal"], 300)
    assert (facts.goal_columns, facts.says_success, facts.goals) == ((4, 5), True, 1)
    spec, _, facts = environment_spec(MAZE, ("observation", "desired_goal"))
    assert (spec.observation_dim, facts.goal_columns, facts.has_goals) == (6, (), False)
    spec, horizon, facts = environment_spec("ogbench:pointmaze-medium-v0")
    assert (spec.observation_dim, horizon, facts.goals, facts.has_goals) == (2, 1000, 5, True)
    assert environment_spec(f"{HERE}:Line-v3").horizon == 9
    assert environment_spec(f"{HERE}:wrapped").horizon == 7


def test_the_spec_of_pixels_and_of_nested_dictionaries():
    (image,) = environment_spec(f"{HERE}:pixels").spec.observation.values()
    assert image.is_image
    assert (image.low, image.high) == (0, 255)
    found = environment_spec(f"{HERE}:nested", ("robot", "image"))
    assert list(found.spec.observation) == ["robot/hand", "robot/joints", "image"]
    hand, joints, image = found.spec.observation.values()
    assert (joints.high, hand.high, hand.size, image.is_image) == (3, None, 4, True)
    assert found.spec.action_dim == 4
    assert not found.facts.has_bounds


@pytest.mark.parametrize(
    ("reference", "keys", "message"),
    [
        ("CartPole-v1", (), r"takes actions of Discrete\(2\); an action must be a Box of floats"),
        (f"{HERE}:counted", (), r"takes actions of MultiDiscrete\(\[2 3\]\)"),
        (f"{HERE}:said", (), r"observes Text.*only a Box.*wrap the environment"),
        (f"{HERE}:nested", (), r"observes text as Text.*--observation-keys"),
        (f"{HERE}:nested", ("arm",), r"observes no 'arm'; observation-keys can be image, robot/"),
    ],
)
def test_spaces_that_nothing_is_learnt_in_are_refused(reference, keys, message):
    with pytest.raises(UserError, match=message):
        environment_spec(reference, keys)


def test_a_goal_is_zero_but_for_what_it_is_about():
    made = make_environment(MAZE)
    adapter = Adapter(made, read_layout(made.observation_space, (), MAZE))
    observation, goal, _ = adapter.reset(3)
    shown, _ = made.reset(seed=3)
    np.testing.assert_array_equal(observation[:4], shown["observation"].astype(np.float32))
    np.testing.assert_array_equal(observation[4:], shown["achieved_goal"].astype(np.float32))
    np.testing.assert_array_equal(goal, [0, 0, 0, 0, *shown["desired_goal"].astype(np.float32)])
    assert adapter.step(np.ones(2, np.float32)).success is False


# Evaluation


def test_a_plain_environment_is_scored_by_its_return():
    shapes = set()

    def policy(observations, goals, episodes, times):
        shapes.add((observations.shape, goals.shape))
        return np.full((len(observations), 1), 50.0)

    found = play(task("Line", scored_by="return"), policy, seed=1)
    assert shapes == {((4, 1), (4, 0))}
    assert (found.successes.any(), found.final_scores, found.modes) == (False, None, None)
    assert (found.lengths == 5).all()
    # Steps of 2 at most: starts in [0, 1], and 2 + 4 + ... + 10.
    starts = (found.returns - 30) / 5
    assert ((starts > 0) & (starts < 1)).all()
    assert len(np.unique(starts)) == 4
    score, by_goal, (low, high) = found.measured("return")
    assert score == by_goal[0] == found.mean_return == pytest.approx(found.returns.mean())
    assert low < score < high
    with pytest.raises(ValueError, match="no score"):
        found.measured("score")


def test_a_goal_dictionary_is_reached_by_whom_looks_at_the_goal():
    def policy(observations, goals, episodes, times):
        assert (observations[:, :3] == [7, 8, 9]).all()
        assert (goals[:, :3] == 0).all()
        return 2 * (goals - observations)[:, 3:]

    seeker = task("Seeker", goal_columns=(3, 4), partial_goals=True, horizon=9)
    found = play(seeker, policy)
    assert found.score == 1
    assert ((found.lengths >= 2) & (found.lengths <= 4)).all()
    on = play(dataclasses.replace(seeker, ends_at_success=False), policy)
    assert on.score == 1
    assert (on.lengths == 9).all()
    # One for each step at the goal, the first and the last included.
    np.testing.assert_array_equal(on.returns, 10 - found.lengths)


def test_what_is_not_finite_ends_its_episode_alone(capsys):
    def policy(observations, goals, episodes, times):
        assert np.isfinite(observations).all()
        bad = (episodes == 1) | ((episodes == 2) & (times == 3))
        return np.where(bad, np.nan, 1.0)[:, None]

    found = play(task("Line"), policy, slots=3)
    assert found.lengths.tolist() == [[5, 0, 3, 5]]
    assert np.isnan(found.returns).tolist() == [[False, True, True, False]]
    assert found.failures == 2
    assert capsys.readouterr().err.count("2 of 4 episodes failed") == 1
    found = play(task("Breaking"), lambda o, g, e, t: np.zeros((len(o), 1)), episodes=8)
    assert (found.lengths == 3).all()
    assert (found.failures, found.score) == (8, 0)
    assert np.isnan(found.mean_return)
    nowhere = lambda o, g, e, t: np.full((len(o), 1), np.nan)  # noqa: E731
    assert play(task("Line", scored_by="score"), nowhere).measured("score").score == 0


def test_a_failure_never_pays():
    returns = np.array([[-3.0, -5.0, np.nan, -4.0]])
    found = Evaluation(
        np.ones(1), returns < -9, np.ones((1, 4)), 1.0, 1.0, returns=returns, failures=1
    )
    assert found.mean_return == pytest.approx((-3 - 5 - 5 - 4) / 4)


def test_files_without_returns_are_read(tmp_path):
    found = Evaluation(np.ones(1), np.ones((1, 2), bool), np.ones((1, 2)), 1.0, 1.0)
    values = {k: v for k, v in vars(found).items() if v is not None and k != "failures"}
    np.savez(tmp_path / "old.npz", **values)
    back = Evaluation.load(tmp_path / "old.npz")
    assert (back.mean_return, back.mean_return_interval, back.failures) == (None, None, 0)
    assert back.measured("success").score == 1


def test_modules_in_the_working_folder_are_found(tmp_path, monkeypatch):
    (tmp_path / "my_robot.py").write_text(
        f"from {HERE} import Line\n\nclass Arm(Line):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    arm = dataclasses.replace(task("Line"), environment="my_robot:Arm")
    assert play(arm, lambda o, g, e, t: np.zeros((len(o), 1))).failures == 0


def test_a_task_without_an_environment_is_not_played():
    with pytest.raises(UserError, match="mine has no environment"):
        play(dataclasses.replace(task("Line"), environment=None), lambda *_: None)


# Going on online


def test_rewards_of_any_environment():
    line = RewardedEnvironment(f"{HERE}:Line", 3, seed=0)
    assert line.action_dim == 1
    first = line.begin(0)
    steps = [line.step(np.full(1, 5.0, np.float32)) for _ in range(4)]
    np.testing.assert_allclose([s.reward for s in steps[:3]], first[0] + np.array([2, 4, 6]))
    assert [s.ended for s in steps] == [False, False, True, False]
    assert all(s.mask == 1 and not s.success for s in steps)
    np.testing.assert_array_equal(steps[2].observation, line.begin(1))


# The pool


class Counter:
    """A slot that counts its steps from its number on, in an array of its own making."""

    def __init__(self, index, factor):
        self.facts = {"unit": "steps"}
        self.index, self.factor = index, factor
        self.layout = {"counts": ((2,), "int64"), "none": ((0,), "float32")}

    def play(self, command, arrays):
        if command == RESET:
            arrays["counts"][...] = self.index
        else:
            arrays["counts"] += [1, self.factor]


def make_counters(indices, factor):
    if factor < 0:
        raise UserError("factor must not be negative")
    return [Counter(index, factor) for index in indices]


@pytest.mark.parametrize("workers", [0, 1, 2, 9])
def test_slots_of_any_kind_are_played(workers):
    with Pool(f"{HERE}:make_counters", {"factor": 3}, 3, workers) as pool:
        assert pool.facts == {"unit": "steps"}
        assert pool.arrays["none"].shape == (3, 0)
        pool.commands[:] = RESET
        pool.round()
        pool.commands[:] = STEP, 0, STEP
        pool.round()
        pool.round()
        np.testing.assert_array_equal(pool.arrays["counts"], [[2, 6], [1, 1], [4, 8]])


def test_a_users_error_in_a_worker_stays_one_line():
    with pytest.raises(WorkerError, match=r"^factor must not be negative$"):
        Pool(f"{HERE}:make_counters", {"factor": -1}, 3, 2)


# Films


def test_a_film_of_an_environment_that_draws_itself(tmp_path, monkeypatch):
    frames = []
    monkeypatch.setattr(video_module, "_write", lambda path, all_: frames.extend(all_))
    still = lambda o, g, e, t: np.zeros((len(o), 1))  # noqa: E731
    record_video(task("Drawn"), still, tmp_path / "a.mp4", progress=False)
    assert {frame.shape for frame in frames} == {(200, 200, 3)}
    rows = np.flatnonzero(frames[0][:, 100, 0])
    assert (rows[0], rows[-1]) == (50, 149)
    with pytest.raises(VideoUnavailable, match=r"Line cannot be drawn"):
        record_video(task("Line"), still, tmp_path / "a.mp4", progress=False)


@pytest.mark.parametrize("shape", [(100, 50), (3, 400), (200, 200), (199, 7)])
@pytest.mark.parametrize("pillow", [True, False])
def test_pictures_keep_their_shape(shape, pillow, monkeypatch):
    if not pillow:
        monkeypatch.setitem(sys.modules, "PIL", None)
    frame = fit(np.full((*shape, 3), 9, np.uint8))
    assert (frame.shape, frame.dtype) == ((200, 200, 3), np.uint8)
    filled = (frame == 9).all(axis=2)
    size = [round(side * 200 / max(shape)) for side in shape]
    assert [filled.any(axis=1).sum(), filled.any(axis=0).sum()] == [max(1, s) for s in size]
