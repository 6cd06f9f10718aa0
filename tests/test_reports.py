"""Reports: records in, tables, figures and pages out."""

import dataclasses
import json
import struct
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nfrl.agents.nf_rlbc import NFRLBCConfig
from nfrl.errors import UserError
from nfrl.evaluation.result import wilson_interval
from nfrl.reports import behaviour, figures, tables
from nfrl.reports.aggregates import aggregate_table, find_rivals, improvement_table
from nfrl.reports.groups import count, group_records, labels
from nfrl.reports.page import make_pictures, write_report
from nfrl.reports.scoreboard import (
    count_table,
    count_tasks,
    paper_tasks,
    scoreboard_table,
    summary_table,
)
from nfrl.reports.style import DPI, group_colours, png
from nfrl.reports.table import Cell, Table
from nfrl.reports.tables import (
    ablation_table,
    all_tables,
    comparison_table,
    cost_table,
    exploring_table,
    find_task,
    returns_table,
    run_table,
    update_readme,
    variants_table,
    ways_table,
)
from nfrl.runs.records import parse_record
from nfrl.task import Task

CUBE = "cube-single-play-v0"
SCENE = "scene-play-v0"
TASKS = {
    name: Task(
        name=name,
        family="gcbc",
        environment="no-such-environment-v0",
        discount=0.97,
        horizon=200,
        published={"nf-gcbc": score},
        published_std={"nf-gcbc": 0.1},
    )
    for name, score in ((CUBE, 0.795), (SCENE, 0.42))
}


published = TASKS.get


def make(task=CUBE, agent="nf-gcbc", seed=0, scores=(0.8, 0.6, 1.0, 0.0, 0.6), **fields):
    score = float(np.mean(scores)) if scores and fields.get("status") != "diverged" else None
    return {
        "task": task,
        "agent": agent,
        "preset": "laptop",
        "variant": "",
        "seed": seed,
        "steps": 30000,
        "score": score,
        "scores": [] if score is None else list(scores),
        "interval": None if score is None else [score - 0.05, score + 0.05],
        "episodes": 50,
        "dataset": {"name": task, "origin": "made", "transitions": 150150, "sha256": "ab" * 32},
        "parameters": 123456,
        "config": {"agent": {"channels": 64}, "seed": seed},
        "versions": {"jax": "0.10.2"},
        "commit": "abc",
        "device": "cpu",
        "train_seconds": 130.0,
        "steps_per_second": 232.0,
        "sample_ms": 0.3,
        "date": f"2026-11-22T13:00:{seed:02d}+00:00",
        **fields,
    }


def records(*fields):
    return [parse_record(json.dumps(each), "test") for each in fields]


def write_run(path, record, maze=False):
    generator = np.random.default_rng(record["seed"])
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "result.json").write_text(json.dumps(record))
    rows = [
        {"step": 100 * i, "seconds": i / 2, "loss": -i / 10, "val_log_prob": i / 10}
        for i in range(1, 20)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(lines + '{"step": 20')
    successes = generator.random((5, 4)) < 0.5
    arrays = {"successes": successes, "lengths": np.full((5, 4), 30)}
    if maze:
        xy = generator.normal(size=(5, 4, 30, 2)).cumsum(axis=2).astype(np.float32)
        xy[:, 0, 20:] = np.nan
        arrays |= {"xy": xy, "goal_xy": np.zeros((5, 2), np.float32)}
    np.savez(path / "evaluation.npz", **arrays)
    np.savez(
        path / "policy_samples.npz",
        actions=generator.uniform(-1, 1, (3, 32, 5)).astype(np.float32),
        data_actions=generator.uniform(-1, 1, (3, 5)).astype(np.float32),
    )


def size(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


# Groups


def test_group_statistics_against_hand_computed():
    found = records(
        make(seed=0, scores=(0.2, 0.4)),
        make(seed=1, scores=(0.6, 0.8)),
        make(seed=2, scores=(1, 0)),
    )
    (group,) = group_records(found)
    assert group.mean == pytest.approx((0.3 + 0.7 + 0.5) / 3)
    assert group.std == pytest.approx(0.2)  # sqrt((0.04 + 0.04 + 0) / 2)
    assert group.goals == pytest.approx((0.6, 0.4))
    low, high = group.interval
    assert 0.25 < low < group.mean < high < 0.75


def test_one_seed_has_the_interval_of_its_record():
    (group,) = group_records(records(make()))
    assert group.std is None
    assert group.interval == pytest.approx((0.55, 0.65))


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_interval_is_no_point_where_all_episodes_ended_alike(seeds):
    found = records(*(make(seed=seed, scores=(0.0,), interval=[0, 0]) for seed in range(seeds)))
    (group,) = group_records(found)
    assert group.interval == pytest.approx(wilson_interval(0, 50 * seeds))


def test_shares_are_no_rates():
    # Fifty episodes that each cover half of the mark are far surer than fifty tosses of a coin.
    fields = {"scores": (0.5,), "interval": [0.49, 0.51], "max_score": 0.6}
    (group,) = group_records(records(*(make(seed=seed, **fields) for seed in range(3))))
    low, high = group.interval
    assert high - low == pytest.approx(0.02 / np.sqrt(3), rel=0.05)
    assert group.goal_intervals == ()


def test_a_record_from_before_a_choice_is_of_what_was_done_then():
    new = dataclasses.asdict(NFRLBCConfig()) | {"goal_columns": [], "temperature": 1.0}
    later = ("standardize", "chunk", "executed", "candidates", "acting_candidates", "likely")
    later += ("critic_unit", "imitate_first", "goal_columns", "temperature")
    old = {name: value for name, value in new.items() if name not in later}
    configs = (old, new, {**new, "chunk": 5})
    found = records(*(make(seed=seed, config={"agent": c}) for seed, c in enumerate(configs)))
    assert sorted(len(group.records) for group in group_records(found)) == [1, 2]


def test_runs_that_went_on_for_longer_are_another_group():
    found = records(*(make(variant="online", online_steps=steps) for steps in (1000, 50_000)))
    groups = group_records(found)
    assert labels(groups) == [
        "nf-gcbc online, 1k online steps",
        "nf-gcbc online, 50k online steps",
    ]


def test_the_resampled_interval_of_equal_seeds_is_the_binomial_one():
    found = records(*(make(seed=seed, scores=(0.5,) * 5) for seed in range(8)))
    low, high = group_records(found)[0].interval
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / (8 * 5 * 50)), rel=0.05)


