"""Records: one schema, what is refused, and what a run's folder keeps beside them."""

import dataclasses
import importlib.metadata
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from nfrl.cli.main import main
from nfrl.errors import UserError
from nfrl.runs import provenance, records
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import (
    SCHEMA,
    Record,
    append_record,
    load_records,
    parse_record,
    read_jsonl,
    read_result,
)
from nfrl.runs.results import find_runs

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("results/*.jsonl"), ROOT / "docs" / "tuning.jsonl"])
CUBE = "cube-single-play-v0"


def make(seed=0, **fields):
    values = {
        **{"task": CUBE, "agent": "nf-gcbc", "seed": seed, "steps": 30000},
        **{"measure": "success rate", "score": 0.6, "scores": (0.8, 0.6, 1.0, 0.0, 0.6)},
        **{"interval": (0.55, 0.65), "episodes": 50, "date": "2026-11-22T13:00:00+00:00"},
        **{"dataset": {"name": CUBE, "transitions": 150150}, "config": {"agent": {"hidden": (8,)}}},
    }
    return Record(**{**values, **fields})


def before(**fields):
    """Return the JSON of a record from before there was a schema."""
    value = make().to_json()
    del value["schema"], value["measure"]
    return {**value, **fields}


def explored(**fields):
    seen = {"success_easy": 1.0, "success_hard": 0.0, "coverage": 0.9, "environment_steps": 640}
    curve = ({"step": 2, "seconds": 1.5, "score": 0.0, "coverage": 0.5},)
    return make(family="exploration", interval=None, dataset={}, curve=curve, **seen, **fields)


def placed(**fields):
    return make(measure="share of blocks placed", max_score=0.7, success=0.5, **fields)


def gathered(**fields):
    values = {"measure": "return", "score": -3200.5, "scores": (-3200.5,), "interval": (-3300, -10)}
    returns = {"mean_return": -3200.5, "returns": (-3200.5,), "return_interval": (-3300, -10)}
    return make(**{**values, **returns, "failures": 2, "environment": "my_envs:Hopper", **fields})


