"""Statistics of few runs on several tasks, after Agarwal et al. (2021), as rliable computes them.

Scores are given task by task: for each task an array with the score of every run (runs,). Every
task counts the same, however many runs it has. Intervals are stratified percentile bootstraps:
the runs of each task are resampled within it, and the tasks stay as they are. There is none where
a task has a single run, because resampling one run shows no spread; nor where all resamples agree,
because few runs that agree are no certainty.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 5000
"""How often the runs are resampled, from a fixed generator."""

Interval = tuple[float, float]


class Estimate(NamedTuple):
    """A number with its 95% interval; None where resampling cannot show one."""

    value: float
    interval: Interval | None


class Profile(NamedTuple):
    """A performance profile.

    Attributes:
        shares: (thresholds,) the share of runs with a score above each threshold.
        interval: The ends (thresholds,) of the 95% interval of each share; None where a task has a
            single run.
    """

    shares: NDArray[np.float64]
    interval: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def interquartile_mean(scores: Sequence[ArrayLike]) -> Estimate:
    """Return the mean of the middle half of all runs on all tasks.

    Of N runs, floor(N / 4) are left out at either end. With as many runs on each task this is
    ``scipy.stats.trim_mean(scores, 0.25, axis=None)``. With unequal numbers, runs of a task with n
    of them weigh 1 / n, and the same share of the weight is left out.

    Args:
        scores: For each task, the scores of its runs (runs,), on a scale that tasks share.

    Raises:
        ValueError: There is no task, a task has no runs, or a score is not finite.
    """
    tasks = _checked(scores)
    values = np.concatenate(tasks)
    order = np.argsort(values, kind="stable")

    def of(weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        together = np.concatenate(weights, axis=-1)[..., order] / len(tasks)
        return _trimmed_mean(values[order], together)

    value = float(of([np.full(len(task), 1 / len(task)) for task in tasks]))
    if not _spread_is_seen(tasks):
        return Estimate(value, None)
    return Estimate(value, _ends(of(list(_resampled(np.random.default_rng(0), tasks)))))


def probability_of_improvement(first: Sequence[ArrayLike], second: Sequence[ArrayLike]) -> Estimate:
    """Return how likely a run of the first agent beats one of the second, on a task at random.

    On each task it is the Mann-Whitney statistic U / (runs * runs): the share of pairs of runs
    that the first wins, where a tie is half a win. The value is the mean over tasks. Only the order
    of scores within a task counts, so tasks may have scales of their own.

    Args:
        first: For each task, the scores of the first agent's runs (runs,).
        second: The same of the second agent, on the same tasks in the same order.

    Raises:
        ValueError: The agents have different numbers of tasks; or as
            :func:`interquartile_mean`.
    """
    ours, theirs = _checked(first), _checked(second)
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} tasks: the agents need the same ones")
    wins = [
        (one[:, None] > other) + 0.5 * (one[:, None] == other)
        for one, other in zip(ours, theirs, strict=True)
    ]
    value = float(np.mean([each.mean() for each in wins]))
    if not (_spread_is_seen(ours) and _spread_is_seen(theirs)):
        return Estimate(value, None)
    generator = np.random.default_rng(0)
    drawn = np.zeros(RESAMPLES)
    weights = zip(_resampled(generator, ours), _resampled(generator, theirs), strict=True)
    for each, (one, other) in zip(wins, weights, strict=True):
        drawn += np.sum(one @ each * other, axis=-1) / len(wins)
    return Estimate(value, _ends(drawn))


def performance_profile(scores: Sequence[ArrayLike], thresholds: ArrayLike) -> Profile:
    """Return the share of runs whose score lies above each threshold, the mean over tasks.

    Args:
        scores: For each task, the scores of its runs (runs,), on a scale that tasks share.
        thresholds: The thresholds tau (thresholds,).

    Raises:
        ValueError: As :func:`interquartile_mean`.
    """
    tasks = _checked(scores)
    above = [(task[:, None] > np.asarray(thresholds)).astype(float) for task in tasks]
    shares = np.mean([each.mean(axis=0) for each in above], axis=0)
    if not _spread_is_seen(tasks):
        return Profile(shares, None)
    drawn = np.zeros((RESAMPLES, *shares.shape))
    for weights, each in zip(_resampled(np.random.default_rng(0), tasks), above, strict=True):
        drawn += weights @ each / len(tasks)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Profile(shares, (low, high))


def _checked(scores: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    tasks = [np.asarray(task, float) for task in scores]
    if not tasks:
        raise ValueError("there is no task")
    for index, task in enumerate(tasks):
        if task.ndim != 1 or not task.size:
            raise ValueError(f"task {index}: scores of shape {task.shape}, not (runs,)")
        if not np.isfinite(task).all():
            raise ValueError(f"task {index}: a score is not finite")
    return tasks


def _spread_is_seen(tasks: Sequence[NDArray[np.float64]]) -> bool:
    return all(len(task) > 1 for task in tasks)


def _resampled(
    generator: np.random.Generator, tasks: Sequence[NDArray[np.float64]]
) -> Iterator[NDArray[np.float64]]:
    """Yield for each task the weights (resamples, runs) of its runs in every resample.

    A resample is how often each run was drawn. So no statistic has to sort or compare it anew.
    """
    for task in tasks:
        size = len(task)
        drawn = (
            generator.integers(size, size=(RESAMPLES, size)) + size * np.arange(RESAMPLES)[:, None]
        )
        counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * size)
        yield counts.reshape(RESAMPLES, size) / size


def _trimmed_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of sorted values (runs,) without a quarter of the weight (..., runs) at either end."""
    cut = (len(values) // 4) / len(values)
    reached = np.cumsum(weights, axis=-1)
    kept = np.clip(reached, cut, 1 - cut) - np.clip(reached - weights, cut, 1 - cut)
    return kept @ values / (1 - 2 * cut)


def _ends(drawn: NDArray[np.float64]) -> Interval | None:
    if np.ptp(drawn) < 1e-9:  # equal but for rounding
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