def test_wilson_interval():
    low, high = wilson_interval(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(0.0, 50)[0] == 0
    assert wilson_interval(1.0, 50) == pytest.approx((0.9287, 1), abs=1e-4)
    # Wilson (1927), equation by equation.
    z = 1.959964
    for n in (1, 7, 50, 150):
        for rate in np.arange(n + 1) / n:
            centre = rate + z**2 / (2 * n)
            half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
            by_hand = np.array([centre - half, centre + half]) / (1 + z**2 / n)
            assert wilson_interval(rate, n) == pytest.approx(by_hand, abs=1e-6)
    # Seeds with unequal numbers of episodes: a mean rate of 5.1 successes in 9.
    assert wilson_interval(5.1 / 9, 9) == wilson_interval(5 / 9, 9)


def test_a_flow_written_within_the_agent_or_by_itself_is_the_same_flow():
    flat = {"blocks": 6, "channels": 64, "encoder": [256]}
    nested = {"flow": {"name": "real-nvp", "blocks": 6, "channels": 64}, "encoder": [256]}
    other = {"flow": {"name": "neural-spline", "blocks": 6, "channels": 64}, "encoder": [256]}
    configs = [{"agent": each} for each in (flat, nested, other)]
    found = group_records(records(*(make(seed=i, config=c) for i, c in enumerate(configs))))
    assert sorted(len(group.records) for group in found) == [1, 2]


def test_runs_that_differ_in_their_settings_are_not_averaged():
    config = {"agent": {"channels": 128}}
    found = records(
        make(), make(seed=1), make(steps=60000), make(config=config), make(variant="no-linear")
    )
    groups = group_records(found)
    assert sorted(len(group.records) for group in groups) == [1, 1, 1, 2]
    names = labels(groups)
    assert len(set(names)) == 4
    assert "nf-gcbc no-linear" in names
    assert "nf-gcbc, 60k steps" in names
    assert "nf-gcbc, 30k steps, channels=128" in names


def test_the_newest_run_of_a_seed_counts():
    found = records(make(date="2026-02", scores=(0.5,)), make(date="2026-01", scores=(0.1,)))
    assert group_records(found)[0].mean == 0.5


def test_diverged_runs_count_in_no_mean_and_are_shown():
    found = records(make(), make(seed=1), make(seed=2, status="diverged"))
    (group,) = group_records(found)
    assert group.mean == pytest.approx(0.6)
    assert [record.seed for record in group.unscored] == [2]
    assert "1 diverged" in comparison_table(found, published).rows[0][1].text


def test_a_run_that_was_not_evaluated_is_said_to_be():
    found = records(make(scores=()), make(seed=1, status="diverged"), make(agent="x", scores=()))
    table = comparison_table(found, published)
    assert [cell.text for cell in table.rows[0][1:3]] == [
        "1 diverged, 1 not evaluated",
        "not evaluated",
    ]


def test_count():
    assert [count(n) for n in (0.3, 12, 30000, 999_999, 2_120_000, None)] == [
        *("0.3", "12", "30k", "1M", "2.12M", "–")
    ]


# Tables


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_the_comparison_has_a_row_a_task_and_the_paper_beside():
    found = records(
        make(seed=0, scores=(0.7,)),
        make(seed=1, scores=(0.8,)),
        make(agent="gaussian-gcbc", scores=(0.3,), interval=[0.2, 0.4]),
        make(task=SCENE, scores=(0.2,)),
        make(task="my-task", scores=(0.5,)),
        make(variant="no-linear", scores=(0.9,)),
    )
    table = comparison_table(found, published)
    assert table.columns == ("task", "gaussian-gcbc", "nf-gcbc", "paper: nf-gcbc")
    assert texts(table) == [
        [CUBE, "0.300 [0.20, 0.40]", "0.750 ± 0.071 (2)", "0.795 ± 0.100"],
        ["my-task", "–", "0.500 [0.45, 0.55]", "–"],
        [SCENE, "–", "0.200 [0.15, 0.25]", "0.420 ± 0.100"],
    ]
    assert [cell.bold for cell in table.rows[0]] == [False, False, True, False]


def test_the_last_row_is_the_mean_over_the_tasks_that_all_have():
    found = records(
        make(scores=(0.7,)),
        make(task=SCENE, scores=(0.0,)),
        make(agent="fm-gcbc", scores=(0.5,)),
        make(agent="fm-gcbc", task=SCENE, scores=(0.4,)),
    )
    last = texts(comparison_table(found, published))[-1]
    assert last == ["mean of 2", "0.450", "0.350", f"{(0.795 + 0.42) / 2:.3f}"]


def test_variants_of_several_tasks_stand_beside_each_other():
    scores = {CUBE: 1.0, SCENE: 0.5, "a-third-task": 0.0}
    wide = [make(task, variant="far", scores=(mean,)) for task, mean in scores.items()]
    plain = [make(SCENE, scores=(0.2,)), make("of-no-variant"), make(CUBE, agent="gcbc")]
    narrow = [make(task, variant="trial") for task in (CUBE, SCENE)]
    table = variants_table(records(*wide, *plain, *narrow), published)
    assert table.columns == ("task", "nf-gcbc", "nf-gcbc far", "paper: nf-gcbc")
    rows = {row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in texts(table)}
    assert rows["a-third-task"] == ["–", "0.000", "–"]
    assert rows[CUBE] == ["–", "1.000", "0.795"]
    assert rows[SCENE] == ["0.200", "0.500", "0.420"]
    assert set(rows) == set(scores)
    assert not variants_table(records(*plain, *narrow), published).rows


def test_agents_of_a_preset_beyond_the_paper_are_compared_like_others(monkeypatch):
    drawn = {}

    def draw(title, groups, *_):
        drawn[title] = [group.first.agent for group in groups]

    monkeypatch.setattr(figures, "score_by_goal", draw)
    far = {"preset": "far-sighted", "variant": "far-sighted"}
    found = records(make(scores=(0.9,), **far), make(agent="gcbc", scores=(0.6,), **far))
    table = comparison_table(found, published)
    assert table.columns == ("task", "gcbc far-sighted", "nf-gcbc far-sighted", "paper: nf-gcbc")
    assert texts(table)[0][1:] == ["0.600 [0.55, 0.65]", "0.900 [0.85, 0.95]", "0.795 ± 0.100"]
    assert not ablation_table(found, find_task).rows
    make_pictures(found, [], published)
    assert drawn == {CUBE: ["gcbc", "nf-gcbc"]}
    plain = records(make(), make(agent="gcbc"))
    assert group_colours(group_records(found)) == group_colours(group_records(plain))


def test_the_longest_run_stands_in_the_comparison():
    found = records(make(steps=60000, scores=(0.9,)), make(scores=(0.1,)))
    assert texts(comparison_table(found, published))[0][1].startswith("0.900")


def test_run_and_cost_tables_have_a_row_a_group():
    found = records(make(), make(seed=1), make(agent="fm-gcbc", status="diverged", seed=3))
    runs, costs = run_table(found, published), cost_table(found)
    assert texts(runs)[0] == [CUBE, "fm-gcbc", "diverged", "–", "–", "–"]
    assert texts(runs)[1][2] == "0.600 ± 0.000 (2)"
    assert texts(runs)[1][-2:] == ["0.795", "0.80 0.60 1.00 0.00 0.60"]
    assert texts(costs)[1][3:] == ["30k", "150k", "123k", "2.2", "232", "0.30"]


def test_tasks_of_several_ways_say_how_many_were_gone():
    ways = {"task": "two-blocks", "agent": "nf-bc", "scores": (0.9,)}
    found = records(
        make(**ways, mode_entropy=0.5, success=0.8),
        make(**ways, seed=1, mode_entropy=1.0, success=0.6),
        make(),
        make(task="two-blocks", agent="gaussian-bc", mode_entropy=None, success=0.0),
    )
    (row,) = texts(ways_table(found))
    assert row == ["two-blocks", "nf-bc", "0.900 ± 0.000 (2)", "0.70", "0.75"]


def exploring(seed, later, **fields):
    """Make the record of a run that explored, whose evaluations were 0 up to its middle."""
    scores = (0.0, 0.0, *later)
    curve = [
        {"step": 30 * i / len(scores), "seconds": i, "score": score, "coverage": 0.1}
        for i, score in enumerate(scores, 1)
    ]
    maze = {"task": "point-u-maze", "agent": "nf-ugs", "steps": 30, "environment_steps": 1_500_000}
    return make(seed=seed, scores=(later[-1],), curve=curve, **maze, **fields)


def test_a_run_that_explored_says_what_it_saw_and_what_it_reached_late():
    found = records(
        exploring(0, (0.5, 0.7, 0.9), coverage=1.0, success_easy=0.9, success_hard=0.5),
        exploring(1, (0.1, 0.3, 0.8), coverage=0.5, success_easy=0.8, success_hard=0.0),
        make(),
    )
    (row,) = texts(exploring_table(found))
    ends, later = "0.850 ± 0.071 (2)", "0.550"
    assert row == ["point-u-maze", "nf-ugs", "1.5M", "0.75", ends, later, "0.85", "0.25"]
    (row,) = texts(exploring_table([dataclasses.replace(record, curve=()) for record in found]))
    assert row[5] == "–"


RETURNS = {"task": "hopper", "measure": "return", "schema": 1}


def gathered(seed, scores, half=50.0, **fields):
    """Make the record of a run that was scored by its returns."""
    mean = float(np.mean(scores))
    interval = [mean - half, mean + half]
    return make(seed=seed, scores=scores, interval=interval, **RETURNS, **fields)


def test_returns_are_neither_rates_nor_averaged_with_what_is():
    (group,) = group_records(records(*(gathered(seed, (3000.0, -200.0)) for seed in range(3))))
    low, high = group.interval
    assert low < 1400 < high
    assert high - low == pytest.approx(100 / np.sqrt(3), rel=0.05)
    assert group.goal_intervals == ()
    (alone,) = group_records(records(gathered(0, (0.0,), half=0.0)))
    assert alone.interval == (0, 0), "no Wilson interval of a return"

    both = records(gathered(0, (3000.0,)), make(task="hopper"))
    assert [group.mean for group in group_records(both)] == [pytest.approx(0.6), 3000]
    rows = texts(comparison_table(both, published))
    assert rows == [
        ["hopper", "0.600 [0.55, 0.65]"],
        ["hopper (return)", "3000.0 [2950.0, 3050.0]"],
    ]


def test_the_mean_over_tasks_leaves_returns_out():
    scores = [make(scores=(0.7,)), make(task=SCENE, scores=(0.1,))]
    rows = texts(comparison_table(records(*scores, gathered(0, (3000.0,))), published))
    assert rows[-1][:2] == ["mean of 2", "0.400"]
    returns = [gathered(0, (3000.0,)), {**gathered(0, (1.0,)), "task": "walker"}]
    assert len(comparison_table(records(*returns), published).rows) == 2


def runs_of(agent, task, *scores):
    return [make(task, agent, seed, scores=(score,)) for seed, score in enumerate(scores)]


def test_agents_are_put_together_over_the_tasks_that_all_of_them_have():
    found = records(
        *runs_of("gcbc", CUBE, 0.1, 0.2, 0.9),
        *runs_of("gcbc", SCENE, 0.3, 0.4, 0.5),
        *runs_of("nf-gcbc", CUBE, 0.8, 0.7),
        *runs_of("nf-gcbc", SCENE, 0.6, 0.2),
        *runs_of("nf-gcbc", "of-one-agent", 1.0),
        *runs_of("fql", "of-another-family", 0.5, 0.6),
        *(gathered(seed, (3000.0,)) for seed in range(2)),
    )
    table = aggregate_table(found)
    rows = {row[0]: row[1:] for row in texts(table)}
    assert set(rows) == {"fql", "gcbc", "nf-gcbc"}
    # The middle four of 0.1 0.2 0.3 0.4 0.5 0.9; of 0.2 0.6 0.7 0.8 the middle two.
    assert rows["gcbc"][:4] == ["2", "3", "0.400", "0.350"]
    assert rows["nf-gcbc"][:4] == ["2", "2", "0.575", "0.650"]
    assert rows["fql"][:4] == ["1", "2", "0.550", "0.550"]
    low, high = map(float, rows["gcbc"][4].strip("[]").split(", "))
    assert 0.1 <= low < 0.35 < high <= 0.9
    assert {row[0].text: row[4].bold for row in table.rows} == {
        **{"fql": False, "gcbc": False},
        "nf-gcbc": True,
    }
    assert f"gcbc, nf-gcbc: on {CUBE}, {SCENE}." in table.note
    assert table == aggregate_table(found)


def test_one_seed_has_no_interval_and_one_run_is_nothing_to_put_together():
    found = records(*runs_of("gcbc", CUBE, 0.5), *runs_of("gcbc", SCENE, 0.1, 0.3))
    assert texts(aggregate_table(found)) == [["gcbc", "2", "1 to 2", "0.350", "0.350", "–"]]
    alone = records(*runs_of("gcbc", CUBE, 0.5), *runs_of("nf-gcbc", CUBE, 0.6))
    assert not aggregate_table(alone).rows
    assert not improvement_table(alone).rows


def test_an_agent_that_shares_no_task_with_all_others_takes_them_none():
    found = records(
        *(run for task in (CUBE, SCENE) for run in runs_of("nf-gcbc", task, 0.5, 0.6)),
        *runs_of("gcbc", CUBE, 0.1, 0.3),
        *runs_of("fm-gcbc", SCENE, 0.1, 0.3),
    )
    (rivals,) = find_rivals(group_records(found))
    assert set(rivals.groups) == {"fm-gcbc", "nf-gcbc"}
    assert rivals.tasks == (SCENE,)
    assert {tuple(row[:3]) for row in texts(improvement_table(found))} == {
        ("nf-gcbc", "fm-gcbc", "1"),
        ("nf-gcbc", "gcbc", "1"),
    }


def test_who_beats_whom_on_common_tasks_the_better_first():
    found = records(
        *runs_of("gcbc", CUBE, 0.1, 0.5),
        *runs_of("gcbc", SCENE, 0.3, 0.4),
        *runs_of("nf-gcbc", CUBE, 0.5, 0.6),
        *runs_of("nf-gcbc", SCENE, 0.2, 0.9, 0.9),
        *runs_of("nf-gcbc", "of-one-agent", 0.0, 0.0),
    )
    ((*words, chance, interval),) = texts(improvement_table(found))
    assert words == ["nf-gcbc", "gcbc", "2", "2 to 3 / 2"]
    # Cube: 3 of 4 pairs and a tie; scene: 4 of 6.
    assert chance == f"{(3.5 / 4 + 4 / 6) / 2:.2f}"
    low, high = map(float, interval.strip("[]").split(", "))
    assert low < float(chance) < high


def test_returns_are_compared_by_their_order():
    ours = [gathered(seed, (3000.0 + seed,)) for seed in range(3)]
    theirs = [gathered(seed, (3001.5,), agent="fql") for seed in range(3)]
    (row,) = texts(improvement_table(records(*ours, *theirs)))
    assert row[:5] == ["fql", "nf-gcbc", "1", "3 / 3", "0.67"]
    assert not aggregate_table(records(*ours, *theirs)).rows


def test_a_published_score_of_another_kind_does_not_stand_beside():
    task = dataclasses.replace(TASKS[CUBE], name="hopper", published={"nf-gcbc": 0.5})
    of_returns = dataclasses.replace(task, scored_by="return", published={"nf-gcbc": 2500.0})
    found = records(gathered(0, (3000.0, 2000.0)))
    assert texts(run_table(found, {"hopper": task}.get))[0][4] == "–"
    row = texts(run_table(found, {"hopper": of_returns}.get))[0]
    assert row[2:] == ["2500.0", "[2450.0, 2550.0]", "2500.0", "3000.0 2000.0"]


def test_rewards_beside_a_score_have_a_table_of_their_own():
    beside = {"mean_return": -12.5, "returns": [-10, -15], "return_interval": [-14, -11]}
    found = records(make(**beside), make(agent="fql"), gathered(0, (1.0,), mean_return=1.0))
    (row,) = texts(returns_table(found))
    assert row == [CUBE, "nf-gcbc", "0.600", "-12.50", "[-14.00, -11.00]", "-10.00 -15.00"]


def test_the_ablation_table_holds_the_papers_numbers():
    found = records(make(), make(variant="no-linear", scores=(0,)), make(task=SCENE))
    rows = texts(ablation_table(found, find_task))
    assert [row[2] for row in rows] == ["full", "no-linear"]
    assert [row[-1] for row in rows] == ["0.795", "0.000"]


def test_the_paper_diverged_without_noise():
    found = records(
        make(task="pusht", agent="nf-bc"),
        make(task="pusht", agent="nf-bc", variant="chunk-16-noise-0", status="diverged"),
    )
    rows = texts(ablation_table(found, find_task))
    assert [row[-1] for row in rows] == ["0.770", "diverged"]


def test_a_table_says_what_its_scores_are():
    measured = dataclasses.replace(TASKS[CUBE], name="pusht", measure="share of the mark covered")
    known = {**TASKS, "pusht": measured}.get
    own = make(task="a-users-task", measure="return", schema=1)
    found = records(make(), make(task="pusht", agent="nf-bc"), make(task="never-heard-of"), own)
    for make_table in (comparison_table, run_table):
        note = make_table(found, known).note
        assert f"success rate ({CUBE}, never-heard-of)" in note
        assert "share of the mark covered (pusht)" in note
        assert "return (a-users-task)" in note
        assert make_table(found[:1], known).note.startswith("Score: success rate.")


def test_published_scores_are_looked_up_where_packages_announce_tasks(monkeypatch):
    monkeypatch.setattr(tables, "mappings", lambda kind: {"tasks": TASKS}[kind])
    assert find_task(CUBE) == TASKS[CUBE]
    assert find_task("never-heard-of") is None


def test_every_table_renders_everywhere():
    ways = {"mode_entropy": 0.5, "success": 0.6}
    seen = {"coverage": 1.0, "success_easy": 1.0, "success_hard": 1.0}
    explored = exploring(0, (1.0,), **seen)
    parts = [make(task, variant="no-linear") for task in (CUBE, SCENE, "a-third-task")]
    found = records(make(**ways, mean_return=1.0), explored, make(agent="a|b <i>x</i>"), *parts)
    found += records(make(agent="a|b <i>x</i>", seed=1))
    for table in all_tables(found, published):
        lines = [line for line in table.markdown().split("\n") if line.startswith("|")]
        widths = {len(line.replace("\\|", "").split("|")) for line in lines}
        assert widths == {len(table.columns) + 2}
        assert len(lines) == len(table.rows) + 2
        assert "<i>" not in table.markdown() + table.html()
        assert table.html().count("<tr>") == len(table.rows) + 1
        console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(table.rich())
        assert table.title in console.export_text()


def test_markup_in_a_name_is_text():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Table("t", "T", ("[red]a",), ((Cell("[bold]b"),),)).rich())
    assert "[red]a" in (text := console.export_text())
    assert "[bold]b" in text


