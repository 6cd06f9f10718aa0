"""Trajectories in the host's memory, and what their actions are."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest

from nfrl.data.actions import action_spec
from nfrl.data.dataset import Dataset
from nfrl.data.errors import DataError
from nfrl.data.packed import pack, unpack
from nfrl.data.trajectories import Trajectories
from nfrl.spec import ActionSpec, ArraySpec, Spec

LENGTHS = (5, 1, 3)
ROWS, ENDS = sum(LENGTHS), np.cumsum(LENGTHS)


def made(**further):
    rng = np.random.default_rng(0)
    return Trajectories.from_arrays(
        rng.normal(size=(ROWS, 4)), rng.uniform(-1, 1, (ROWS, 2)), ENDS, **further
    )


def rewarded(rng):
    return {"rewards": rng.normal(size=ROWS), "masks": np.arange(ROWS) % 2}


def test_a_dataset_has_one_more_row_a_trajectory():
    found = made()
    arrays = found.to_arrays()
    assert arrays["terminals"].tolist() == [
        *[False] * 5, True, *[False] * 1, True, *[False] * 3, True
    ]  # fmt: skip
    kept = ~arrays["terminals"]
    np.testing.assert_array_equal(arrays["observations"][kept], found.observations)
    np.testing.assert_array_equal(arrays["actions"][kept], found.actions)
    # What came last is not known here.
    np.testing.assert_array_equal(arrays["observations"][~kept], found.observations[ENDS - 1])
    dataset = found.to_dataset()
    np.testing.assert_array_equal(dataset.transitions, np.flatnonzero(kept))
    assert dataset.rewards is None


def test_final_observations_are_the_last_rows():
    finals = np.arange(12).reshape(3, 4)
    arrays = made(final_observations=finals).to_arrays()
    np.testing.assert_array_equal(arrays["observations"][arrays["terminals"]], finals)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ends": [5, 6]}, "9 rows"),
        ({"ends": [5, 5, 9]}, "must grow"),
        ({"ends": []}, "the last is 0"),
        ({"actions": np.zeros((8, 2))}, "8 rows"),
        ({"actions": np.zeros(9)}, "shape"),
        ({"observations": np.where(np.arange(18).reshape(9, 2) == 7, np.nan, 0)}, "row 3"),
        ({"actions": np.where(np.arange(18).reshape(9, 2) == 7, np.inf, 0)}, "column 1.*row 3"),
        ({"rewards": np.zeros(9)}, "masks"),
        ({"rewards": np.zeros(8), "masks": np.zeros(8)}, "8 rows"),
        ({"final_observations": np.zeros((2, 2))}, "2 rows"),
        ({"final_observations": np.zeros((3, 1))}, "wide"),
        ({"extras": {"qpos": np.zeros((10, 2))}}, "qpos.*10 rows"),
    ],
)
def test_what_cannot_be_is_refused(change, word):
    sound = {"observations": np.zeros((9, 2)), "actions": np.zeros((9, 2)), "ends": ENDS}
    with pytest.raises(ValueError, match=word):
        Trajectories.from_arrays(**(sound | change))


def test_large_numbers_are_no_infinite_ones():
    observations = np.full((ROWS, 4), 3e38, np.float32)
    found = Trajectories.from_arrays(observations, np.zeros((ROWS, 2)), ENDS)
    np.testing.assert_array_equal(found.observations, observations)


def test_the_hash_is_that_of_earlier_versions():
    """Of observations, actions and ends, each with type and shape: as Demonstrations had it."""
    found, expected = made(), hashlib.sha256()
    for array in (found.observations, found.actions, found.ends):
        expected.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    assert found.sha256 == expected.hexdigest()
    finals = dataclasses.replace(found, final_observations=np.zeros((3, 4)))
    assert finals.sha256 == found.sha256
    rng = np.random.default_rng(1)
    with_rewards = dataclasses.replace(found, **rewarded(rng))
    assert with_rewards.sha256 != found.sha256
    other = dataclasses.replace(with_rewards, masks=np.ones(ROWS))
    assert other.sha256 != with_rewards.sha256


def everything():
    rng = np.random.default_rng(2)
    return made(
        **rewarded(rng),
        final_observations=rng.normal(size=(3, 4)),
        final_rows={"actions": rng.normal(size=(3, 2)), "masks": np.array([1, 0, 1])},
        extras={"qpos": rng.normal(size=(ROWS + 3, 5)), "phase": rng.normal(size=ROWS)},
    )


@pytest.mark.parametrize("held_out", [1, 2])
def test_parts_are_the_whole(held_out):
    whole = everything()
    parts = [part.to_arrays() for part in whole.split(held_out)]
    assert parts[1]["terminals"].sum() == held_out
    for name, array in whole.to_arrays().items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


@pytest.mark.parametrize("held_out", [0, 3])
def test_something_must_be_left(held_out):
    with pytest.raises(ValueError, match="held out"):
        everything().split(held_out)


def test_a_single_trajectory_is_parted_by_rows():
    whole = everything().split(2)[0]
    before, after = whole.split_rows(3)
    stored = whole.to_arrays()
    assert (before.transitions, after.transitions) == (3, 2)
    np.testing.assert_array_equal(before.final_observations, after.observations[:1])
    for name in ("observations", "qpos"):
        np.testing.assert_array_equal(before.to_arrays()[name], stored[name][:4])
        np.testing.assert_array_equal(after.to_arrays()[name], stored[name][3:])
    np.testing.assert_array_equal(np.append(before.rewards, after.rewards), whole.rewards)


def test_rewards_of_every_row_of_a_file_reach_the_device():
    rng, found = np.random.default_rng(3), made()
    rewards, masks = rng.normal(size=ROWS + 3), rng.integers(0, 2, ROWS + 3)
    arrays = found.to_arrays()
    direct = Dataset.from_arrays(
        arrays["observations"], arrays["actions"], arrays["terminals"], rewards, masks
    )
    ours = found.with_rewards(rewards, masks).to_dataset()
    jax.tree.map(np.testing.assert_array_equal, ours, direct)
    of_transitions = found.with_rewards(rewards[~arrays["terminals"]], masks[~arrays["terminals"]])
    rows = direct.transitions
    np.testing.assert_array_equal(of_transitions.to_dataset().rewards[rows], direct.rewards[rows])


def test_packed_rows_keep_every_bit_and_their_vectors_are_finite():
    camera, joints = ArraySpec((4, 4, 3), "uint8"), ArraySpec((3,))
    spec = Spec({"joints": joints, "camera": camera}, ActionSpec.unit(2))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (ROWS, 4, 4, 3), np.uint8)
    numbers = rng.normal(size=(ROWS, 3)).astype(np.float32)
    found = Trajectories(pack([numbers, pixels]), np.zeros((ROWS, 2)), ENDS, spec)
    parts = unpack(found.observations, spec)
    np.testing.assert_array_equal(parts["camera"], pixels)
    np.testing.assert_array_equal(parts["joints"], numbers)
    dataset = found.to_dataset()
    rows = dataset.transitions[:4]
    expected = np.concatenate([numbers[:4], pixels[:4].reshape(4, -1)], axis=1)
    np.testing.assert_array_equal(dataset.observations[rows], expected)
    assert dataset.observations.shape == (ROWS + len(ENDS), spec.width)
    numbers[5, 1] = np.nan
    with pytest.raises(ValueError, match="joints: NaN or infinite, first in row 5"):
        Trajectories(pack([numbers, pixels]), np.zeros((ROWS, 2)), ENDS, spec)
    with pytest.raises(ValueError, match="48 numbers wide, but the spec's are 60"):
        Trajectories(pixels.reshape(ROWS, -1), np.zeros((ROWS, 2)), ENDS, spec)


# Actions


def uniform(rows=400, scale=1.0):
    return np.random.default_rng(0).uniform(-scale, scale, (rows, 3)).astype(np.float32)


def test_actions_within_one_are_unit():
    assert action_spec(uniform()).is_unit
    assert action_spec(uniform() * 1.000005).is_unit
    assert action_spec(uniform() * 0.2).is_unit


def test_other_actions_have_their_own_range():
    actions = uniform(scale=2)
    spec = action_spec(actions)
    np.testing.assert_array_equal(spec.low, actions.min(axis=0))
    np.testing.assert_array_equal(spec.high, actions.max(axis=0))
    assert spec.values == (None,) * 3


def test_constant_and_few_valued_columns_are_seen():
    """A joint that is locked at 0.3, and a gripper that is open or shut."""
    actions = uniform()
    actions[:, 0], actions[:, 1] = 0.3, np.where(np.arange(400) % 3 == 0, 1, -1)
    spec = action_spec(actions)
    assert spec.values == ((float(np.float32(0.3)),), (-1.0, 1.0), None)
    assert spec.low == (-1.0,) * 3


@pytest.mark.parametrize("counts", [(391, 9), (80, 80, 80, 80, 80)])
def test_rare_or_many_values_are_a_continuum(counts):
    actions = uniform()
    actions[:, 0] = np.repeat(np.linspace(-1, 1, len(counts)), counts)
    assert action_spec(actions).is_unit


def test_a_later_value_of_a_column_is_not_overlooked():
    actions = np.zeros((3000, 1), np.float32)
    actions[2000:, 0] = np.linspace(0, 1, 1000)
    assert action_spec(actions).is_unit


def test_an_environments_bounds_stand_above_the_datas():
    actions = uniform(scale=2)
    bounds = (np.array([-3, -2, -np.inf]), np.array([3, 2, np.inf]))
    spec = action_spec(actions, bounds=bounds)
    assert spec.low[:2] == (-3, -2)
    assert spec.high[:2] == (3, 2)
    assert (spec.low[2], spec.high[2]) == (actions[:, 2].min(), actions[:, 2].max())


def test_actions_outside_an_environments_bounds_are_refused():
    actions = uniform()
    actions[17, 1] = 1.5
    with pytest.raises(DataError, match=r"a\.npz.*row 17, column 1 is 1\.5.*\[-1, 1\].*scale or"):
        action_spec(actions, bounds=(-np.ones(3), np.ones(3)), where="a.npz")
    with pytest.raises(DataError, match=r"3 numbers.*2"):
        action_spec(actions, bounds=(-np.ones(2), np.ones(2)))
