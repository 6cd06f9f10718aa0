"""Samples of a trained policy: how far they are from the data, and what is said of it."""

import warnings

import numpy as np
import pytest

import nfrl
from nfrl.data.actions import action_spec
from nfrl.experiment.samples import FAR, Samples


def samples(away: float, *, imitates: bool = True, spread=(2.0, 0.5, 0.0)) -> Samples:
    """Samples so many standard deviations from the data, the last of many nearest."""
    spread = np.array(spread, np.float32)
    data = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    steps = np.linspace(3, 1, 200)[None, :, None] * away * np.where(spread > 0, spread, 7.0)
    return Samples((data[:, None] + steps).astype(np.float32), data, spread, imitates)


@pytest.mark.parametrize("away", [0.0, 0.25, 4.0])
def test_the_distance_is_that_of_the_nearest_in_deviations_of_what_varies(away):
    assert samples(away).distance == pytest.approx(away, rel=1e-5)


def test_far_samples_are_warned_of_where_the_policy_imitates():
    assert samples(0.9 * FAR).warning == ""
    assert "1.1 standard deviations" in samples(1.1 * FAR).warning
    assert samples(1.1 * FAR, imitates=False).warning == ""
    assert "not finite" in samples(np.nan, imitates=False).warning
    assert samples(9.0, spread=(0.0, 0.0, 0.0)).warning == ""


def test_fit_warns_of_a_useless_policy_and_of_no_other(monkeypatch):
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1, 1, (600, 2))
    data = {
        "observations": observations,
        "actions": 0.9 * np.sign(observations),
        "timeouts": np.arange(600) % 30 == 29,
    }
    data["actions"] += 0.01 * rng.normal(size=data["actions"].shape)
    data["actions"] = data["actions"].clip(-1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nfrl.fit("gaussian-bc", data, steps=300, hidden=(32,), progress=False)
    monkeypatch.setattr("nfrl.api.draw_samples", lambda agent, data: samples(3.1))
    with pytest.warns(UserWarning, match=r"3\.1 standard deviations"):
        nfrl.fit("gaussian-bc", data, steps=1, hidden=(32,), progress=False)


def test_columns_of_small_actions_have_bounds_of_their_own():
    rng = np.random.default_rng(0)
    small, large = rng.uniform(-0.02, 0.03, 500), rng.uniform(-1, 1, 500)
    spec = action_spec(np.stack([small, large], axis=1))
    assert (spec.low[0], spec.high[0]) == (small.min(), small.max())
    assert (spec.low[1], spec.high[1]) == (-1, 1)
    told = action_spec(np.stack([small, large], axis=1), bounds=([-1, -1], [1, 1]))
    assert (told.low, told.high) == ((-1, -1), (1, 1)), "an environment's bounds stand above"