def test_a_table_refuses_a_row_of_another_width():
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Table("t", "T", ("a",), ((Cell("1"), Cell("2")),))


# README


def test_readme_tables_are_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(
        "# Title\n<!-- results:comparison -->\nstale\n<!-- /results:comparison -->\ntext\n"
        "<!-- results:ablation --><!-- /results:ablation -->\nend\n"
    )
    tables = all_tables(records(make()), published)
    update_readme(path, tables)
    once = path.read_text()
    assert "stale" not in once
    assert tables[0].markdown() in once
    assert once.startswith("# Title\n<!-- results:comparison -->\n| task")
    assert "\ntext\n" in once
    assert "*No results yet.*" in once
    assert once.endswith("<!-- /results:ablation -->\nend\n")
    update_readme(path, tables)
    assert path.read_text() == once


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing", "no marker such as <!-- results:comparison -->"),
        ("<!-- results:comparison -->\n", "lacks its <!-- /results:comparison -->"),
        (
            "<!-- results:comparison -->\n<!-- results:runs --><!-- /results:runs -->"
            "<!-- /results:comparison -->",
            "lacks its <!-- /results:comparison -->",
        ),
        ("<!-- results:comparisn --><!-- /results:comparisn -->", "did you mean comparison"),
    ],
)
def test_a_readme_without_proper_markers_is_refused_untouched(tmp_path, text, reason):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        update_readme(path, all_tables(records(make()), published))
    assert path.read_text() == text


