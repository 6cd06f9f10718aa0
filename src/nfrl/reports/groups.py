"""Groups: the runs that differ by their seed alone, and what they come to together."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nfrl.evaluation.result import wilson_interval, wilson_mean_interval
from nfrl.runs.records import Record

MOST_GOALS = 12
"""Up to so many goals a report shows each one's score."""

Interval = tuple[float, float]
_LEARNING = ("batch_size", "discount")
# What the agents did before these could be chosen, and records had them.
_BEFORE = {
    "standardize": False,
    "goal_from": 0,  # now goal_columns
    "goal_columns": [],
    "temperature": 1.0,
    "chunk": 1,
    "executed": None,
    "candidates": 1,
    "acting_candidates": None,
    "likely": 1.0,
    "critic_unit": 1.0,
    "imitate_first": 0,
    "best_of": 1,
    "refine_steps": 0,
    "refine_rate": 0.005,
    "guidance": 0.0,
    "condition_dropout": 0.0,
}
_Settings = tuple[str, bool, str, str, str, int, int, int, str]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one agent on one task with the same settings, one for each seed.

    Attributes:
        records: The runs that ended with a score, by seed.
        unscored: Those that diverged or were not evaluated; they count in no mean and are shown
            beside it.
    """

    records: tuple[Record, ...]
    unscored: tuple[Record, ...] = ()

    @property
    def first(self) -> Record:
        """A record to stand for all, in what they share."""
        return (self.records or self.unscored)[0]

    @property
    def scored(self) -> bool:
        """Whether any run ended with a score."""
        return bool(self.records)

    @property
    def scored_by_return(self) -> bool:
        """Whether the score is a sum of rewards; what else there is lies in [0, 1]."""
        return self.first.scored_by_return

    @property
    def unscored_text(self) -> str:
        """What became of the runs without a score: ``2 diverged``; empty if there are none."""
        outcomes = Counter(record.outcome for record in self.unscored)
        if not self.records and len(self.unscored) == 1:
            return self.unscored[0].outcome
        return ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))

    @property
    def mean(self) -> float:
        """Mean score over seeds; NaN if no run has a score."""
        mean = self.average("score")
        return np.nan if mean is None else mean

    @property
    def std(self) -> float | None:
        """Standard deviation of the score over seeds (n - 1 in the denominator), if n > 1."""
        if len(self.records) < 2:
            return None
        return float(np.std([record.score or 0.0 for record in self.records], ddof=1))

    @property
    def goals(self) -> tuple[float, ...]:
        """Mean score of each goal over seeds; empty where the records differ in their goals."""
        return mean_of_goals([record.scores for record in self.records])

    @property
    def interval(self) -> Interval | None:
        """95% interval of the mean score.

        For one seed the record's own (over episodes); for several, seeds and then the episodes
        of each goal are resampled (5,000 times, from a fixed generator), so that both kinds of
        chance are in it. With fewer than about five seeds it is too narrow. Where success is
        certain, always or never, that would be a point: it is Wilson's there. Of shares and
        returns, only the records' own intervals say how episodes spread.
        """
        interval = self.records[0].interval if len(self.records) == 1 else self._resampled()
        played = sum(record.episodes for record in self.records)
        if interval and interval[0] == interval[1] and self._counts_successes and played:
            return wilson_mean_interval(self.goals, played)
        return interval

    @property
    def goal_intervals(self) -> tuple[Interval, ...]:
        """95% Wilson interval of each goal's success rate, over the episodes of all seeds.

        Empty where scores are no rates but shares, of a mark or of blocks, or returns.
        """
        n = sum(record.episodes for record in self.records)
        if not n or not self._counts_successes:
            return ()
        return tuple(wilson_interval(score, n) for score in self.goals)

    @property
    def _counts_successes(self) -> bool:
        return not self.scored_by_return and all(
            record.max_score is None for record in self.records
        )

    def _resampled(self) -> Interval | None:
        """Resample seeds, and within each what its episodes could have been."""
        episodes = {record.episodes for record in self.records}
        if not self.goals or len(episodes) != 1 or 0 in episodes:
            return None
        (n,) = episodes
        generator = np.random.default_rng(0)
        seeds = generator.integers(len(self.records), size=(5000, len(self.records)))
        if self._counts_successes:
            scores = np.array([record.scores for record in self.records])  # (seeds, goals)
            drawn = generator.binomial(n, np.clip(scores[seeds], 0, 1)).mean(axis=2) / n
        else:
            if not all(record.interval for record in self.records):
                return None
            scores = np.array([record.score for record in self.records])
            ends = np.array([record.interval for record in self.records])
            spread = (ends[:, 1] - ends[:, 0]) / (2 * 1.96)
            drawn = generator.normal(scores[seeds], spread[seeds])
            drawn = drawn if self.scored_by_return else drawn.clip(0, 1)
        low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
        return float(low), float(high)

    def average(self, field: str) -> float | None:
        """Mean of a field over the runs that have it, whether or not they have a score."""
        values = [getattr(record, field) for record in (*self.records, *self.unscored)]
        values = [value for value in values if value is not None]
        return float(np.mean(values)) if values else None


def group_records(records: Iterable[Record]) -> list[Group]:
    """Group records that differ by their seed alone, sorted by task, agent, variant and preset.

    Runs of different length, of different amounts of data or with different settings of the
    agent are never averaged, nor are returns and what lies in [0, 1]. Where a seed was run twice,
    the newest run counts.
    """
    newest: dict[tuple[_Settings, int], Record] = {}
    for record in sorted(records, key=lambda record: record.date):
        newest[_settings(record), record.seed] = record
    finished: dict[_Settings, list[Record]] = {}
    unscored: dict[_Settings, list[Record]] = {}
    for (settings, _), record in sorted(newest.items()):
        (unscored if record.score is None else finished).setdefault(settings, []).append(record)
    keys = sorted({*finished, *unscored})
    return [Group((*finished.get(key, ()),), (*unscored.get(key, ()),)) for key in keys]


def compared(groups: Iterable[Group]) -> list[Group]:
    """Return those that agents are compared by: of no variant, or all where each is of one.

    A run with a preset that goes beyond the paper is a variant.
    """
    groups = list(groups)
    return [group for group in groups if not group.first.variant] or groups


def agent_and_variant(group: Group) -> str:
    """Name a group by its agent and variant."""
    return f"{group.first.agent} {group.first.variant}".strip()


def name_columns(groups: Iterable[Group]) -> Callable[[Group], str]:
    """Return how to name what is compared: agent and variant, and the preset if there are several.

    Args:
        groups: All that are compared.
    """
    presets = {group.first.preset for group in groups}

    def name(group: Group) -> str:
        preset = f" ({group.first.preset})" if len(presets) > 1 else ""
        return agent_and_variant(group) + preset

    return name


def longest(groups: Iterable[Group], name: Callable[[Group], str]) -> dict[tuple[str, str], Group]:
    """Return one group for each task and name: the longest run, then the one with most data."""
    size = lambda group: (group.first.steps, group.first.transitions or 0)  # noqa: E731
    found = by_task(sorted(groups, key=size)).items()
    return {(task, name(group)): group for task, own in found for group in own}


def mean_of_goals(scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Mean over seeds of what each has for every goal; empty where they differ in their goals."""
    if len({len(each) for each in scores}) != 1:
        return ()
    return tuple(map(float, np.mean(scores, axis=0)))