# The schema


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_record_from_before_is_read_and_loses_nothing(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = read_jsonl(path)
    assert len(found) == len(lines) > 0
    for line, record in zip(lines, found, strict=True):
        written = record.to_json()
        assert {name: written[name] for name in line} == line
        assert not any(written[name] for name in written.keys() - line.keys())
        assert not record.extra
        assert Record.from_json(written, "again") == record


RECORDS = {
    "scored": make(),
    "bare": make(scores=(), score=None, interval=None),
    "diverged": make(scores=(), score=None, interval=None, status="diverged"),
    "explored": explored(),
    "placed": placed(mode_entropy=0.5),
    "gathered": gathered(),
    "online": make(online_steps=40, offline_score=0.5),
    "zeros": placed(score=0.0, scores=(0.0,), mode_entropy=0.0, mean_return=0.0, sample_ms=0.0),
    "extra": make(extra={"my-measure": [1, 2]}),
    "before": parse_record(json.dumps(before(colour="blue")), "test"),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_written_is_read_back(kind, tmp_path):
    record = RECORDS[kind]
    append_record(tmp_path / "all.jsonl", record)
    RunFolder(tmp_path / "run").write_result(record)
    (back,) = load_records([tmp_path / "all.jsonl"])
    assert back.to_json() == record.to_json()
    assert RunFolder(tmp_path / "run").read_result() == read_result(tmp_path / "run") == back
    assert Record.from_json(back.to_json(), "again") == back


def test_every_field_has_its_check_and_stands_in_order():
    names = [field.name for field in dataclasses.fields(Record)]
    assert set(records._CHECKS) == set(names)
    for record in RECORDS.values():
        known = [name for name in record.to_json() if name in names]
        assert known == [name for name in names if name in known]


def test_what_only_some_runs_have_is_left_out_of_the_others():
    plain, maze, blocks = make().to_json(), explored().to_json(), placed().to_json()
    special = {"coverage", "environment_steps", "max_score", "online_steps", "evaluated_on"}
    assert not special & plain.keys()
    assert (plain["sample_ms"], plain["curve"], plain["commit"]) == (None, [], None)
    assert not {"sample_ms", "dataset", "max_score"} & maze.keys()
    assert blocks["mode_entropy"] is None
    assert make(score=None, status="diverged", environment_steps=5).to_json()["coverage"] is None


def test_a_record_from_before_keeps_what_is_not_known():
    record = parse_record(json.dumps(before(colour="blue", extra=1)), "test")
    assert (record.schema, record.extra) == (0, {"colour": "blue", "extra": 1})
    assert record.to_json()["colour"] == "blue"
    assert "schema" not in record.to_json()
    assert (record.transitions, record.outcome) == (150150, "scored")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"task": "x"', "not valid JSON"),
        ("[1]", "not a record but a list"),
        (before(seed="0"), "'seed' should be an integer, not '0'"),
        (before(seed=True), "'seed' should be an integer, not True"),
        (before(score=float("nan")), "'score' should be a finite number, not nan"),
        (before(score=10**400), "'score' should be a finite number"),
        (before(scores="0.5"), "'scores' should be a list of numbers, not '0.5'"),
        (before(interval=[1]), "'interval' should be two numbers, not [1]"),
        (before(dataset=3), "'dataset' should be an object, not 3"),
        (before(dataset={"transitions": "many"}), "'transitions' is an integer"),
        (before(config={"agent": 3}), "an object whose 'agent' is an object"),
        ({k: v for k, v in before().items() if k != "task"}, "lacks 'task'"),
        (before(status="diverged"), "has a score, and its status is 'diverged'"),
        (before(score=1.5), "'score' should be from 0 to 1 where the measure is no return"),
        (before(scores=[0.5, -1]), "no return, not (0.5, -1.0)"),
        (before(schema=1, coverage=2), "'coverage' should be a number from 0 to 1, not 2"),
        (before(schema=1, failures=-1), "'failures' should be an integer of at least 0, not -1"),
        (before(schema=1, sucess=0.5), "unknown field 'sucess'; did you mean success"),
        (before(schema="1"), "'schema' should be an integer, not '1'"),
        (before(schema=None), "'schema' should be an integer, not None"),
        (
            before(schema=3),
            f"made by a newer nfrl: schema 3; this one reads up to {SCHEMA}",
        ),
    ],
)
def test_a_malformed_record_is_refused_with_file_and_line(tmp_path, line, reason):
    path = tmp_path / "bad.jsonl"
    line = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(before()) + "\n\n" + line + "\n")
    with pytest.raises(UserError) as error:
        load_records([tmp_path])
    assert str(error.value).startswith(f"{path}:3: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "curve",
    [
        {},
        [1.0],
        [{"step": 1, "seconds": 2.0}],
        [
            {"step": 1, "seconds": 2.0, "score": 0.0, "coverage": 0.5},
            {"step": 1, "seconds": 2.0, "score": 0.0},
        ],
    ],
)
def test_a_malformed_curve_is_refused(curve):
    with pytest.raises(UserError, match="'curve' should be"):
        parse_record(json.dumps(before(curve=curve)), "test")


@pytest.mark.parametrize("measure", ["return", "normalized return"])
def test_only_a_return_may_be_any_number(measure):
    record = Record.from_json(gathered(measure=measure).to_json(), "test")
    assert record.scored_by_return
    assert (record.score, record.interval) == (-3200.5, (-3300, -10))
    for other in ("success rate", "score", "returned blocks", ""):
        with pytest.raises(UserError, match="from 0 to 1"):
            Record.from_json(gathered(measure=other).to_json(), "test")


# Files


def write_run(path, record):
    run = RunFolder(path)
    run.write_config({})
    run.write_result(record)
    run.append_metrics({"step": 1})


def test_what_holds_no_records_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "missing"):
        with pytest.raises(UserError, match=f"^not a run folder nor records: {path}$"):
            load_records([path])
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="no result yet"):
        load_records([run])
    assert RunFolder(run).read_result() is None


def test_records_are_found_at_any_depth_and_once(tmp_path):
    write_run(tmp_path / "runs" / "cube" / "0", make())
    write_run(tmp_path / "runs" / "cube" / "1", make(seed=1))
    RunFolder(tmp_path / "runs" / "going").write_config({})
    append_record(tmp_path / "results" / "all.jsonl", make(seed=1))
    append_record(tmp_path / "results" / "all.jsonl", make(seed=2))
    run = tmp_path / "runs" / "cube" / "0"
    found = load_records([tmp_path / "runs", tmp_path / "results", run, run / "result.json"])
    assert [record.seed for record in found] == [0, 1, 2]
    runs = find_runs([tmp_path / "runs"])
    assert [(run.folder.path.name, run.record.seed) for run in runs] == [("0", 0), ("1", 1)]