# Figures


def test_no_two_lines_of_a_figure_have_one_colour():
    """Neither of a known variant and a new one, nor of an agent and a variant."""
    variants = ("", "chunk-5-best-of-4", "far-sighted", "another", "a-third", "a-fourth", "a-fifth")
    rivals = [make(agent=agent) for agent in ("bc", "fql", "idql", "ifql", "iql", "rebrac")]
    ours = [make(agent="nf-rlbc", variant=variant) for variant in variants]
    colours = group_colours(group_records(records(*rivals, *ours)))
    assert len(set(colours)) == len(rivals) + len(ours)


def test_figures_have_the_expected_size_and_are_not_blank():
    groups = group_records(
        records(make(), make(seed=1), make(agent="fm-gcbc", scores=(), score=0.4, interval=None))
    )
    figure = figures.score_by_goal("a $title_", groups, {"nf-gcbc": 0.795})
    data = png(figure)
    width, height = figure.get_size_inches()
    assert size(data) == (round(width * DPI), round(height * DPI))
    assert size(data)[0] == 1080
    assert len(data) > 10_000
    assert data == png(figures.score_by_goal("a $title_", groups, {"nf-gcbc": 0.795}))


def test_a_long_legend_takes_nothing_from_the_axes():
    heights = []
    for count_of in (2, 14):
        names = [f"a-variant-with-a-long-name-{i}" for i in range(count_of)]
        groups = group_records(records(*(make(variant=name) for name in names)))
        line = np.array([0.0, 1.0])
        run = {"step": line, "seconds": line, "score": line}
        figure = figures.learning_curves("a title", groups, [[run]] * count_of)
        png(figure)
        heights.append(figure.axes[0].get_position().height * figure.get_figheight())
    assert heights[1] > 0.85 * heights[0]


