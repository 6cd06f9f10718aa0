"""Numbers: sizes, rates and data that no one should use. A policy is good, or something is said."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from faults.case import Case
from faults.processes import Answer, Command

Arrays = dict[str, np.ndarray]
ROWS, EPISODE = 1000, 50
_STOPPED = "is not finite"
_CONSTANT = "every column of the actions is constant"
_USELESS = "does not do what the data do"


def _plain(draw: np.random.Generator) -> Arrays:
    """A point that goes where its action says."""
    observations = draw.uniform(-1, 1, (ROWS, 3))
    actions = np.tanh(observations[:, :2]) + 0.1 * draw.normal(size=(ROWS, 2))
    return {"observations": observations, "actions": actions.clip(-1, 1)}


def _constant(draw: np.random.Generator) -> Arrays:
    return {"observations": np.full((ROWS, 3), 0.5), "actions": np.full((ROWS, 2), 0.25)}


def _constant_observations(draw: np.random.Generator) -> Arrays:
    return {**_plain(draw), "observations": np.zeros((ROWS, 3))}


def _large(draw: np.random.Generator) -> Arrays:
    found = _plain(draw)
    found["observations"][ROWS // 2] = 1e30
    return found


def _large_actions(draw: np.random.Generator) -> Arrays:
    found = _plain(draw)
    return {**found, "actions": 1e12 * found["actions"]}


def _small_actions(draw: np.random.Generator) -> Arrays:
    found = _plain(draw)
    return {**found, "actions": 1e-12 * found["actions"]}


def _steps(draw: np.random.Generator) -> Arrays:
    """Actions without any noise, which jump."""
    observations = draw.uniform(-1, 1, (ROWS, 3))
    return {"observations": observations, "actions": np.sign(observations[:, :2]) * 0.5}


# Name, data, agent, options, what must come of it.
GOOD, STOPPED, REFUSED, SAID = "good", "stopped", "refused", "good, or said to be useless"
_CASES: tuple[tuple[str, Callable[[np.random.Generator], Arrays], tuple[str, ...], str], ...] = (
    ("plain data", _plain, (), GOOD),
    ("48 blocks", _plain, ("--agent.blocks", "48"), GOOD),
    ("constant data", _constant, (), REFUSED),
    ("constant observations", _constant_observations, (), GOOD),
    ("one observation of 1e30", _large, (), SAID),
    ("actions of 1e12", _large_actions, (), GOOD),
    ("actions of 1e-12", _small_actions, (), GOOD),
    ("learning rate 1", _plain, ("--agent.optimizer.learning-rate", "1"), SAID),
    ("learning rate 1e3", _plain, ("--agent.optimizer.learning-rate", "1e3"), SAID),
    ("learning rate 1e30", _plain, ("--agent.optimizer.learning-rate", "1e30"), STOPPED),
    ("noise 0 on jumps", _steps, ("--agent.noise", "0"), SAID),
    ("noise 1e4", _plain, ("--agent.noise", "1e4"), SAID),
)


def cases(seed: int) -> list[Case]:
    """Return the cases."""
    return [
        Case(
            "training",
            name,
            functools.partial(_train, data, options, expected, seed),
            short=name == "constant data",
            seconds=1000.0,
        )
        for name, data, options, expected in _CASES
    ]


def _train(
    data: Callable[[np.random.Generator], Arrays],
    options: tuple[str, ...],
    expected: str,
    seed: int,
    folder: Path,
) -> str:
    arrays = data(np.random.default_rng(seed))
    np.savez("data.npz", timeouts=np.arange(ROWS) % EPISODE == EPISODE - 1, **arrays)
    words = [
        *("train", "nf-bc", "--data", "data.npz", "--runs", "runs", "--steps", "300"),
        *("--agent.blocks", "2", "--agent.channels", "16", "--agent.encoder", "32"),
        *("--training.batch-size", "64", "--training.validation-batches", "1", *options),
    ]
    answer = Command(words, log=Path("output.log")).wait(900.0)
    if expected == REFUSED:
        assert _CONSTANT in answer.error, answer.text
        return answer.error
    if expected == STOPPED or (expected == SAID and answer.status):
        assert _STOPPED in answer.error, answer.text
        return answer.error
    answer.succeeded()
    return _assert_good_or_said(answer, arrays["actions"], may_be_useless=expected != GOOD)


def _assert_good_or_said(answer: Answer, actions: np.ndarray, *, may_be_useless: bool) -> str:
    """Assert that the samples are near the data, or that it is said that they are not."""
    said = _USELESS in answer.text
    (file,) = Path("runs").rglob("policy_samples.npz")
    with np.load(file) as arrays:
        drawn, given = arrays["actions"], arrays["data_actions"]
    assert np.isfinite(drawn).all()
    spread = np.maximum(actions.std(0), 1e-30)
    away = np.median(np.sqrt((((drawn - given[:, None]) / spread) ** 2).mean(-1)).min(1))
    assert said == (away > 1), (said, away)
    if not said:
        low, high = actions.min(0), actions.max(0)
        room = 0.1 * (high - low)
        assert (drawn >= low - room).all(), "samples lie outside of what the data do"
        assert (drawn <= high + room).all(), "samples lie outside of what the data do"
    assert may_be_useless or not said, answer.text
    return f"the nearest of 200 samples is {away:.2f} deviations away"
