"""Four corner targets in any order: the environment, and its demonstrations."""

import numpy as np
import pytest

from nfrl.benchmarks.imitation import collect_multimodal_ant
from nfrl.benchmarks.imitation.collect_modes import reached_orders
from nfrl.benchmarks.imitation.collect_multimodal_ant import MultimodalAntCollector
from nfrl.benchmarks.imitation.multimodal_ant import ORDERS, TARGETS, MultimodalAnt
from nfrl.collect.recipe import recipe
from nfrl.environments.episode import episode_seeds
from nfrl.errors import UserError


def teleport(environment, place):
    """Put the ant somewhere, and let it act once."""
    environment.set_xy(np.asarray(place, float))
    return environment.step(np.zeros(8))


@pytest.fixture(scope="module")
def environment():
    return MultimodalAnt()


def test_an_observation_is_the_ant_the_targets_and_what_was_reached(environment):
    observation, info = environment.reset(seed=0)
    assert observation.shape == environment.observation_space.shape == (41,)
    np.testing.assert_array_equal(observation[:15], environment.data.qpos)
    np.testing.assert_array_equal(observation[15:29], environment.data.qvel)
    np.testing.assert_array_equal(observation[29:37].reshape(4, 2), TARGETS)
    np.testing.assert_array_equal(observation[37:], 0)
    assert (info["score"], info["mode"], info["success"]) == (0, -1, False)
    assert info["goal"].shape == (0,)


@pytest.mark.parametrize("mode", [0, 9, 23])
def test_targets_count_once_each_and_their_order_is_the_mode(environment, mode):
    environment.reset(seed=0)
    for count, target in enumerate(ORDERS[mode], start=1):
        outside = TARGETS[target] * (1 - 1.3 / 5)  # 1.8 m short of it.
        _, reward, _, _, info = teleport(environment, outside)
        assert (reward, info["score"]) == (0, (count - 1) / 4)
        inside = TARGETS[target] * (1 - 0.5 / 5)  # 0.7 m short.
        observation, reward, over, _, info = teleport(environment, inside)
        assert (reward, info["score"], over) == (1, count / 4, count == 4)
        assert observation[37 + target] == 1
        assert observation[37:].sum() == count
        _, reward, _, _, info = teleport(environment, inside)
        assert (reward, info["score"]) == (0, count / 4)  # Again counts nothing.
    assert (info["mode"], info["success"]) == (mode, True)
    observation, info = environment.reset(seed=0)
    assert (info["score"], observation[37:].sum()) == (0, 0)


class Compass:
    """Stands for the expert: does nothing, and remembers where it was told to go."""

    def __init__(self):
        self.directions = []

    def __call__(self, observation):
        assert observation.shape == (29,)
        self.directions.append(observation[27:])
        return np.zeros(8)


@pytest.fixture
def collector(monkeypatch):
    compass = Compass()
    monkeypatch.setattr(collect_multimodal_ant, "load_expert", lambda name: compass)
    collector = MultimodalAntCollector(recipe("multimodal-ant"))
    step = collector._environment.step

    def fly(action):
        """Go 0.8 m the way that was commanded, whatever the legs do."""
        collector._environment.set_xy(
            collector._environment.get_xy() + 0.8 * compass.directions[-1]
        )
        return step(action)

    monkeypatch.setattr(collector._environment, "step", fly)
    return collector


def test_demonstrations_reach_all_targets_in_every_order_by_chance(collector):
    firsts = []
    for index in range(12):
        episode = collector.episode(episode_seeds(0, "train", index), 300)
        flags = episode["observations"][:, 37:]
        assert flags[-1].sum() == 4
        assert flags[-2].sum() < 4  # It ends there.
        assert episode["terminals"].tolist() == [False] * (len(flags) - 1) + [True]
        assert (np.diff(flags, axis=0) >= 0).all()
        firsts.append(tuple(np.argsort(flags.argmax(axis=0))))
    assert len(set(firsts)) >= 6
    again = collector.episode(episode_seeds(0, "train", 3), 300)
    assert tuple(np.argsort(again["observations"][:, 37:].argmax(axis=0))) == firsts[3]


def test_what_does_not_arrive_is_not_kept(collector):
    _, success = collector.attempt(episode_seeds(0, "train", 0), 20)
    assert not success
    with pytest.raises(UserError, match="more steps"):
        collector.episode(episode_seeds(0, "train", 0), 5)


def test_orders_are_read_from_the_flags():
    orders = ((3, 0, 1, 2), (0, 1, 2, 3))
    observations = np.zeros((10, 41))
    for episode, order in enumerate(orders):
        for step, target in enumerate(order, start=1):
            observations[5 * episode + step : 5 * episode + 5, 37 + target] = 1
    terminals = np.arange(10) % 5 == 4
    np.testing.assert_array_equal(reached_orders(observations, terminals), [3012, 123])