def test_a_figure_with_nothing_to_show_is_none():
    lost = group_records(records(make(status="diverged")))
    assert figures.score_by_goal("t", lost) is None
    assert figures.cost("t", lost) is None
    assert figures.score_by_task(lost, {}) is None
    assert figures.learning_curves("t", lost, [[{}]]) is None


@pytest.mark.parametrize(("goals", "bars"), [(1, 1), (2, 3), (12, 13), (25, 1)])
def test_goals_have_bars_as_far_as_they_can_be_read(goals, bars):
    scores = (0.5,) * goals
    groups = group_records(records(make(scores=scores), make(seed=1, scores=scores)))
    (axes,) = figures.score_by_goal("t", groups).axes
    assert len(axes.patches) == len(axes.get_xticklabels()) == bars
    many = "mean of 25 goals" if goals == 25 else "mean"
    assert axes.get_xticklabels()[-1].get_text() == many
    written = texts(run_table(records(make(scores=scores)), published))[0][-1]
    assert written == ("25 goals" if goals == 25 else " ".join(["0.50"] * goals))


@pytest.mark.parametrize("scores", [(3000.0, -200.0), (-5.0, -7.0), (0.0,)])
def test_returns_have_an_axis_of_their_own(scores):
    groups = group_records(records(gathered(0, scores), gathered(1, scores, agent="fql")))
    line = np.array([0.0, 1.0])
    run = {"step": line, "seconds": line, "score": 1000 * line}
    drawn = (
        figures.score_by_goal("t", groups, {"nf-gcbc": 4000.0}, "return"),
        figures.cost("t", groups, "return"),
    )
    for figure in drawn:
        axes = figure.axes[0]
        low, high = axes.get_ylim()
        assert low <= min(np.mean(scores), 0.0)
        assert high >= max(np.mean(scores), 0.0)
        assert low < high
        assert axes.get_ylabel() == "return"
    low, high = drawn[0].axes[0].get_ylim()
    assert low <= min(scores)
    assert high > 4000
    assert figures.learning_curves("t", groups, [[run], [run]]).axes[0].get_ylabel() == "return"
    other = group_records(records({**gathered(0, scores), "task": "walker"}))
    assert figures.score_by_task([*groups, *other], {}) is None, "each is on a scale of its own"


