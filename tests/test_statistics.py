"""Statistics of few runs: formulas against SciPy and counting, intervals against simulations."""

import itertools

import numpy as np
import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nfrl.reports.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)

few_levels = st.sampled_from([0.0, 0.25, 0.5, 1.0])  # so that there are ties
ragged = st.lists(st.lists(few_levels, min_size=1, max_size=5), min_size=1, max_size=4)


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (1, 10), (3, 5), (6, 3), (4, 4), (7, 9)])
def test_the_interquartile_mean_is_scipys_trimmed_mean(shape):
    scores = drawn(shape)
    value = interquartile_mean(scores).value
    assert value == pytest.approx(stats.trim_mean(scores, 0.25, axis=None), abs=1e-12)


def test_an_interquartile_mean_by_hand():
    # Of 0, 0.2, 0.4, 0.4, 0.6, 0.8, 0.9, 1 the middle four are 0.4, 0.4, 0.6, 0.8.
    assert interquartile_mean([[0.2, 1, 0.4, 0.9], [0.4, 0, 0.8, 0.6]]).value == pytest.approx(0.55)
    # Three runs lose none: the quarter of three is less than one.
    assert interquartile_mean([[0, 0, 0.9]]).value == pytest.approx(0.3)


def test_every_task_counts_the_same_whatever_its_number_of_runs():
    once, often = [[0.1, 0.5], [0.9, 0.7]], [[0.1, 0.5] * 3, [0.9, 0.7]]
    # The eight runs of `often` lose a quarter of the weight at either end: half a task's.
    assert interquartile_mean(often).value == pytest.approx(0.6)
    assert interquartile_mean(once).value == pytest.approx(0.6)
    for tau in (0.0, 0.3, 0.6, 0.8):
        shares = [performance_profile(scores, [tau]).shares[0] for scores in (once, often)]
        assert shares[0] == shares[1]