def by_task(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Put groups under their tasks' names.

    What a task's returns are stands apart where it was scored otherwise, too: no row of a table and
    no axis holds both.
    """
    groups = list(groups)
    otherwise = {group.first.task for group in groups if not group.scored_by_return}
    found: dict[str, list[Group]] = {}
    for group in groups:
        name = group.first.task
        apart = group.scored_by_return and name in otherwise
        found.setdefault(f"{name} (return)" if apart else name, []).append(group)
    return found


def labels(groups: Sequence[Group]) -> list[str]:
    """Name each group: its agent and variant, and as much of its settings as tells them apart."""
    traits = [_traits(group.first) for group in groups]
    names = [" ".join(filter(None, each[:2])) for each in traits]
    for level in range(2, max(map(len, traits), default=0)):
        words = ["".join(each[level : level + 1]) for each in traits]
        seen: dict[str, set[str]] = {}
        for name, word in zip(names, words, strict=True):
            seen.setdefault(name, set()).add(word)
        names = [
            f"{name}, {word or 'other'}" if len(seen[name]) > 1 else name
            for name, word in zip(names, words, strict=True)
        ]
    return names


def score_text(score: float, by_return: bool = False) -> str:
    """Write a score: with three decimals in [0, 1], and a return with as many as its size needs."""
    return f"{score:.{_decimals(score)}f}" if by_return else f"{score:.3f}"


def _decimals(number: float) -> int:
    return 3 if abs(number) < 1 else 2 if abs(number) < 100 else 1


def count(number: float | None) -> str:
    """Write a large number short: 2.12M, 30k."""
    if number is None:
        return "–"
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}"


def _settings(record: Record) -> _Settings:
    """What the records of a group share, in the order in which groups are sorted."""
    config = json.dumps(_config(record), sort_keys=True)
    return (
        *(record.task, record.scored_by_return, record.agent, record.variant, record.preset),
        *(record.steps, record.transitions or 0, record.online_steps, config),
    )


def _traits(record: Record) -> tuple[str, ...]:
    """The same in words, the most telling first."""
    data = f"{count(record.transitions)} transitions" if record.transitions else ""
    online = f"{count(record.online_steps)} online steps" if record.online_steps else ""
    return (
        *(record.agent, record.variant, record.task, record.preset),
        *(f"{count(record.steps)} steps", data, online),
        *(f"{name}={value}" for name, value in sorted(_config(record).items())),
    )


def _config(record: Record) -> dict[str, Any]:
    """The settings that change what is learnt, and not only how it is logged or stored."""
    config = {**_BEFORE, **(record.config.get("agent") or {})}
    if isinstance(flow := config.get("flow"), dict):  # its sizes stood among the agent's before
        del config["flow"]
        config |= {name: value for name, value in flow.items() if value != "real-nvp"}
    training = record.config.get("training") or {}
    config.update({name: training[name] for name in _LEARNING if name in training})
    return config
