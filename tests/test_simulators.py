"""Imitation tasks as environments: their conventions, their scores, their demonstrations."""

import dataclasses
from pathlib import Path

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest

from nfrl.benchmarks.imitation import collect_modes as modes
from nfrl.benchmarks.imitation import environments as simulators
from nfrl.benchmarks.imitation import pusht, two_blocks
from nfrl.benchmarks.imitation.collect_modes import entropy, first_contacts
from nfrl.collect.collectors import open_collector
from nfrl.collect.make import make_dataset
from nfrl.collect.recipe import recipe
from nfrl.data.formats import ogbench
from nfrl.environments.episode import episode_seeds, retry_seeds, seed_everything
from nfrl.evaluation.result import Evaluation
from nfrl.evaluation.rollout import evaluate
from nfrl.evaluation.video import record_video
from nfrl.spec import ActionSpec, Spec
from nfrl.task import Task, find_task


class Counting(gymnasium.Env):
    """Comes to 0.9 and goes back to 0.5; goes one of three ways, as its seed has it."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.mode = 0, int(self.np_random.integers(3))
        return np.full(3, self.mode, np.float32), {"goal": np.empty(0, np.float32)}

    def step(self, action):
        self.steps += 1
        score, mode = (0.9, 0.5)[self.steps > 3], self.mode if self.steps > 2 else -1
        return np.zeros(3), 0.0, False, False, {"success": False, "score": score, "mode": mode}


gymnasium.register("Counting-v0", entry_point=Counting)

PUSHT = find_task("pusht")


def make(name):
    assert name in simulators.ENTRY_POINTS
    return gymnasium.make(name, disable_env_checker=True).unwrapped


@pytest.fixture(scope="module")
def environment():
    return make("nfrl/PushT-v0")


# PushT


def test_pusht_keeps_the_conventions(environment):
    observation, info = environment.reset(seed=3, options={"task_id": 1})
    assert (observation.dtype, observation.shape) == (np.float32, (20,))
    assert (info["goal"].dtype, info["goal"].shape) == (np.float32, (0,))
    assert environment.observation_space.contains(observation)
    again, _ = environment.reset(seed=3, options={"task_id": 1})
    np.testing.assert_array_equal(observation, again)
    other, _ = environment.reset(seed=4, options={"task_id": 1})
    assert (observation != other).any()
    _, _, terminated, truncated, info = environment.step(np.zeros(2, np.float32))
    assert (terminated, truncated, info["success"]) == (False, False, False)
    assert 0 <= info["score"] <= 1


def test_keypoints_are_the_packages_own(environment):
    for seed in range(5):
        observation, info = environment.reset(seed=seed)
        expected = environment.physics.get_keypoints(environment.physics._block_shapes)
        np.testing.assert_allclose(observation[:16], expected.ravel(), rtol=1e-5)
        np.testing.assert_allclose(observation[18:], environment.physics.agent.position)
        np.testing.assert_allclose(pusht.observation(info["state"]), observation)
        # The ninth is 45 pixels from the middle of the bar's edge, towards the stem's.
        middle, end = expected[:2].mean(0), expected[6:].mean(0)
        np.testing.assert_allclose(
            observation[16:18], middle + (end - middle) * 45 / 120, rtol=1e-4
        )


def test_the_disc_goes_where_the_action_says(environment):
    environment.reset(seed=0)
    environment.physics.block.position = 256, 450  # out of the way
    for place in ([100.0, 60.0], [400.0, 200.0]):
        for _ in range(30):
            observation, *_ = environment.step(pusht.from_pixels(np.array(place)))
        np.testing.assert_allclose(observation[18:], place, atol=1)
    np.testing.assert_allclose(pusht.to_pixels(pusht.from_pixels(np.array(place))), place)


def test_the_score_is_the_share_of_the_mark_that_is_covered(environment):
    environment.reset(seed=0)
    block = environment.physics.block
    environment.physics.agent.position = 20, 20
    stay = pusht.from_pixels(np.array([20.0, 20.0]))
    for offset, low, high in ((0, 0.999, 1.0), (3, 0.8, 0.95), (200, 0.0, 0.0)):
        block.angle = np.pi / 4
        block.position = 256 + offset, 256
        environment.physics.space.reindex_shapes_for_body(block)
        _, _, terminated, _, info = environment.step(stay)
        assert low <= info["score"] <= high
        assert info["success"] == terminated == (offset == 0)


# Demonstrations of PushT


@pytest.fixture(scope="module")
def planner():
    return open_collector(recipe("pusht"))


def test_a_demonstration_covers_the_mark_and_can_be_replayed(environment, planner):
    seeds = episode_seeds(0, "train", 0)
    episode = planner.episode(seeds, 301)
    rows = len(episode["observations"])
    assert rows <= 301
    assert episode["terminals"].tolist() == [False] * (rows - 1) + [True]
    assert np.abs(episode["actions"]).max() <= 1
    _, reset_seed = seed_everything(seeds)
    observation, info = environment.reset(seed=reset_seed)
    for row in range(rows - 1):
        np.testing.assert_allclose(observation, episode["observations"][row], atol=0.5)
        np.testing.assert_allclose(info["state"], episode["qpos"][row], atol=0.5)
        observation, *_, info = environment.step(episode["actions"][row])
    assert info["score"] > 0.9


def test_a_demonstration_depends_on_its_seeds_alone(planner):
    first, _ = planner.attempt(episode_seeds(0, "train", 1), 60)
    planner.attempt(episode_seeds(0, "train", 2), 60)
    again, _ = planner.attempt(episode_seeds(0, "train", 1), 60)
    for key, values in first.items():
        np.testing.assert_array_equal(values, again[key])


def test_bad_attempts_are_redone(planner, monkeypatch):
    seeds = episode_seeds(0, "train", 4)
    second, _ = planner.attempt(retry_seeds(seeds), 40)
    attempt, coverages = planner.attempt, iter([0.9, 0.91])
    monkeypatch.setattr(planner, "attempt", lambda *a: (attempt(*a)[0], next(coverages)))
    found = planner.episode(seeds, 40)
    np.testing.assert_array_equal(found["actions"], second["actions"])


def test_one_start_is_solved_in_several_ways(planner):
    contacts, ways = [], []
    for index in range(8):
        episode, _ = planner.attempt(episode_seeds(1, "train", index), 50, start=4)
        contacts.append(first_contacts(episode["qpos"], episode["terminals"])[0])
        ways.append(episode["observations"][:10, 18:])
        np.testing.assert_array_equal(ways[-1][0], ways[0][0])
    assert np.ptp(contacts, axis=0).max() > 20  # pixels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "pusht.npz"
    return make_dataset("pusht", path=path, episodes=4, workers=2, progress=False)


def test_data_are_made_whatever_the_workers(made, tmp_path):
    other = make_dataset("pusht", path=tmp_path / "b.npz", episodes=4, workers=1, progress=False)
    assert made.read_bytes() == other.read_bytes()
    found = ogbench.summarize(made)
    assert found.trajectories == 4
    assert found.shortest < found.longest <= 301
    assert found.provenance["transitions"] == found.transitions == found.rows - 4
    assert {"gym-pusht", "pymunk"} <= found.provenance["versions"].keys()
    assert 0 <= found.provenance["modes"]["left_first"] <= 1


def test_modes_are_what_they_say():
    """Two episodes: the disc pushes the block from its left, then from its right."""
    block = np.array([200.0, 200.0, np.pi])  # upside down: its left is the picture's right
    aside = np.array([2.0, 0, 0])
    states = np.array(
        [
            [260, 150, *block],
            [250, 150, *(block - aside)],
            [140, 150, *block],
            [145, 150, *block],
            [150, 150, *(block + aside)],
        ]
    )
    terminals = np.array([False, True, False, False, True])
    contacts = first_contacts(states, terminals)
    np.testing.assert_allclose(contacts, [[-52, 50], [52, 50]], atol=1e-9)
    arrays = {"qpos": states, "terminals": terminals}
    assert modes.pusht(arrays) == {"left_first": 0.5, "contact_entropy": 1.0}
    assert entropy(np.array([3, 3])) == 0
    assert entropy(np.arange(8)) == 3


@dataclasses.dataclass(frozen=True)
class Recorded:
    name: str
    actions: np.ndarray
    spec: Spec


def test_published_actions_are_pixels_and_ours_are_not():
    spec = dataclasses.replace(Spec.vectors(20, 2), action=ActionSpec((0, 0), (512, 512)))
    published = Recorded("chi", np.array([[0.0, 512], [256, 128]]), spec)
    adapted = pusht.adapt(published)
    assert (adapted.name, adapted.spec) == ("chi", Spec.vectors(20, 2))
    np.testing.assert_array_equal(adapted.actions, [[-1, 1], [0, -0.5]])
    np.testing.assert_array_equal(pusht.adapt(adapted).actions, adapted.actions)


# Two blocks


@pytest.fixture(scope="module")
def carrier():
    return open_collector(recipe("two-blocks"))


def test_two_blocks_keep_the_conventions(carrier):
    environment = carrier._environment
    _, info = environment.reset(seed=0, options={"task_id": 1})
    assert info["goal"].shape == (0,)
    assert (info["success"], info["score"], info["order"], info["mode"]) == (False, 0, (), -1)
    for seed in (1, 2, 3, 0):
        environment.reset(seed=seed, options={"task_id": 1})
        starts = environment._data.qpos[[14, 15, 21, 22]].reshape(2, 2)
        assert (np.abs(starts - two_blocks.STARTS[:, :2]) < 0.055).all()
    # Put where they belong, the second first, they count.
    for block, (score, success, order) in ((1, (0.5, False, (1,))), (0, (1, True, (1, 0)))):
        environment._data.joint(f"object_joint_{block}").qpos[:3] = two_blocks.TARGETS[block]
        *_, info = environment.step(np.zeros(5))
        assert (info["score"], info["success"], info["order"]) == (score, success, order)
        assert info["mode"] == 1
    # Where the other belongs they do not.
    environment.reset(seed=0, options={"task_id": 1})
    environment._data.joint("object_joint_0").qpos[:3] = two_blocks.TARGETS[1]
    assert environment.step(np.zeros(5))[-1]["score"] == 0


def test_blocks_are_placed_in_both_orders(carrier):
    episodes = [carrier.episode(episode_seeds(0, "train", index), 301) for index in (0, 3)]
    again = carrier.episode(episode_seeds(0, "train", 0), 301)
    for key, values in episodes[0].items():
        np.testing.assert_array_equal(values, again[key])
    arrays = {key: np.concatenate([e[key] for e in episodes]) for key in ("qpos", "terminals")}
    expected = {"first_block_first": 0.5, "order_entropy": 1.0}
    assert modes.two_blocks(arrays) == expected
    for episode in episodes:
        for block in (0, 1):
            place = episode["qpos"][-1, 14 + 7 * block :][:3]
            assert np.linalg.norm(place - two_blocks.TARGETS[block]) < 0.04
        assert np.abs(episode["actions"]).max() <= 1


# The kitchen


def test_the_kitchen_keeps_the_conventions():
    environment = make("nfrl/Kitchen-v0")
    observation, info = environment.reset(seed=0, options={"task_id": 1})
    assert (observation.dtype, observation.shape) == (np.float32, (59,))
    assert (info["goal"].shape, info["score"], info["mode"]) == ((0,), 0, -1)
    np.testing.assert_array_equal(environment.reset(seed=0)[0], observation)
    assert (environment.reset(seed=1)[0] != observation).any()
    # Put in order by hand, one thing after the other, they count in that order.
    from gymnasium_robotics.envs.franka_kitchen.kitchen_env import (
        OBS_ELEMENT_GOALS,
        OBS_ELEMENT_INDICES,
    )

    for count, task in enumerate(("kettle", "microwave"), 1):
        environment.kitchen.data.qpos[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]
        *_, info = environment.step(np.zeros(9))
        assert info["score"] == count / 4
    assert info["order"] == (1, 0)
    assert info["mode"] == 1
    assert not info["success"]


# Evaluation


def test_evaluation_plays_it_and_keeps_scores():
    task = dataclasses.replace(PUSHT, horizon=100)
    seen = []

    def policy(observations, goals, episodes, times):
        seen.append((observations.shape, goals.shape))
        return 0.5 * np.sin(times[:, None] / 3 + episodes[:, None] + [0, 1.5])

    settings = {"episodes": 4, "seed": 1, "progress": False}
    one = evaluate(task, policy, workers=1, slots=4, **settings)
    two = evaluate(task, policy, workers=2, slots=3, **settings)
    assert set(seen) == {((4, 20), (4, 0)), ((3, 20), (3, 0))}
    for field in ("final_scores", "max_scores", "lengths", "successes"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert one.final_scores.shape == (1, 4)
    assert (one.max_scores >= one.final_scores).all()
    assert (one.max_scores > one.final_scores).any()
    assert one.final_score == one.final_scores.mean()
    low, high = one.max_score_interval
    assert low < one.max_score < high


def test_scores_are_those_of_the_environment(environment, tmp_path):
    def policy(observations, goals, episodes, times):
        return np.clip(0.9 * np.sin(times / 4)[:, None] * [1, -1], -1, 1).astype(np.float32)

    found = evaluate(
        dataclasses.replace(PUSHT, horizon=40),
        policy,
        episodes=2,
        workers=1,
        progress=False,
    )
    for episode in range(2):
        words = np.random.SeedSequence([0, 1, episode])
        environment.reset(seed=int(words.generate_state(2)[0]), options={"task_id": 1})
        scores = [
            environment.step(policy(None, None, None, np.array([time]))[0])[-1]["score"]
            for time in range(40)
        ]
        assert found.final_scores[0, episode] == pytest.approx(scores[-1], abs=1e-6)
        assert found.max_scores[0, episode] == pytest.approx(max(scores), abs=1e-6)
    found.save(tmp_path / "a.npz")
    np.testing.assert_array_equal(Evaluation.load(tmp_path / "a.npz").max_scores, found.max_scores)


def test_the_ways_that_episodes_go_are_kept():
    seen = []

    def policy(observations, goals, episodes, times):
        seen.append(observations[:, 0].astype(int))
        return np.zeros((len(observations), 2))

    task = Task("counting", "imitation", f"{Path(__file__).stem}:Counting-v0", 0.99, 5, goals=1)
    found = evaluate(task, policy, episodes=12, slots=12, workers=2, progress=False)
    np.testing.assert_array_equal(found.modes[0], seen[0])
    assert len(set(seen[0])) == 3
    np.testing.assert_allclose(found.mode_entropy, entropy(seen[0]))
    assert (found.max_score, found.final_score) == (pytest.approx(0.9), pytest.approx(0.5))
    early = evaluate(dataclasses.replace(task, horizon=2), policy, episodes=2, progress=False)
    assert early.modes is early.mode_entropy is None


def test_the_interval_of_scores_covers_their_mean():
    rng, covered = np.random.default_rng(0), []
    for _ in range(100):
        scores = rng.beta(2, 2, size=(1, 50))
        found = Evaluation(np.ones(1), scores > 1, scores, 1.0, 1.0, final_scores=scores)
        low, high = found.final_score_interval
        covered.append(low <= 0.5 <= high)
    assert 0.88 <= np.mean(covered) <= 1
    assert found.max_score is found.max_score_interval is None


def test_a_video_needs_no_mujoco(tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    task = dataclasses.replace(PUSHT, horizon=6)

    def policy(observations, goals, episodes, times):
        return np.zeros((len(observations), 2))

    path = record_video(task, policy, tmp_path / "a.gif", progress=False)
    frames = np.stack(imageio.mimread(path))
    assert frames.shape[1:3] == (200, 200)
    assert frames.std() > 10
