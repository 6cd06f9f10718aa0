"""Locomotion experts: the environments, the loop that trains them, and the policies they become."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents.parts.tanh_gaussian import TanhGaussian
from nfrl.agents.sac import SACConfig
from nfrl.cli.main import main
from nfrl.collect import expert_policy
from nfrl.collect.expert_policy import find_expert, load_expert, read_expert, read_record
from nfrl.collect.expert_score import score, walk
from nfrl.environments.locomotion import BODIES, Locomotion, body
from nfrl.environments.locomotion_pool import BodyPool
from nfrl.errors import UserError
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training.experts import EXPERTS, ExpertTraining, train_expert, write_expert

ANT = body("ant")
CONFIG = SACConfig(hidden=(8,), critic_hidden=(8,))
TRAINING = ExpertTraining(
    steps=80,
    batch_size=8,
    random_steps=20,
    environments=2,
    rollout=5,
    log_every=20,
    checkpoint_every=40,
)
SIZES = {"ant": (29, 8), "ant-ball": (42, 8), "humanoid": (69, 21)}


def seeds(*key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(0, spawn_key=key)


# Environments


@pytest.mark.parametrize("name", BODIES)
def test_an_episode_depends_on_its_seeds_and_actions_alone(name):
    often = dataclasses.replace(body(name), command_steps=10)
    one, other = Locomotion(often), Locomotion(often)
    assert (one.observation_dim, one.action_dim) == SIZES[name]
    assert one._environment.unwrapped.dt == pytest.approx(body(name).seconds)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, one.action_dim))
    first = [one.reset(seeds(1)), *(one.step(action) for action in actions)]
    # Whatever was played here before, and is played elsewhere in between.
    for neighbour in range(2, 4):
        other.reset(seeds(neighbour))
        other.step(actions[0])
    again: list = [other.reset(seeds(1))]
    one.reset(seeds(4))
    for action in actions:
        again.append(other.step(action))
        one.step(-action)
    np.testing.assert_array_equal(first[0], again[0])
    for (seen, *rest), (seen_again, *rest_again) in zip(first[1:], again[1:], strict=True):
        np.testing.assert_array_equal(seen, seen_again)
        assert rest == rest_again


def test_the_reward_is_the_way_in_the_commanded_direction():
    ant = Locomotion(ANT)
    rng = np.random.default_rng(0)
    observation = ant.reset(seeds(0))
    directions = [observation[-2:]]
    for _ in range(250):
        before = ant.xy
        observation, reward, _, _ = ant.step(rng.uniform(-1, 1, 8))
        assert reward == pytest.approx((ant.xy - before) @ directions[-1], abs=1e-6)
        directions.append(observation[-2:])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    # New ones after 100 and 200 steps, and at no other time.
    assert [i for i in range(250) if (directions[i] != directions[i + 1]).any()] == [99, 199]
    fixed = ant.reset(seeds(0), np.array([0.0, 1.0]))
    np.testing.assert_array_equal(fixed[-2:], [0, 1])


def test_an_episode_ends_for_good_or_is_broken_off():
    ant = Locomotion(dataclasses.replace(ANT, episode_steps=3))
    ant.reset(seeds(0))
    assert [ant.step(np.zeros(8))[2:] for _ in range(3)] == [(False, False)] * 2 + [(False, True)]
    ball = Locomotion(dataclasses.replace(body("ant-ball"), episode_steps=2))
    ball.reset(seeds(0))
    assert [ball.step(np.zeros(8))[2:] for _ in range(2)] == [(False, False), (True, True)]


def test_the_same_steps_in_this_process_and_in_two():
    short = dataclasses.replace(ANT, episode_steps=4)
    with BodyPool(short, 3, 0, seed=5) as here, BodyPool(short, 3, 2, seed=5) as there:
        actions = np.random.default_rng(0).uniform(-1, 1, (6, 3, 8)).astype(np.float32)
        for period in (0, 1):
            np.testing.assert_array_equal(here.reset(period), there.reset(period))
            for each in actions:
                one, other = here.step(each), there.step(each)
                for ours, theirs in zip(one, other, strict=True):
                    assert ours.dtype == theirs.dtype == np.float32
                    np.testing.assert_array_equal(ours, theirs)
        assert (one.masks == 1).all()  # Broken off is not fallen.
        processes = list(there._pool._workers)
        assert len(processes) == 2
    assert all(process.poll() is not None for process in processes)


def test_the_next_episode_begins_where_one_is_over():
    with BodyPool(dataclasses.replace(ANT, episode_steps=2), 1, 0, seed=0) as pool:
        first = pool.reset(0)
        one = pool.step(np.zeros((1, 8)))
        np.testing.assert_array_equal(one.next_observations, one.observations)
        two = pool.step(np.zeros((1, 8)))
        assert (two.next_observations != two.observations).any()
        assert (two.observations != first).any()  # Another episode, not the first again.
        np.testing.assert_array_equal(pool.reset(0), first)
        assert (pool.reset(1) != first).any()


# The loop


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("expert"))
    return run, train_expert(run, ANT, CONFIG, TRAINING)


def test_a_killed_run_goes_on_to_the_same_bits(trained, tmp_path):
    run = RunFolder(tmp_path)

    def kill(step, metrics):
        if step == 60:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train_expert(run, ANT, CONFIG, TRAINING, report=kill)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000040.safetensors"]
    agent = train_expert(run, ANT, CONFIG, TRAINING)
    for one, other in zip(jax.tree.leaves(agent), jax.tree.leaves(trained[1]), strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [[json.loads(line) for line in r.metrics_file.open()] for r in (run, trained[0])]
    for one, other in zip(*lines, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_metrics_and_the_random_beginning(trained):
    lines = [json.loads(line) for line in trained[0].metrics_file.open()]
    assert [line["step"] for line in lines] == [20, 40, 60, 80]
    assert "loss" not in lines[0]  # Nothing is learned from random steps yet.
    assert {"loss", "grad_norm", "reward", "ends_per_1000", "entropy"} <= set(lines[1])


def test_other_weights_than_at_the_start(trained):
    start = CONFIG.build(jr.split(jr.key(0), 3)[0], Spec.vectors(*SIZES["ant"]))
    pairs = zip(jax.tree.leaves(start.policy), jax.tree.leaves(trained[1].policy), strict=True)
    assert all((one != other).any() for one, other in pairs)
    # Adam's steps are as long as the learning rate, at the most.
    pairs = zip(jax.tree.leaves(start.policy), jax.tree.leaves(trained[1].policy), strict=True)
    assert all(jnp.abs(one - other).max() <= 60 * 1.01e-4 for one, other in pairs)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"checkpoint_every": 30}, "checkpoint-every"),
        ({"update_every": 3}, "call"),
        ({"random_steps": 15}, "random-steps"),
    ],
)
def test_numbers_that_do_not_divide_are_refused(changes, word):
    with pytest.raises(UserError, match=word):
        dataclasses.replace(TRAINING, **changes)


def test_every_body_has_its_recipe():
    assert EXPERTS.keys() == BODIES.keys()
    assert EXPERTS["humanoid"][0].critic_hidden == (1024, 1024, 1024)
    assert {name: training.steps for name, (_, training) in EXPERTS.items()} == {
        "ant": 400_000,
        "ant-ball": 12_000_000,
        "humanoid": 40_000_000,
    }


# The command

ARGUMENTS = [
    *("--agent.hidden", "8", "--agent.critic-hidden", "8", "--steps", "80"),
    *("--training.batch-size", "8", "--training.random-steps", "20"),
    *("--training.environments", "2", "--training.rollout", "5"),
    *("--training.log-every", "20", "--training.checkpoint-every", "40", "--score-steps", "5"),
]


def test_the_command_trains_scores_and_installs(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path / "data"))
    command = ["collect", "expert", "ant", "--run", str(tmp_path / "run"), *ARGUMENTS]
    assert main([*command, "--install"]) == 0
    path = tmp_path / "data" / "experts" / "ant.safetensors"
    assert capsys.readouterr().out.strip() == str(path)
    assert find_expert("ant") == path
    observation = np.ones(29, np.float32)
    expected = trained[1].policy.mode(jnp.asarray(observation))
    np.testing.assert_allclose(load_expert("ant")(observation), expected, atol=1e-5)
    record = read_record(path)
    assert record == json.loads(RunFolder(tmp_path / "run").result_file.read_text())
    assert (record["expert"], record["seed"], record["training"]["steps"]) == ("ant", 0, 80)
    assert len(record["score"]["speeds"]) == 16
    # What is done is not done again, and another run does not go on in its folder.
    before = (tmp_path / "run" / "ant.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "run" / "ant.safetensors").stat().st_mtime_ns == before
    assert main([*command, "--seed", "1"]) == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["exprt", "ant"], "collect takes expert or score"),
        (["expert", "aunt"], "ant"),
        (["score", "aunt"], "ant"),
        (["expert"], "ant"),
    ],
)
def test_what_the_command_does_not_know(words, answer, capsys):
    assert main(["collect", *words]) == 2
    assert answer in capsys.readouterr().err


# The policies


def test_numpy_acts_as_jax_does(tmp_path):
    policy = TanhGaussian(jr.key(0), 5, (16, 16), 3)
    # Away from zero, so that ReLU and tanh have something to do.
    policy = jax.tree.map(lambda x: 3 * x if isinstance(x, jax.Array) else x, policy)
    write_expert(policy, tmp_path / "it.safetensors")
    expert = read_expert(tmp_path / "it.safetensors")
    assert (expert.observation_dim, expert.action_dim) == (5, 3)
    observations = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    expected = jax.vmap(policy.mode)(observations)
    assert np.ptp(expected, axis=0).min() > 1e-3
    for observation, action in zip(observations, expected, strict=True):
        np.testing.assert_allclose(expert(observation), action, atol=1e-5)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "it.safetensors"
    with pytest.raises(UserError, match=r"it\.safetensors: there is no such file"):
        read_expert(path)
    write_expert(TanhGaussian(jr.key(0), 5, (16,), 3), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"it\.safetensors: cannot be read by safetensors"):
        read_expert(path)


def test_where_experts_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(expert_policy, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(UserError, match="nfrl collect expert ant --install"):
        find_expert("ant")
    with pytest.raises(UserError, match="humanoid"):
        find_expert("humaniod")
    for place in ("shipped", "data/experts"):
        path = tmp_path / place / "ant.safetensors"
        write_expert(TanhGaussian(jr.key(0), 29, (8,), 8), path)
        assert find_expert("ant") == path


class Glider:
    """Stands for an environment: moves as far as the action says along the commanded direction."""

    def __init__(self, body):
        self.xy = np.zeros(2)

    def reset(self, seeds, direction):
        self.direction, self.time, self.xy = direction, 0, np.ones(2)
        return np.zeros(1)

    @property
    def is_overturned(self):
        return self.time == 4

    def step(self, action):
        self.time += 1
        self.xy = self.xy + action[0] * self.direction + action[1] * self.direction[::-1] * [-1, 1]
        return np.zeros(1), 0.0, self.time == 5, self.time == 5


def test_the_score_is_the_speed_along_the_direction(monkeypatch):
    """0.3 m along and 0.7 m across in each step of 0.1 s, and a fall in each fifth step.

    In the step before, it is upside down.
    """
    monkeypatch.setattr("nfrl.collect.expert_score.Locomotion", Glider)
    found = score(lambda observation: np.array([0.3, 0.7]), ANT, steps=50)
    assert found["speed"] == pytest.approx(3.0)
    assert found["speeds"] == pytest.approx([3.0] * 16)
    assert found["falls_per_1000_steps"] == pytest.approx(200)
    assert found["overturned"] == pytest.approx(0.2)


def test_what_upside_down_means():
    ant = Locomotion(ANT)
    ant.reset(seeds(0))
    data = ant._environment.unwrapped.data
    for angle, expected in ((0.0, False), (1.4, False), (1.8, True), (np.pi, True), (5.0, False)):
        turned = np.array([np.cos(angle / 2), 0.6 * np.sin(angle / 2), 0.8 * np.sin(angle / 2), 0])
        data.qpos[3:7] = turned
        assert ant.is_overturned == expected


def test_the_shipped_ant_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    record = read_record(find_expert("ant"))
    assert find_expert("ant").stat().st_size < 1_000_000
    paths = walk(load_expert("ant"), ANT, directions=4, steps=150)
    for path in paths:
        along = path.xy[-1] @ path.direction
        assert along / 15 > 0.5 * record["score"]["speed"]
        # It is paid for speed along the direction alone, and keeps to it within thirty degrees.
        assert np.linalg.norm(path.xy[-1] - along * path.direction) < 0.58 * along


def test_the_shipped_ant_runs_where_it_is_told(tmp_path, capsys):
    """Measured and drawn by command: in every direction, quickly, and without a fall."""
    picture = tmp_path / "ant.png"
    assert main(["collect", "score", "ant", "--steps", "150", "--picture", str(picture)]) == 0
    figures = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    speeds = json.loads(figures["speeds"])
    assert len(speeds) == 16
    assert min(speeds) > 1, "metres a second along the command"
    assert float(figures["falls per 1000 steps"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