@given(ragged)
@settings(max_examples=50, deadline=None)
def test_the_interquartile_mean_of_unequal_numbers_is_that_of_repeated_runs(scores):
    repeats = int(np.lcm.reduce([len(task) for task in scores]))
    total = sum(map(len, scores))
    # Trim by the share of the weight, from as many copies as make every task equally long.
    copies = np.sort([run for task in scores for run in np.repeat(task, repeats // len(task))])
    fine = np.repeat(copies, total)
    cut = (total // 4) * len(copies)
    value = interquartile_mean(scores).value
    assert value == pytest.approx(fine[cut : len(fine) - cut].mean(), abs=1e-9)


@given(ragged, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_probability_of_improvement_is_that_of_counted_pairs(first, random):
    second = [[random.choice([0.0, 0.25, 0.5, 1.0]) for _ in range(random.randint(1, 5))]
              for _ in first]  # fmt: skip
    by_task = []
    for one, other in zip(first, second, strict=True):
        pairs = list(itertools.product(one, other))
        by_task.append(sum(x > y for x, y in pairs) + sum(x == y for x, y in pairs) / 2)
        by_task[-1] /= len(pairs)
    value = probability_of_improvement(first, second).value
    assert value == pytest.approx(np.mean(by_task))
    assert value == pytest.approx(1 - probability_of_improvement(second, first).value)


def test_the_probability_of_improvement_is_mann_whitneys():
    first, second = drawn((4, 6)), drawn((4, 5), seed=1) - 0.5
    by_task = [
        stats.mannwhitneyu(x, y, alternative="greater").statistic / (6 * 5)
        for x, y in zip(first, second, strict=True)
    ]
    found = probability_of_improvement(first, second)
    assert found.value == pytest.approx(np.mean(by_task))
    assert found.interval[0] < found.value < found.interval[1]
    same = probability_of_improvement(first, first)
    assert same.value == 0.5
    # Only the order within a task counts.
    scale = np.array([[1], [10], [100], [1000]])
    again = probability_of_improvement(np.exp(first) * scale, np.exp(second) * scale)
    assert again == found


def test_a_profile_is_the_share_of_runs_above():
    scores = [[0.0, 0.5], [0.5, 1.0, 1.0, 0.2]]
    taus = [-0.1, 0.0, 0.2, 0.5, 1.0]
    found = performance_profile(scores, taus)
    np.testing.assert_allclose(found.shares, [1, 0.75, 0.625, 0.25, 0])
    low, high = found.interval
    assert (low <= found.shares).all()
    assert (found.shares <= high).all()
    # The area under a profile is the mean score, of scores in [0, 1].
    fine = (np.arange(1000) + 0.5) / 1000
    area = performance_profile(scores, fine).shares.mean()
    assert area == pytest.approx((0.25 + 0.675) / 2, abs=1e-3)


def test_intervals_are_those_of_resampling_runs_within_tasks():
    """Against rliable's own way: runs are drawn by their numbers, task by task."""
    scores, rival = drawn((3, 5)), drawn((3, 4), seed=1)
    generator = np.random.default_rng(7)
    ours = np.take_along_axis(scores[None], generator.integers(5, size=(4000, 3, 5)), axis=-1)
    theirs = np.take_along_axis(rival[None], generator.integers(4, size=(4000, 3, 4)), axis=-1)
    by_hand = {
        "iqm": stats.trim_mean(ours.reshape(4000, -1), 0.25, axis=1),
        "better": (ours[..., :, None] > theirs[..., None, :]).mean(axis=(1, 2, 3)),
        "profile": (ours > 0.2).mean(axis=(1, 2)),
    }
    low, high = performance_profile(scores, [0.2]).interval
    found = {
        "iqm": interquartile_mean(scores).interval,
        "better": probability_of_improvement(scores, rival).interval,
        "profile": (low[0], high[0]),
    }
    for name, values in by_hand.items():
        ends = np.quantile(values, [0.025, 0.975])
        assert found[name] == pytest.approx(ends, abs=0.07 if name == "profile" else 0.03), name


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    trials, held = 100, {"iqm": 0, "better": 0, "profile": 0}
    truth = stats.norm.cdf(0.5 / np.sqrt(2))
    for _ in range(trials):
        scores = generator.normal(size=(2, 15))
        rival = generator.normal(-0.5, 1, size=(2, 15))
        profile = performance_profile(scores, [0.0]).interval
        for name, (low, high), value in (
            ("iqm", interquartile_mean(scores).interval, 0.0),
            ("better", probability_of_improvement(scores, rival).interval, truth),
            ("profile", np.ravel(profile), 0.5),
        ):
            held[name] += low <= value <= high
    for name, number in held.items():
        assert 0.86 <= number / trials <= 0.99, (name, number / trials)


def test_a_single_run_on_a_task_has_no_interval():
    scores = [[0.1, 0.2, 0.3], [0.5]]
    assert interquartile_mean(scores).interval is None
    assert performance_profile(scores, [0.2]).interval is None
    assert probability_of_improvement(scores, [[0, 1], [0, 1]]).interval is None
    assert probability_of_improvement([[0, 1], [0, 1]], scores).interval is None


def test_the_same_scores_have_the_same_intervals():
    scores, rival = drawn((3, 4)), drawn((3, 4), seed=1)
    assert interquartile_mean(scores) == interquartile_mean(scores)
    both = [probability_of_improvement(scores, rival) for _ in range(2)]
    assert both[0] == both[1]


def test_few_runs_that_agree_are_no_certainty():
    assert interquartile_mean([[0.3, 0.3], [0.1, 0.1, 0.1]]).interval is None
    assert probability_of_improvement([[0.5, 0.6]], [[0.1, 0.2]]) == (1.0, None)


@pytest.mark.parametrize(
    ("scores", "says"),
    [([], "no task"), ([[1.0], []], "task 1"), ([[[1.0]]], "task 0"), ([[np.nan]], "not finite")],
)
def test_what_is_no_list_of_runs_is_refused(scores, says):
    for of in (interquartile_mean, lambda each: performance_profile(each, [0.5])):
        with pytest.raises(ValueError, match=says):
            of(scores)
    with pytest.raises(ValueError, match="1 and 2 tasks"):
        probability_of_improvement([[1.0]], [[1.0], [1.0]])


def test_the_page_says_what_is_so():
    (example,) = pages.blocks(pages.page("statistics.md"), "python")
    exec(example, {})