def test_profiles_have_a_line_an_agent_and_bands_where_seeds_show_their_spread(tmp_path):
    lines = [
        *runs_of("gcbc", CUBE, 0.1, 0.5, 0.5),
        *runs_of("gcbc", SCENE, 0.3, 0.4),
        *runs_of("nf-gcbc", CUBE, 0.5, 0.6),
        *runs_of("nf-gcbc", SCENE, 0.2),
    ]
    (rivals,) = find_rivals(group_records(records(*lines)))
    figure = figures.performance_profiles("t", rivals)
    (axes,) = figure.axes
    assert len(axes.collections) == 1, "nf-gcbc has one seed of scene"
    for line, scores in zip(axes.get_lines(), ([[1, 5, 5], [3, 4]], [[5, 6], [2]]), strict=True):
        tau, shares = line.get_data()
        assert shares[0] == 1
        assert shares[-1] == 0
        # Beside the steps, where rounding does not matter.
        at = int(np.argmin(abs(tau - 0.45)))
        by_hand = np.mean([np.mean(np.array(runs) > 4.5) for runs in scores])
        assert shares[at] == pytest.approx(by_hand)
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = write_report([file], tmp_path / "out", published=published)
    assert "profile.png" in {path.name for path in report.files}
    assert [table.name for table in report.tables[:3]] == ["comparison", "aggregate", "improvement"]


