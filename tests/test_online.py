"""Going on from an offline run: the batch's two sources, the environment, and resuming."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents import NFRLBCConfig
from nfrl.cli.main import main
from nfrl.data.dataset import Dataset
from nfrl.data.experience import Experience, add, empty_replay
from nfrl.environments.rewarded import RewardedEnvironment, Step
from nfrl.errors import UserError
from nfrl.experiment import DatasetInfo, Experiment, run
from nfrl.flows import RealNVPConfig
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.task import find_task
from nfrl.training import online
from nfrl.training.loop import NonFiniteLossError
from nfrl.training.offline import OfflineTraining
from nfrl.training.online import ROLLOUT, OnlineTraining, draw_from_both, go_online, load_online

CONFIG = NFRLBCConfig(
    flow=RealNVPConfig(blocks=1, channels=8), encoder=(8,), condition_dim=4, critic=(8,)
)
SPEC = Spec.vectors(3, 2)
TASK = "cube-single-play-singletask-task2-v0"


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Return data whose every number is negative, so that new experience can be told apart."""
    generator = np.random.default_rng(0)
    return Dataset.from_arrays(
        observations=-generator.uniform(0.1, 1, (60, 3)),
        actions=-generator.uniform(0.1, 1, (60, 2)),
        terminals=np.arange(60) % 20 == 19,
        rewards=-np.ones(60),
        masks=np.ones(60),
    )


@pytest.fixture(scope="module")
def agent():
    return CONFIG.build(jr.key(0), SPEC, 100)


@pytest.fixture(scope="module")
def planner():
    """Return an agent that chooses two actions at once, and acts on one where it is evaluated."""
    config = dataclasses.replace(CONFIG, chunk=2, executed=1, discount=0.5)
    return config.build(jr.key(0), SPEC, 100)


class Corridor:
    """Stands in for a simulator: walks to the right as the first action says, five steps long."""

    def begin(self, episode):
        self.state, self.time = np.full(3, 0.01 * (episode % 7 + 1), np.float32), 0
        self.episode = episode
        return self.state

    def step(self, action):
        self.time += 1
        self.state = reached = np.abs(self.state + np.float32(0.1) * np.abs(action[0]))
        ended = self.time == 5
        time, following = self.time, self.begin(self.episode + 1) if ended else reached
        return Step(-time, 1.0, reached, following, False, ended)


@pytest.mark.parametrize("count", [0, 19, 57, 570])
def test_every_transition_old_or_new_is_as_likely(agent, data, count):
    replay = empty_replay(600, 3, 2)
    if count:
        ones = jnp.ones((count, 3))
        new = Experience(ones, ones[:, :2], ones[:, 0], ones[:, 0], ones)
        replay = add(replay, new)
    batch = draw_from_both(agent, data, replay, jr.key(1), 20_000)
    is_new = np.asarray(batch.rewards) > 0
    share = count / (count + 57)  # 60 rows, three of which lead nowhere
    assert abs(is_new.mean() - share) < 4 * np.sqrt(0.25 / 20_000)
    for field in ("observations", "actions", "next_observations"):
        values = np.asarray(getattr(batch, field))
        assert (values[is_new] > 0).all(), "a row is of one source"
        assert (values[~is_new] < 0).all()


