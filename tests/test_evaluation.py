import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
from scipy import stats

from nfrl.environments import pool as pool_module
from nfrl.environments.pool import WorkerError
from nfrl.environments.worker import Config
from nfrl.errors import UserError
from nfrl.evaluation import video as video_module
from nfrl.evaluation.result import Evaluation, wilson_interval
from nfrl.evaluation.rollout import evaluate
from nfrl.evaluation.video import VideoUnavailable, record_video
from nfrl.task import Task

POINT = Task(
    name="pointmaze-medium-navigate-v0",
    family="gcbc",
    environment="ogbench:pointmaze-medium-v0",
    discount=0.99,
    horizon=40,
    place_columns=(0, 1),
)


class Broken(gymnasium.Env):
    """Fails at its third step, in a way that its name tells; works otherwise."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self, way: str):
        self.way = way
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        print("a library that prints must not disturb the worker")
        return np.zeros(3), {"goal": np.zeros(3)}

    def step(self, action):
        self.steps += 1
        if self.steps == 3 and self.way == "raise":
            raise FloatingPointError("the arm fell off")
        if self.steps == 3 and self.way == "die":
            os._exit(3)
        return np.zeros(3), 0.0, self.steps == 5, False, {"success": False}


for way in ("raise", "die", "never"):
    gymnasium.register(f"Broken-{way}-v0", entry_point=Broken, kwargs={"way": way})


def broken(way):
    environment = f"{Path(__file__).stem}:Broken-{way}-v0"
    return dataclasses.replace(POINT, name="broken", environment=environment, place_columns=())


def noisy(observations, goals, episodes, times):
    pairs = zip(episodes, times, strict=True)
    # A time of -1 is no seed.
    noise = [np.random.default_rng([e, t + 1]).normal(size=2) for e, t in pairs]
    return np.asarray(noise, np.float32) + 0.1 * (goals - observations)[:, :2]


def random_policy(observations, goals, episodes, times):
    return np.random.default_rng(times.max()).uniform(-1, 1, (len(observations), 2))


@pytest.fixture
def started(monkeypatch):
    """Every worker that the test has started, as (process, config)."""
    workers = []
    start = pool_module._start

    def record(config, *settings):
        workers.append((start(config, *settings), config))
        return workers[-1][0]

    monkeypatch.setattr(pool_module, "_start", record)
    yield workers
    assert workers
    for process, config in workers:
        assert process.poll() is not None, "a worker was left behind"
        assert not Path(config.directory).exists(), "shared files were left behind"


@pytest.mark.parametrize(("workers", "slots"), [(2, 6), (3, 6), (1, 4)])
def test_results_do_not_depend_on_workers_and_slots(started, workers, slots):
    settings = {"episodes": 3, "seed": 5, "progress": False}
    one = evaluate(POINT, noisy, workers=1, slots=6, **settings)
    other = evaluate(POINT, noisy, workers=workers, slots=slots, **settings)
    assert len(started) == 1 + workers
    for field in ("successes", "lengths", "xy", "goal_xy"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert len(np.unique(one.xy[:, :, 0, 0])) == 15  # every episode has its own start


def test_an_episode_is_the_same_among_fewer_goals_and_episodes():
    many = evaluate(POINT, noisy, episodes=3, workers=1, progress=False)
    few = evaluate(POINT, noisy, episodes=2, goals=[4, 2], workers=1, progress=False)
    np.testing.assert_array_equal(few.goals, [4, 2])
    np.testing.assert_array_equal(few.xy, many.xy[[3, 1], :2])


def test_the_seed_matters():
    one, two = (
        evaluate(POINT, noisy, episodes=1, seed=seed, workers=1, progress=False) for seed in (0, 1)
    )
    assert (one.goal_xy != two.goal_xy).any(axis=-1).all()
    assert (one.xy[:, :, 0] != two.xy[:, :, 0]).any(axis=-1).all()


def test_oracle_succeeds_and_success_ends_the_episode():
    task = dataclasses.replace(POINT, horizon=700)
    goal_of = {}
    maze = gymnasium.make(POINT.environment, disable_env_checker=True).unwrapped

    def oracle(observations, goals, episodes, times):
        goal_of.update(zip(episodes.tolist(), goals.copy(), strict=True))
        actions = np.zeros((len(observations), 2))
        for action, xy, goal in zip(actions, observations, goals, strict=True):
            there = maze.xy_to_ij(xy) == maze.xy_to_ij(goal)
            target = goal if there else maze.get_oracle_subgoal(xy, goal)[0]
            action[:] = (target - xy) / max(np.linalg.norm(target - xy), 0.1)
        return actions

    found = evaluate(task, oracle, episodes=2, workers=2, progress=False)
    assert found.score == 1.0
    assert (found.lengths < 700).all()
    np.testing.assert_allclose(
        found.goal_xy, np.reshape([goal_of[number] for number in range(10)], (2, 5, 2)).mean(0)
    )
    for goal in range(5):
        for episode in range(2):
            path = found.xy[goal, episode]
            path = path[np.isfinite(path[:, 0])]
            distances = np.linalg.norm(path - goal_of[5 * episode + goal], axis=1)
            assert distances[-1] <= 1.0 < distances[-3]
            assert len(path) == -(-found.lengths[goal, episode] // 4) + 1  # 700 steps, 200 points


def test_random_policy_fails():
    found = evaluate(POINT, random_policy, episodes=2, workers=1, progress=False)
    assert found.score == 0.0
    assert (found.lengths == POINT.horizon).all()
    assert np.isfinite(found.xy).all()


def test_actions_are_clipped():
    def large(scale):
        def policy(observations, goals, episodes, times):
            return np.full((len(observations), 2), scale, np.float64)

        return evaluate(POINT, policy, episodes=1, workers=1, progress=False).xy

    np.testing.assert_array_equal(large(1.0), large(50.0))


def test_policy_sees_what_it_should():
    numbers, shapes, idle = [], set(), []

    def policy(observations, goals, episodes, times):
        assert (observations.dtype, goals.dtype) == (np.float32, np.float32)
        assert (episodes.dtype, times.dtype) == (np.int64, np.int64)
        pairs = zip(episodes.tolist(), times.tolist(), strict=True)
        numbers.extend(pair for pair in pairs if pair[1] >= 0)
        idle.extend(times[times < 0])
        shapes.add((observations.shape, goals.shape, episodes.shape, times.shape))
        return np.zeros((len(observations), 2))

    evaluate(POINT, policy, episodes=2, slots=3, workers=2, progress=False)
    assert shapes == {((3, 2), (3, 2), (3,), (3,))}
    # Once each; a row that takes no step says so: its episode has ended, or it has none any more.
    assert sorted(numbers) == [(episode, time) for episode in range(10) for time in range(40)]
    assert set(idle) == {-1}


def test_actions_of_another_shape_are_refused(started):
    with pytest.raises(ValueError, match="shape"):
        evaluate(
            POINT, lambda o, g, e, t: np.zeros((len(o), 3)), episodes=1, workers=1, progress=False
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"goals": [6]},
        {"goals": [1, 1]},
        {"goals": []},
        {"episodes": 0},
        {"seed": -1},
        {"slots": -1},
    ],
)
def test_bad_arguments_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        evaluate(POINT, noisy, progress=False, **settings)


@pytest.mark.parametrize(
    ("way", "message"), [("raise", "FloatingPointError: the arm fell off"), ("die", "status 3")]
)
def test_a_failing_worker_is_reported(started, way, message):
    with pytest.raises(WorkerError, match=message) as caught:
        evaluate(broken(way), random_policy, episodes=2, workers=2, progress=False)
    if way == "raise":
        assert "in step" in caught.value.details


def test_an_environment_may_end_the_episode(started, capsys):
    found = evaluate(broken("never"), random_policy, episodes=1, workers=1)
    assert (found.lengths == 5).all()
    assert found.xy is None
    assert "5/5 episodes, success 0.00" in capsys.readouterr().err


def test_an_unknown_environment_is_reported_in_a_line(started):
    task = dataclasses.replace(POINT, environment="ogbench:pointmaze-medum-v0")
    with pytest.raises(WorkerError, match=r"^unknown environment .*mean pointmaze-medium-v0"):
        evaluate(task, noisy, episodes=1, workers=2, progress=False)


@pytest.mark.parametrize(
    ("environment", "size"),
    [("antsoccer-arena-v0", 8), ("humanoidmaze-medium-v0", 21), ("puzzle-3x3-v0", 5)],
)
def test_other_environments(started, environment, size):
    columns = (0, 1) if "puzzle" not in environment else ()
    task = Task(
        environment, "gcbc", f"ogbench:{environment}", 0.99, horizon=3, place_columns=columns
    )
    seen = []

    def policy(observations, goals, episodes, times):
        seen.append((observations, goals))
        return np.zeros((len(observations), size))

    runs = [
        evaluate(task, policy, episodes=1, goals=[1, 2], slots=slots, workers=1, progress=False)
        for slots in (2, 1)
    ]
    assert (runs[0].lengths == 3).all()
    assert (runs[0].xy is None) == (size == 5)
    together, apart = seen[:3], seen[3:]
    assert len(apart) == 6
    for kind in (0, 1):  # goals too: resets settle them with random actions
        expected = np.stack([step[kind] for step in together], axis=1)
        found = np.reshape([step[kind][0] for step in apart], expected.shape)
        np.testing.assert_array_equal(found, expected)


def test_needs_no_jax_nor_simulator_here():
    code = (
        "import sys, nfrl.evaluation.rollout, nfrl.evaluation.video; "
        "assert not {'jax', 'mujoco', 'gymnasium'} & sys.modules.keys()"
    )
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **path})


SCRIPT = """
import signal
import numpy as np
from nfrl.environments import pool
from nfrl.evaluation.rollout import evaluate
from nfrl.task import Task

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
start = pool._start
def record(config, *settings):
    process = start(config, *settings)
    print(process.pid, config.directory)
    return process