def test_the_mean_curve_is_the_mean_where_every_seed_has_values():
    groups = group_records(records(make(), make(seed=1)))
    step = np.arange(1.0, 6.0)
    first = {"step": step, "seconds": step, "loss": step}
    second = {"step": step[:3], "seconds": step[:3], "loss": step[:3] + 2}
    figure = figures.learning_curves("t", groups, [[first, second]])
    *_, mean = figure.axes[0].get_lines()
    np.testing.assert_allclose(mean.get_xydata(), [[1, 2], [2, 3], [3, 4]])


def test_likelihoods_and_losses_have_panels_of_their_own():
    groups = group_records(records(make(), make(agent="fm-gcbc")))
    step = np.arange(1.0, 6.0)
    times = {"step": step, "seconds": step}
    losses = {"loss": step, "val_loss": step + 1}
    likelihoods = {"log_prob": step, "val_log_prob": step - 1, "loss": -step}
    by_agent = {"nf-gcbc": times | likelihoods, "fm-gcbc": times | losses}
    metrics = [[by_agent[group.first.agent]] for group in groups]
    figure = figures.learning_curves("t", groups, metrics)
    panels = [[line.get_ydata()[0] for line in axes.get_lines()] for axes in figure.axes]
    assert panels == [[0, 1], [0, 1], [2, 1], [2, 1]], "held-out, then training; steps, minutes"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["nf-gcbc", "fm-gcbc"]


def test_a_records_own_curve_is_drawn_where_its_folder_is_gone(tmp_path):
    points = [{"step": 10 * i, "seconds": i, "score": i / 10} for i in (1, 2, 3)]
    (record,) = records(make(curve=points))
    assert record.curve == tuple(points)
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps(make(curve=points)) + "\n")
    name = "cube-single-play-v0-learning.png"
    assert name in {
        path.name for path in write_report([file], tmp_path / "out", published=published).files
    }
    file.write_text(json.dumps(make()) + "\n")
    assert name not in {
        path.name for path in write_report([file], tmp_path / "without", published=published).files
    }


def test_rivals_and_variants_stand_in_one_figure_where_there_are_both(tmp_path, monkeypatch):
    drawn = {}

    def note(title, groups, metrics):
        drawn[title] = [(group.first.agent, group.first.variant) for group in groups]

    monkeypatch.setattr(figures, "learning_curves", note)
    file = tmp_path / "records.jsonl"
    curve = [{"step": 1.0, "seconds": 1.0, "score": 0.5}]
    runs = [
        *(make(curve=curve), make(variant="chunk-5", curve=curve), make(agent="gcbc", curve=curve)),
        *(make(variant="without-a-curve"), make(task=SCENE, variant="x", curve=curve)),
    ]
    file.write_text("".join(json.dumps(run) + "\n" for run in runs))
    write_report([file], tmp_path / "out", published=published)
    title = f"{CUBE}, with all variants"
    assert drawn[title] == [("gcbc", ""), ("nf-gcbc", ""), ("nf-gcbc", "chunk-5")]
    assert f"{SCENE}, with all variants" not in drawn


def test_an_explorers_curve_has_a_panel_for_the_cells_seen():
    times = {"step": 0.0, "seconds": 0.0}
    (group,) = group_records(records(make(curve=[{**times, "score": 0.0, "coverage": 0.25}])))
    (point,) = group.first.curve
    metrics = {key: np.array([value, value]) for key, value in point.items()}
    figure = figures.learning_curves("t", [group], [[metrics]])
    drawn = {axes.get_ylabel(): axes.get_lines()[0].get_ydata()[0] for axes in figure.axes[::2]}
    assert drawn == {"score": 0, "share of cells seen": 0.25}


def test_mazes_and_actions_of_any_size():
    generator = np.random.default_rng(0)
    maze = behaviour.Maze(np.pad(np.zeros((2, 3), bool), 1, constant_values=True), 4.0, (4.0, 4.0))
    xy = generator.normal(size=(2, 3, 8, 2))
    xy[:, 1, 4:] = np.nan
    successes = np.array([[True, True, True], [False, False, False]])
    for walls in (maze, None):
        png(behaviour.trajectories("t", xy, successes, np.zeros((2, 2)), walls))
    for dimensions in (1, 2, 5, 21):
        actions = generator.normal(size=(2, 16, dimensions))
        png(behaviour.sampled_actions("t", actions, actions[:, 0]))


def test_the_walls_come_from_ogbench():
    maze = behaviour.find_maze("ogbench:pointmaze-medium-v0")
    assert maze.walls.shape == (8, 8)
    assert maze.walls[0].all()
    assert not maze.walls[1, 1]
    assert (maze.unit, maze.offset) == (4.0, (4.0, 4.0))
    for nothing in ("no-such-environment-v0", "no_such_module:maze-v0", None):
        assert behaviour.find_maze(nothing) is None


# The page


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    name = "<script>alert(1)</script>"
    write_run(folder / "runs" / "0", make())
    write_run(
        folder / "runs" / "1", make(task=name, device="<b>&", agent="gaussian-gcbc"), maze=True
    )
    (folder / "runs" / "2").mkdir()
    (folder / "runs" / "2" / "config.json").write_text("{}")
    return write_report([folder / "runs"], folder / "out", published=published)