def test_a_chunk_is_a_transition_that_counts_as_its_steps(planner, data):
    ones = jnp.ones((30, 4))
    new = Experience(ones[:, :3], ones, ones[:, 0], ones[:, 0], ones[:, :3])
    replay = add(empty_replay(300, 3, 4), new)
    batch = draw_from_both(planner, data, replay, jr.key(1), 20_000)
    share = 2 * 30 / (2 * 30 + 57)
    assert abs((np.asarray(batch.rewards) > 0).mean() - share) < 4 * np.sqrt(0.25 / 20_000)

    corridor, tally = Corridor(), online._Tally()
    observation = corridor.begin(0)
    act = lambda *_: np.full((1, 4), 0.5, np.float32)  # noqa: E731
    rows, _ = online._roll_out(act, corridor, observation, 0, tally, 2, 0.5)
    # Episodes of five steps, whose rewards are -1, -2, ...: two chunks and a half.
    chunks = [(-1 - 0.5 * 2, 0.5), (-3 - 0.5 * 4, 0.5), (-5, 1.0)]
    expected = (chunks * 4)[: ROLLOUT // 2]
    np.testing.assert_allclose(np.stack((rows.rewards, rows.masks), 1), expected)
    assert rows.actions.shape == (ROLLOUT // 2, 4)
    advance = (rows.next_observations - rows.observations)[:, 0]
    np.testing.assert_allclose(advance, ([0.1, 0.1, 0.05] * 4)[: ROLLOUT // 2], atol=1e-6)


@pytest.mark.parametrize("which", ["agent", "planner"])
def test_a_resumed_run_is_an_uninterrupted_one_to_the_bit(which, data, tmp_path, request):
    agent = request.getfixturevalue(which)
    training = OnlineTraining(6 * ROLLOUT, 8, log_every=ROLLOUT, checkpoint_every=2 * ROLLOUT)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    last = go_online(whole, agent, Corridor(), data, training, seed=3)
    assert list(checkpoints.steps_in(whole.checkpoints)) == [6 * ROLLOUT], "only the last is kept"

    class Killed(Exception):
        pass

    def stop(step, _):
        if step == 3 * ROLLOUT:
            raise Killed

    with pytest.raises(Killed):
        go_online(broken, agent, Corridor(), data, training, seed=3, report=stop)
    go_online(broken, agent, Corridor(), data, training, seed=3)
    (one,), (other,) = (checkpoints.steps_in(r.checkpoints).values() for r in (whole, broken))
    assert one.read_bytes() == other.read_bytes()
    lines = [
        [json.loads(line) | {"seconds": 0} for line in run.metrics_file.read_text().splitlines()]
        for run in (whole, broken)
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 6

    config = dataclasses.replace(CONFIG, chunk=1 if which == "agent" else 2)
    like = config.build(jr.key(9), SPEC, 100)
    loaded = load_online(whole, like)
    for a, b in zip(jax.tree.leaves(loaded.policy), jax.tree.leaves(last.policy), strict=True):
        np.testing.assert_array_equal(a, b)
    before = agent.policy.encoder.layers[0].weight
    assert (last.policy.encoder.layers[0].weight != before).any(), "it learnt"


def test_a_loss_that_is_not_finite_stops_the_run(agent, data, tmp_path):
    bad = dataclasses.replace(data, rewards=data.rewards.at[:].set(jnp.nan))
    training = OnlineTraining(ROLLOUT, 8, log_every=ROLLOUT, checkpoint_every=ROLLOUT)
    with pytest.raises(NonFiniteLossError, match="seed 3"):
        go_online(RunFolder(tmp_path), agent, Corridor(), bad, training, seed=3)


@pytest.mark.parametrize(
    "values", [{"steps": 0}, {"steps": 30}, {"checkpoint_every": 1500}, {"batch_size": 0}]
)
def test_bad_values_are_refused(values):
    with pytest.raises(UserError, match="must be"):
        OnlineTraining(**{"steps": 100, **values})


def test_an_episode_depends_on_its_number_and_its_actions_alone():
    ones, others = (
        RewardedEnvironment("ogbench:cube-single-singletask-task2-v0", 3, 0) for _ in "ab"
    )
    others.begin(5)
    others.step(np.ones(5, np.float32))
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    seen = []
    for environment in (ones, others):
        first = environment.begin(2)
        seen.append((first, [environment.step(action) for action in actions]))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    for one, other in zip(seen[0][1], seen[1][1], strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    ended = [step.ended for step in seen[0][1]]
    assert ended == [False, False, True, False], "cut off at the horizon"
    third = seen[0][1][2]
    assert (third.next_observation != third.observation).any(), "a new episode has begun"
    assert (third.reward, third.mask) == (-1.0, 1.0)
    np.testing.assert_array_equal(third.observation, ones.begin(3))


def test_only_agents_that_can_go_on_do(capsys):
    assert main(["train", "iql", TASK, "--online-steps", "100"]) == 2
    assert "for fql and nf-rlbc" in capsys.readouterr().err


@pytest.mark.parametrize(("chunk", "steps", "says"), [(3, 100, "chunk"), (1, 30, "multiple")])
def test_what_cannot_go_on_is_refused_before_the_offline_run(chunk, steps, says, tmp_path):
    config = dataclasses.replace(CONFIG, chunk=chunk)
    nowhere = DatasetInfo("no-data", str(tmp_path / "none.npz"), "file", 0, "", SPEC)
    task, training = find_task(TASK), OfflineTraining(10)
    experiment = Experiment(
        task, "nf-rlbc", "laptop", "", (0,), config, training, nowhere, 0, online_steps=steps
    )
    with pytest.raises(UserError, match=says):
        run(experiment, experiment.run_folders(tmp_path))
    assert not list(tmp_path.iterdir())


# Through the command


def cube_file(folder: Path) -> Path:
    """Write random states of cube-single's sizes, with the joints that rewards are read from."""
    path, generator = folder / "cube.npz", np.random.default_rng(0)
    for file in (path, path.with_name("cube-val.npz")):
        np.savez(
            file,
            observations=generator.normal(size=(60, 28)).astype(np.float32),
            actions=generator.uniform(-1, 1, (60, 5)).astype(np.float32),
            terminals=np.arange(60) % 20 == 19,
            qpos=generator.normal(size=(60, 21)).astype(np.float32),
        )
    return path


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory):
    """A run that went on for 40 steps, after 20 updates, and the words that made it."""
    root = tmp_path_factory.mktemp("online")
    words = [
        *("train", "fql", TASK, "--dataset", str(cube_file(root)), "--runs", str(root / "runs")),
        *("--agent.hidden", "8", "--agent.critic", "8", "--training.batch-size", "8"),
        *("--training.log-every", "20", "--training.checkpoint-every", "20", "--steps", "20"),
        *("--episodes", "1", "--workers", "1", "--online-steps"),
    ]
    assert main([*words, "40"]) == 0
    return root / "runs" / TASK, words


def test_a_record_tells_what_happened_online(gone_on, tmp_path):
    runs, _ = gone_on
    before = RunFolder(runs / "fql-laptop" / "seed-0").read_result()
    folder = RunFolder(runs / "fql-laptop-online" / "seed-0")
    result = folder.read_result()
    assert (result.steps, result.online_steps) == (20, 40)
    assert result.offline_score == before.score
    assert result.variant == "online"
    assert result.train_seconds == pytest.approx(folder.seconds_until(40), abs=0.06)
    assert result.steps_per_second == pytest.approx(40 / folder.seconds_until(40), abs=0.06)


def test_evaluating_again_keeps_what_the_record_says(gone_on, capsys):
    runs, _ = gone_on
    folder = RunFolder(runs / "fql-laptop-online" / "seed-0")
    before = folder.read_result()
    assert main(["eval", str(folder.path), "--episodes", "1", "--workers", "1"]) == 0
    after = folder.read_result()
    for key in ("steps", "online_steps", "offline_score", "score"):
        assert getattr(after, key) == getattr(before, key), key
    assert main(["eval", str(folder.path), "--step", "20"]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


def test_no_run_goes_on_from_one_of_other_values(gone_on, capsys):
    runs, words = gone_on
    shutil.rmtree(runs / "fql-laptop-online")
    assert main([*words, "40", "--agent.alpha", "3"]) == 2
    assert "other values" in capsys.readouterr().err
    assert not (runs / "fql-laptop-online").exists()
