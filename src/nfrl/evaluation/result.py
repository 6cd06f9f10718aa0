"""What an evaluation found."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from nfrl.files import write_atomically


class Measured(NamedTuple):
    """An evaluation in one number.

    Attributes:
        score: The mean over episodes and then over goals.
        by_goal: (goals,) the mean for each goal.
        interval: The 95% bootstrap interval of ``score``.
    """

    score: float
    by_goal: np.ndarray
    interval: tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of a number of episodes for each of a number of goals.

    Attributes:
        goals: (goals,) int, the goals' ``task_id``, from 1.
        successes: (goals, episodes) bool, whether the goal was reached at any time.
        lengths: (goals, episodes) int, steps played.
        seconds: Wall clock time, the start of the workers included.
        steps_per_second: Environment steps a second while playing, the policy's time included.
        xy: (goals, episodes, T, 2) float32, the agent's places in a maze at equal intervals, the
            last one at the episode's end; NaN after that. None where not recorded.
        goal_xy: (goals, 2) float32, the goals' places; None outside mazes. OGBench moves each
            episode's goal a little: this is their mean.
        final_scores: (goals, episodes) float in [0, 1], how far each episode had come at its end:
            the share of a mark covered, of blocks placed. None where the environment does not say.
        max_scores: (goals, episodes) float, the furthest that each had come at any time.
        modes: (goals, episodes) int, which of several ways each episode went (the block that was
            placed first), -1 for none. None where no episode went any.
        returns: (goals, episodes) float, the sum of each episode's rewards; NaN for failures. None
            in files that were written before returns were counted.
        failures: Episodes that ended because an action, an observation or a reward was not finite.
            They are no successes and their final score is 0.
    """

    goals: np.ndarray
    successes: np.ndarray
    lengths: np.ndarray
    seconds: float
    steps_per_second: float
    xy: np.ndarray | None = None
    goal_xy: np.ndarray | None = None
    final_scores: np.ndarray | None = None
    max_scores: np.ndarray | None = None
    modes: np.ndarray | None = None
    returns: np.ndarray | None = None
    failures: int = 0

    def measured(self, by: Literal["success", "score", "return"]) -> Measured:
        """Return the score that a task asks for: its ``scored_by``.

        Raises:
            ValueError: Nothing of the kind was seen.
        """
        values = {"success": self.successes, "score": self.final_scores, "return": self._gathered}
        chosen = values[by]
        if chosen is None:
            raise ValueError(f"the environment gave no {by}")
        # Of rates of success the interval is exact, and none of certainty.
        interval = self.interval if by == "success" else _bootstrap(chosen)
        by_goal = chosen.mean(axis=1)
        return Measured(float(by_goal.mean()), by_goal, interval)

    @property
    def scores(self) -> np.ndarray:
        """(goals,) The success rate for each goal, in [0, 1]."""
        return self.successes.mean(axis=1)

    @property
    def score(self) -> float:
        """The mean success rate over the goals, in [0, 1]."""
        return float(self.scores.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% bootstrap interval of the score, episodes resampled within each goal.

        It speaks of the episodes' chance, not of the training seeds'. Where every goal has been
        reached always or never, resampling gives a point: it is Wilson's there, see
        :func:`wilson_mean_interval`.
        """
        # n draws with replacement from n zeros and ones: their sum is binomial, exactly.
        episodes = self.successes.shape[1]
        generator = np.random.default_rng(0)
        sums = generator.binomial(episodes, self.scores, size=(10_000, len(self.scores)))
        low, high = np.quantile(sums.mean(axis=1) / episodes, [0.025, 0.975])
        if low == high:
            return wilson_mean_interval(self.scores, episodes)
        return float(low), float(high)

    @property
    def final_score(self) -> float | None:
        """The mean of ``final_scores``, over episodes and then over goals."""
        return None if self.final_scores is None else float(self.final_scores.mean())

    @property
    def max_score(self) -> float | None:
        """The mean of ``max_scores``, over episodes and then over goals."""
        return None if self.max_scores is None else float(self.max_scores.mean())

    @property
    def final_score_interval(self) -> tuple[float, float] | None:
        """The 95% bootstrap interval of ``final_score``; a point where all shares are equal."""
        return None if self.final_scores is None else _bootstrap(self.final_scores)

    @property
    def max_score_interval(self) -> tuple[float, float] | None:
        """The 95% bootstrap interval of ``max_score``, as ``interval`` is of ``score``."""
        return None if self.max_scores is None else _bootstrap(self.max_scores)

    @property
    def mean_return(self) -> float | None:
        """The mean of ``returns``, over episodes and then over goals.

        A failure counts as the lowest return of the others, so that it never pays; NaN where all
        have failed.
        """
        return None if self._gathered is None else float(self._gathered.mean())

    @property
    def mean_return_interval(self) -> tuple[float, float] | None:
        """The 95% bootstrap interval of ``mean_return``; a point where all returns are equal."""
        return None if self._gathered is None else _bootstrap(self._gathered)

    @property
    def _gathered(self) -> np.ndarray | None:
        if self.returns is None or np.isnan(self.returns).all():
            return self.returns
        return np.where(np.isnan(self.returns), np.nanmin(self.returns), self.returns)

    @property
    def mode_entropy(self) -> float | None:
        """The entropy of the ways that episodes went, those that went none left out, in bits."""
        if self.modes is None:
            return None
        _, counts = np.unique(self.modes[self.modes >= 0], return_counts=True)
        shares = counts / counts.sum()
        return float(-(shares * np.log2(shares)).sum()) + 0.0

    def save(self, path: str | Path) -> None:
        """Write to an ``.npz`` file; it is there complete or not at all."""
        values = {key: value for key, value in vars(self).items() if value is not None}
        write_atomically(path, lambda file: np.savez_compressed(file, **values))

    @classmethod
    def load(cls, path: str | Path) -> "Evaluation":
        """Read what ``save`` has written."""
        with np.load(path, allow_pickle=False) as file:
            values: dict[str, Any] = {key: file[key] for key in file.files}
        for key in ("seconds", "steps_per_second"):
            values[key] = float(values[key])
        values["failures"] = int(values.get("failures", 0))
        return cls(**values)


def wilson_interval(rate: float, n: int) -> tuple[float, float]:
    """95% Wilson score interval of a success rate ``rate`` seen in ``n`` episodes.

    Of a mean of rates that no number of successes has, the nearest number counts.
    """
    return _wilson(round(rate * n), n)


# SciPy computes a p-value first, which takes milliseconds. Reports ask for few distinct counts.
@functools.cache
def _wilson(successes: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest  # takes a second, which workers and `nfrl tasks` need not pay

    low, high = binomtest(successes, n).proportion_ci(method="wilson")
    return float(low), float(high)


def wilson_mean_interval(rates: Sequence[float] | np.ndarray, n: int) -> tuple[float, float]:
    """95% interval of the mean of success rates, each seen in ``n`` episodes.

    The distances from each rate to the ends of its own Wilson interval are put together as
    independent ones are, by their squares (MOVER; Zou and Donner, 2008).
    """
    mean = float(np.mean(rates))
    ends = np.array([wilson_interval(float(rate), n) for rate in rates])
    down, up = np.sqrt(np.square(ends - np.asarray(rates)[:, None]).sum(axis=0)) / len(rates)
    return float(mean - down), float(mean + up)


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the mean of values (goals, episodes), resampled within goals."""
    goals, episodes = values.shape
    generator = np.random.default_rng(0)
    means = np.zeros(10_000)
    for row in values:
        means += row[generator.integers(episodes, size=(len(means), episodes))].mean(axis=1) / goals
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