def test_the_page_stands_alone_and_escapes_names(report):
    text = report.page.read_text()
    page = _Page()
    page.feed(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "&lt;script&gt;" in text
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text
    assert "<script>" not in (report.page.parent / "report.md").read_text()


def test_a_report_holds_its_tables_and_files(report):
    assert [table.name for table in report.tables] == ["comparison", "runs", "cost"]
    assert report.page == report.files[0]
    assert [path.name for path in report.unfinished] == ["2"]
    names = {path.name for path in report.files}
    assert {"report.html", "report.md", "scores.png", f"{CUBE}-learning.png"} <= names
    assert {f"{CUBE}-scores.png", f"{CUBE}-nf-gcbc-actions.png"} <= names
    assert any(name.endswith("-paths.png") for name in names)
    written = {path for path in report.page.parent.rglob("*") if path.is_file()}
    assert written == set(report.files)
    text = (report.page.parent / "report.md").read_text()
    for path in report.files[2:]:
        assert size(path.read_bytes())[0] == 1080
        assert f"(figures/{path.name})" in text


def test_a_report_of_what_no_installed_package_knows(tmp_path):
    file, measure = tmp_path / "records.jsonl", "share of blocks placed"
    own = {"failures": 2, "environment": "my_package.envs:Hopper"}
    known = make(task="my-task", schema=1, measure=measure)
    lines = (known, make(task="my-other-task"), gathered(0, (2.0,), **own))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = write_report([file], tmp_path / "out", published={}.get).files[1].read_text()
    assert f"Score: return (hopper); success rate (my-other-task); {measure} (my-task)" in text
    assert "2 episodes ended by a number that is not finite" in text


def test_a_damaged_file_of_arrays_is_refused_by_name(tmp_path):
    write_run(tmp_path / "run", make())
    path = tmp_path / "run" / "evaluation.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=str(path)):
        write_report([tmp_path / "run"], tmp_path / "out", published=published)


def test_the_rooms_import_neither_jax_nor_the_benchmarks():
    import subprocess

    rooms = "nfrl.reports.page, nfrl.runs.records, nfrl.runs.folder, nfrl.runs.results"
    code = f"import {rooms}, sys; sys.exit(bool({{'jax', 'nfrl.benchmarks'}} & set(sys.modules)))"
    paths = {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode == 0


# The scoreboard


def row_of(table, name):
    (row,) = [row for row in table.rows if row[0].text.split()[0] == name]
    return [cell.text for cell in row[1:]]


def test_the_scoreboard_has_the_papers_82_tasks_whatever_was_run():
    assert count_tasks(paper_tasks()) == 82
    empty = scoreboard_table([])
    assert len(empty.rows) == len(paper_tasks()) == 4 + 9 + 30 + 3
    assert row_of(empty, CUBE)[1:4] == ["–"] * 3
    assert row_of(empty, CUBE)[0] == "0.795"
    assert row_of(summary_table([]), "all") == ["82", "0", "53", "0", "0"]


def test_the_scoreboard_tells_the_papers_algorithm_what_goes_beyond_and_rivals():
    ran = records(
        make(scores=(0.2,) * 5),
        make(scores=(0.4,) * 5, steps=90000),
        make(scores=(0.9,) * 5, preset="far-sighted", variant="far-sighted"),
        make(agent="nf-waypoints", scores=(0.8,) * 5),
        make(
            agent="nf-waypoints",
            variant="gaussian",
            scores=(0.7,) * 5,
            config={"agent": {"flow": {"name": "gaussian"}}},
        ),
        make(agent="gcbc", scores=(0.5,) * 5),
        make(agent="fm-gcbc", scores=(0.6,) * 5, variant="odd"),
        make("puzzle-3x3-play-singletask-task4-v0", "nf-rlbc", scores=(1.0,), online_steps=50),
    )
    board = scoreboard_table(ran)
    paper, own, beyond, rival, best = row_of(board, CUBE)
    assert own.startswith("0.400 "), "the longest run, not the best"
    assert beyond.startswith("0.900")
    assert beyond.endswith("nf-gcbc far-sighted")
    assert rival.startswith("0.700")
    assert rival.endswith("nf-waypoints gaussian"), "in our agent, but no flow"
    assert best.startswith(paper)
    assert row_of(board, "puzzle-3x3-play-singletask-task4-v0")[:4] == ["–"] * 4, "not offline"
    counted = summary_table(ran)
    assert row_of(counted, "goal-conditioned") == ["45", "5", "45", "0", "5"]
    (line,) = count_table(ran).rows
    assert [cell.text for cell in line] == ["82", "5", "53", "0", "5"]
    reached = summary_table(records(make(scores=(0.795,) * 5)))
    assert row_of(reached, "goal-conditioned") == ["45", "5", "45", "5", "5"]


def test_only_the_tables_that_are_named_are_made_anew(tmp_path):
    page = tmp_path / "page.md"
    marks = "<!-- results:{0} -->\nold {0}\n<!-- /results:{0} -->\n"
    page.write_text(marks.format("summary") + marks.format("comparison"))
    both = [*all_tables(records(make()), published), summary_table([])]
    update_readme(page, both, ["summary"])
    text = page.read_text()
    assert "old comparison" in text
    assert "old summary" not in text
    with pytest.raises(UserError, match="no <!-- results:runs --> says where"):
        update_readme(page, both, ["runs"])
    with pytest.raises(UserError, match="summry"):
        update_readme(page, both, ["summry"])