def test_what_is_no_record_is_passed_over_in_folders_and_refused_by_name(tmp_path):
    write_run(tmp_path / "runs" / "cube" / "0", make())
    append_record(tmp_path / "results" / "all.jsonl", make(seed=1))
    # An expert's run, and likelihoods that no run comes with.
    expert = tmp_path / "runs" / "expert-ant"
    expert.mkdir()
    (expert / "result.json").write_text(json.dumps({"expert": "ant", "seed": 0, "score": 1.0}))
    bench = tmp_path / "results" / "bench"
    bench.mkdir()
    named, unnamed = bench / "confidence.jsonl", bench / "speed.jsonl"
    named.write_text(json.dumps({"task": CUBE, "agent": "nf-bc", "seed": 0, "auc": 0.7}) + "\n")
    unnamed.write_text("\n" + json.dumps({"agent": "nf-bc", "seed": 0}) + "\n")

    assert [record.seed for record in load_records([tmp_path])] == [0, 1]
    for path in (expert, expert / "result.json", named, unnamed):
        with pytest.raises(UserError, match="the record lacks"):
            load_records([tmp_path, path])
    with pytest.raises(UserError, match="not a run folder nor records"):
        load_records([bench])


def test_a_report_is_of_something(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert "at least one path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_append_takes_away_half_a_record_and_nothing_else(tmp_path):
    path = tmp_path / "all.jsonl"
    for before, kept in (('{"task": "cut', ""), ("a note", "a note\n"), ('{"a": 1}', '{"a": 1}\n')):
        path.write_text(before)
        append_record(path, make())
        append_record(path, make())
        text = path.read_text()
        assert text.startswith(kept)
        assert json.loads(text.removeprefix(kept)) == make().to_json()


def test_what_could_not_be_read_back_is_written_nowhere(tmp_path):
    path, run = tmp_path / "all.jsonl", RunFolder(tmp_path / "run")
    for bad in (
        make(score="high"),
        make(score=3.0),
        make(config={"x": float("nan")}),
        make(config={"x": object()}),
    ):
        with pytest.raises(UserError, match="the new record"):
            append_record(path, bad)
        with pytest.raises(UserError, match=r"result\.json: the record"):
            run.write_result(bad)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=f"the record was not kept: could not write {tmp_path}"):
        append_record(tmp_path, make())


def _append_many(path, first):
    for seed in range(first, first + 50):
        append_record(path, make(seed=seed, commit="c" * 5000))


def test_processes_append_at_the_same_time_without_mixing_lines(tmp_path):
    path = tmp_path / "all.jsonl"
    path.write_text('{"task": "cut')
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, 50 * i)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    *lines, last = path.read_text().split("\n")
    assert last == ""
    assert sorted(parse_record(line, "test").seed for line in lines) == list(range(400))


# What a folder keeps beside


def test_a_last_line_cut_short_is_ignored_and_any_other_refused(tmp_path):
    run = RunFolder(tmp_path)
    lines = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN, "x": 3}\n'
    run.metrics_file.write_text(lines + '{"step": 3, "lo')
    metrics = run.read_columns()
    np.testing.assert_array_equal(metrics["step"], [1, 2])
    np.testing.assert_array_equal(metrics["loss"], [2, np.nan])
    np.testing.assert_array_equal(metrics["x"], [np.nan, 3])
    assert run.last_step() == 2
    for bad in ('{"st', "[3]", '{"loss": 3}', '{"step": null}', "\xff"):
        run.metrics_file.write_text(f'{{"step": 1}}\n{bad}\n{{"step": 3}}\n', encoding="latin-1")
        for read in (run.read_columns, run.read_metrics):
            with pytest.raises(UserError, match=f"{run.metrics_file}:2: "):
                read()


def test_the_later_line_of_a_repeated_step_counts(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics_file.write_text('{"step": 1, "x": 1}\n{"step": 2, "x": 2}\n{"step": 1, "x": 3}\n')
    assert run.read_columns()["x"].tolist() == [3, 2]
    none = RunFolder(tmp_path / "none")
    assert none.read_columns() == {}
    assert none.read_evaluation() == none.read_samples() == none.read_maze() == {}


def test_arrays_of_other_dimensions_are_refused_by_name(tmp_path):
    run = RunFolder(tmp_path)
    np.savez(run.evaluation_file, successes=np.ones((5, 2), bool))
    np.savez(run.samples_file, actions=np.ones((5, 2)))
    assert run.read_evaluation()["successes"].shape == (5, 2)
    with pytest.raises(UserError, match="'actions' should have 3 dimensions"):
        run.read_samples()


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert provenance._versions() == {
        "python": provenance.platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
    }
    assert provenance.provenance_of({}) == {"versions": {}, "commit": None, "device": None}