pool._start = record
def policy(observations, goals, episodes, times):
    if times.max() == 1:
        print("stepping", flush=True)
    return np.zeros((len(observations), 2))
task = Task("pointmaze", "gcbc", "ogbench:pointmaze-medium-v0", 0.99, 10**9, goals=5)
evaluate(task, policy, episodes=1, workers=2, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("death", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(death):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    lines = []
    while not lines or lines[-1] != "stepping":
        lines.append(parent.stdout.readline().strip())
        assert lines[-1], parent.stderr.read()
    os.killpg(parent.pid, death)  # as a terminal does
    errors = parent.stderr.read()  # until all who hold it are gone: the workers too
    parent.wait(timeout=10)
    if death == signal.SIGINT:
        assert errors.count("Traceback") == 1
        assert errors.strip().endswith("KeyboardInterrupt")
    for line in lines[:-1]:
        pid, directory = line.split()
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < deadline:
            if not Path(f"/proc/{pid}/cmdline").read_bytes():
                break  # ended, though nobody has collected it
            time.sleep(0.05)
        assert time.monotonic() < deadline
        assert not Path(directory).exists()


def test_a_worker_whose_parent_dies_while_it_is_at_work_leaves_nothing(tmp_path):
    directory = tmp_path / "shared"
    directory.mkdir()
    maker, arguments = "nfrl.environments.slots:make_slots", {"environment": POINT.environment}
    worker = pool_module._start(Config(maker, arguments, 1, 0, 1, str(directory)))
    worker.stdout.close()  # it makes its environment, and nobody is there to be told
    worker.stdin.close()
    assert worker.wait(timeout=60) == 0
    assert not directory.exists()


@pytest.mark.slow
def test_slots_that_share_a_model_do_not_disturb_each_other():
    from nfrl.environments.slots import MUTABLE, make_slots

    generator = np.random.get_bit_generator()
    try:
        first, second = make_slots(range(2), "ogbench:scene-v0", goals=5)
        model = first.environment._model
        assert second.environment._model is model
        names = [name for name in dir(model) if isinstance(getattr(model, name), np.ndarray)]
        before = {name: getattr(model, name).copy() for name in names}
        actions = np.random.default_rng(0).uniform(-1, 1, (15, 5))
        # Goals 4 and 5 of the scene lock and unlock the drawer and the window differently.
        episodes = [(4, 0), (5, 1), (1, 2)]

        def alone(slot, episode):
            beginning = slot.reset(*episode)[:2]
            return np.stack([*beginning, *(slot.step(action)[0] for action in actions)])

        expected = [alone(first, episode) for episode in episodes]
        for left, right in [(0, 1), (1, 2), (2, 0)]:
            found = [second.reset(*episodes[left])[:2], first.reset(*episodes[right])[:2]]
            rows = [[*found[0]], [*found[1]]]
            for action in actions:
                rows[0].append(second.step(action)[0])
                rows[1].append(first.step(action)[0])
            np.testing.assert_array_equal(rows[0], expected[left])
            np.testing.assert_array_equal(rows[1], expected[right])
        changed = {n for n in names if not np.array_equal(getattr(model, n), before[n], True)}
        assert changed <= set(MUTABLE)
        assert "dof_damping" in changed
    finally:
        np.random.set_bit_generator(generator)


def evaluation(rates, episodes, seed=0):
    generator = np.random.default_rng(seed)
    successes = generator.random((len(rates), episodes)) < np.asarray(rates)[:, None]
    lengths = np.full(successes.shape, 7)
    return Evaluation(np.arange(len(rates)) + 1, successes, lengths, 1.5, 1000.0)


def test_scores():
    found = dataclasses.replace(
        evaluation([0.5, 0.5], 4), successes=np.array([[1, 1, 1, 0], [0, 0, 1, 0]], bool)
    )
    np.testing.assert_allclose(found.scores, [0.75, 0.25])
    assert found.score == 0.5


def test_interval_of_one_goal_is_binomial():
    found = evaluation([0.6], 50)
    low, high = stats.binom.ppf([0.025, 0.975], 50, found.score) / 50
    assert found.interval == pytest.approx((low, high), abs=0.011)


def test_interval_resamples_within_goals():
    # Goals that differ add nothing to the spread: it is that of each goal's episodes, halved.
    low, high = evaluation([0.0, 1.0], 50).interval
    assert (low, high) == pytest.approx((0.5 - 0.0714 / 2, 0.5 + 0.0714 / 2), abs=1e-4)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_interval_is_none_of_certainty_where_all_episodes_ended_alike(rate):
    (low, high), (one_low, one_high) = (evaluation(r, 50).interval for r in ([rate] * 4, [rate]))
    assert (one_low, one_high) == pytest.approx(wilson_interval(rate, 50))
    assert high - low == pytest.approx((one_high - one_low) / 2)  # of four goals
    assert rate in (low, high)


def test_interval_covers():
    rates = [0.2, 0.4, 0.5, 0.7, 0.9]
    intervals = np.array([evaluation(rates, 50, seed).interval for seed in range(150)])
    covered = ((intervals[:, 0] <= np.mean(rates)) & (np.mean(rates) <= intervals[:, 1])).mean()
    assert 0.88 <= covered <= 0.99


@pytest.mark.parametrize("maze", [False, True])
def test_saved_and_loaded(tmp_path, maze):
    found = evaluation([0.5, 0.9], 6)
    if maze:
        xy = np.full((2, 6, 4, 2), np.nan, np.float32)
        found = dataclasses.replace(found, xy=xy, goal_xy=np.ones((2, 2), np.float32))
        found = dataclasses.replace(found, returns=np.array([[1.5] * 6] * 2), failures=3)
    found.save(tmp_path / "evaluation.npz")
    back = Evaluation.load(tmp_path / "evaluation.npz")
    for field in dataclasses.fields(Evaluation):
        value, other = getattr(found, field.name), getattr(back, field.name)
        assert type(value) is type(other)
        if value is not None:
            np.testing.assert_array_equal(value, other)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.npz"]


def test_video(tmp_path, started):
    task = dataclasses.replace(POINT, horizon=6)
    try:
        path = record_video(task, noisy, tmp_path / "a.mp4", goals=[1, 2], progress=False)
    except VideoUnavailable as error:
        pytest.skip(str(error))
    frames = np.stack(imageio.mimread(path))
    assert frames.shape == (3, 200, 400, 3)
    assert frames.std() > 10  # a picture, not a blank


def test_a_gif_where_there_is_no_ffmpeg(tmp_path, monkeypatch):
    write = imageio.mimwrite

    def no_ffmpeg(path, frames, **options):
        if Path(path).suffix == ".mp4":
            raise RuntimeError("no ffmpeg executable could be found")
        write(path, frames, **options)

    monkeypatch.setattr(imageio, "mimwrite", no_ffmpeg)
    frames = list(np.random.default_rng(0).integers(0, 255, (4, 20, 40, 3), np.uint8))
    path = video_module._write(tmp_path / "a.mp4", frames)
    assert path == tmp_path / "a.gif"
    assert np.stack(imageio.mimread(path)).shape[:3] == (4, 20, 40)


@pytest.mark.parametrize("back_end", ["disable", "nonsense"])
def test_no_video_without_graphics(monkeypatch, tmp_path, started, back_end):
    monkeypatch.setenv("MUJOCO_GL", back_end)
    settings = {"goals": [1], "progress": False}
    with pytest.raises(UserError, match=r"apt-get install libegl1.*MUJOCO_GL=egl"):
        record_video(POINT, noisy, tmp_path / "a.mp4", **settings)
    assert not list(tmp_path.iterdir())
