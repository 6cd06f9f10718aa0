"""The commands: what they do, and that what goes wrong is said in one line."""

import contextlib
import dataclasses
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cattrs
import numpy as np
import pytest
from conftest import write_data

from nfrl import registry
from nfrl.acting.acting import batched_policy
from nfrl.agents import agents_that, find_config
from nfrl.agents.parts.optimization import AdamW, constant_adam
from nfrl.analysis.speed_exploring import ExploringSpeed
from nfrl.benchmarks.imitation.environments import ENTRY_POINTS
from nfrl.cli import bench, demo
from nfrl.cli.main import COMMANDS, main
from nfrl.cli.train import plan
from nfrl.collect import expert_policy
from nfrl.data.formats import ogbench
from nfrl.errors import UserError
from nfrl.experiment import DatasetInfo, Experiment, scoring
from nfrl.experiment.load import load_policy, load_trained
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape
from nfrl.presets import beyond_paper, family_of, find_preset, preset_names
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import load_records
from nfrl.spec import Spec
from nfrl.task import find_task
from nfrl.training.exploring import ExploreTraining
from nfrl.training.offline import OfflineTraining

SHIPPED = expert_policy.SHIPPED
TASKS = registry.mappings("tasks")
IMITATORS_OF_GOALS = ("nf-gcbc", "gcbc", "fm-gcbc")
MAZE = "pointmaze-medium-navigate-v0"
# Mean success and its deviation (paper, NF-GCBC).
PAPER = {
    "puzzle-3x3-play-v0": (0.045, 0.005),
    "scene-play-v0": (0.420, 0.008),
    "cube-single-play-v0": (0.795, 0.109),
    "cube-double-play-v0": (0.351, 0.087),
    "humanoidmaze-medium-navigate-v0": (0.314, 0.042),
    "antmaze-large-navigate-v0": (0.320, 0.055),
    "antsoccer-arena-navigate-v0": (0.621, 0.007),
    "antmaze-medium-stitch-v0": (0.566, 0.068),
    "antsoccer-arena-stitch-v0": (0.643, 0.016),
}
RECORD = (
    *("task", "agent", "preset", "variant", "seed", "steps", "status", "score", "scores"),
    *("episodes", "dataset", "parameters", "config", "versions", "commit", "device"),
    *("train_seconds", "steps_per_second", "sample_ms", "date"),
)
SHORT = (
    *("--steps", "20", "--training.log-every", "10", "--training.checkpoint-every", "10"),
    *("--training.batch-size", "16", "--training.validation-batches", "1"),
)


def fit(runs: Path, file: Path, *more: str, agent: str = "gcbc") -> list[str]:
    network = {"gcbc": ("--agent.hidden", "16"), "nf-gcbc": ("--agent.blocks", "1")}[agent]
    where = ("--dataset", str(file), "--runs", str(runs))
    return ["train", agent, MAZE, *where, *network, *SHORT, "--episodes", "0", *more]


def folder(runs: Path, seed: int = 0, name: str = "gcbc-laptop") -> RunFolder:
    return RunFolder(runs / MAZE / name / f"seed-{seed}")


def unfinished(trained: Path, runs: Path) -> Path:
    """Copy runs as a kill before their evaluation leaves them."""
    shutil.copytree(trained, runs)
    for result in runs.rglob("result.json"):
        result.unlink()
    return runs


@pytest.fixture
def refused(capsys):
    """Run a command that must fail with one line; return the line."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1, error
        assert error.startswith("nfrl: ")
        return error

    return run


@pytest.fixture(scope="module")
def trained(point_file, tmp_path_factory) -> Path:
    """Two seeds, trained, evaluated and recorded."""
    runs = tmp_path_factory.mktemp("trained")
    more = ("--episodes", "1", "--workers", "1", "--seeds", "0", "1")
    assert main(fit(runs, point_file, *more, "--record", str(runs / "records.jsonl"))) == 0
    return runs


# Help


def test_help_is_instant():
    code = (
        "import sys; from nfrl.cli.main import main; status = main(['--help']);"
        "print([name for name in ('jax', 'mujoco', 'numpy', 'tyro') if name in sys.modules]);"
        "sys.exit(status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    # Its own time, whatever else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_version_and_help_of_each_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nfrl 0.")
    assert main([]) == 0
    assert "usage: nfrl COMMAND" in capsys.readouterr().out
    for name in COMMANDS:
        # A parser's own help ends the process; the rest returns.
        with contextlib.suppress(SystemExit):
            assert main([name, "--help"]) == 0
        captured = capsys.readouterr()
        assert "usage: nfrl" in captured.out, name
        assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("trian",), "train"),
        (("train", "nf-gcb", MAZE), "nf-gcbc"),
        (("train", "nf-gcbc", "cube-singl-play-v0"), "cube-single-play-v0"),
        (("train", "nf-gcbc", MAZE, "--preset", "papr"), "paper"),
        (("train", "nf-gcbc", MAZE, "--preset=papr"), "paper"),
        (("tasks", "--suite", "gcb"), "gcbc"),
        (("data", "make", "pointmaze-medum-navigate-v0"), MAZE),
        (("bench", "train", "--agents", "gcb"), "gcbc"),
        (("bench", "modes", "--densities", "rings"), "ring"),
        (("bench", "modes", "--agents", "nf-gcbc"), "nf-bc"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(arguments, nearest, refused):
    assert nearest in refused(*arguments).partition("did you mean")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("data", "mak"), "make, check or join"),
        (
            ("bench", "trian"),
            "train, scale, flowjax, start, sample, deploy, explore, data, stream, modes or flows",
        ),
        (("bench", "sample", "--batches", "0"), "1 or more"),
        (("bench", "scale", "--seeds", "0"), "seeds must each be 1 or more"),
        (("bench", "scale", "--agent", "nf-bc"), "nf-gcbc"),
        (("bench", "data", "--datasets", "antmaze-large-v0"), "antmaze-large-navigate-v0"),
        (("bench", "data", "--workers", "0"), "at least 1"),
        (("bench", "explore", "--batch-size", "0"), "batch-size must be at least 1"),
        (("bench", "explore", "--batch-size", "1000000"), "more than the 25536 transitions"),
        (("train", "crl-uniform", "point-u-maze", "--actor", "flow"), "--actor is for nf-ugs"),
        (("train", "gcbc"), "a task, or data of your own"),
        (("train",), "an agent, and a task or --data"),
        (("train", "gcbc", MAZE, "--seeds", "1", "1"), "distinct"),
        (("train", "gcbc", MAZE, "--seeds", "-1"), "negative"),
        (("train", "gcbc", MAZE, "--episodes", "-1"), "episodes"),
        (("train", "gcbc", MAZE, "--workers", "0"), "workers"),
        (("train", "gcbc", MAZE, "--steps", "0"), "steps"),
        (("train", "nf-gcbc", MAZE, "--agent.blocks", "0"), "at least 1; got 2, 0"),
        (("train", "gcbc", MAZE, "--agent.optimizer.learning-rate", "-1"), "learning-rate"),
        (("train", "gcbc", MAZE, "--dataset", "no/such.npz"), "no/such.npz"),
        (("train", "gcbc", "humanoidmaze-medium-navigate-v0"), "--download"),
        (("train", "nf-bc", "kitchen"), "folder of them with --data"),
        (
            ("train", "nf-gcbc", "point-u-maze"),
            "agents for it: crl-minmax, crl-oracle, crl-uniform, nf-ugs",
        ),
        (("data", "make", MAZE, "--steps", "50"), "path"),
    ],
)
def test_senseless_words_are_refused_before_any_work(
    arguments, words, refused, monkeypatch, tmp_path
):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(expert_policy, "SHIPPED", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments)
    assert not list(tmp_path.iterdir())


def test_explorers_are_measured_with_the_batch_size_asked_for(monkeypatch, tmp_path):
    def measured(config, training, maze, rounds):
        return ExploringSpeed(float(training.batch_size), *(6 * [1.0]))

    monkeypatch.setattr(bench, "exploring_speed", measured)
    out = tmp_path / "speed.json"
    assert main(["bench", "explore", "--batch-size", "32", "--out", str(out)]) == 0
    agents = json.loads(out.read_text())["agents"]
    assert {figures["batch_size"] for figures in agents.values()} == {32}
    assert {figures["steps_per_second"] for figures in agents.values()} == {32}


def test_a_misspelt_option_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "nf-gcbc", MAZE, "--agent.chanels", "8"])
    assert end.value.code == 2
    assert "--agent.flow.channels" in capsys.readouterr().err


# Tasks


def test_the_papers_tasks_are_listed(capsys):
    assert main(["tasks", "--suite", "gcbc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (mean, deviation) in PAPER.items():
        (line,) = (line for line in lines if f" {name} " in line)
        assert f"{mean:.3f} ± {deviation:.3f}" in line
        assert find_task(name).published == {"nf-gcbc": mean}
    assert {name for name, task in TASKS.items() if "nf-gcbc" in task.published} == set(PAPER)
    assert {name for name in PAPER if find_task(name).discount == 0.99} == {
        "cube-double-play-v0",
        "antmaze-large-navigate-v0",
    }


def test_a_task_keeps_to_its_line_and_says_where_its_data_come_from(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NFRL_DATA", str(tmp_path))
    monkeypatch.setattr(expert_policy, "SHIPPED", tmp_path)
    shutil.copy(SHIPPED / "ant.safetensors", tmp_path)
    assert main(["tasks", "--all"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(lines) == len(TASKS)
    (humanoid,) = (line for line in lines if " humanoidmaze-medium-navigate-v0 " in line)
    assert "needs the humanoid expert" in humanoid
    (ant,) = (line for line in lines if " antmaze-large-navigate-v0 " in line)
    assert "expert" not in ant, "the ant comes with the package"


def test_development_goals_are_listed_where_they_are_asked_for(capsys):
    assert main(["tasks"]) == 0
    assert "-dev-v0" not in capsys.readouterr().out
    assert main(["tasks", "--tag", "development"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert lines
    assert all("-dev-v0" in line for line in lines)


def test_horizons_are_the_environments_own():
    import gymnasium
    import ogbench  # noqa: F401  (registers the environments)

    import nfrl.benchmarks.ogbench.development as development  # registers its own

    theirs, ours = [], []
    for task in TASKS.values():
        if task.environment is not None:
            module, _, name = task.environment.partition(":")
            registered = module in ("ogbench", development.__name__)
            (theirs if registered else ours).append((task, name))
    assert {name for _, name in ours} == set(ENTRY_POINTS)
    assert len(theirs) > 100
    steps = {name: gymnasium.spec(name).max_episode_steps for _, name in theirs}
    wrong = {t.name: (t.horizon, steps[name]) for t, name in theirs if t.horizon != steps[name]}
    assert not wrong


# Data


def test_data_are_made_and_checked(tmp_path, capsys):
    path = tmp_path / "point.npz"
    words = ["data", "make", MAZE, "--episodes", "3", "--steps", "60", "--path", str(path)]
    assert main([*words, "--workers", "1"]) == 0
    made = capsys.readouterr().out
    assert "177 transitions in 3 trajectories of 59 to 59" in made
    assert ogbench.validation_path(path).is_file()
    before = path.read_bytes()
    assert main([*words, "--workers", "1"]) == 0, "made already"
    assert path.read_bytes() == before
    capsys.readouterr()
    assert main(["data", "check", str(path)]) == 0
    assert capsys.readouterr().out == made
    assert ogbench.sha256(path) in made


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncated", "truncated"),
        ("empty", "empty"),
        ("foreign", "no .npz archive"),
        ("missing", "'actions' is missing"),
        ("nan", "observations: 1 of 400 values are NaN"),
        ("cut", "terminals: the last row"),
        ("short", "actions: 150 rows"),
    ],
)
def test_bad_data_are_named(damage, words, refused, tmp_path):
    path = write_data(tmp_path / "bad.npz")
    arrays = dict(np.load(path))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        path.write_text("step,reward\n1,0\n")
    else:
        observations = arrays["observations"]
        observations[3, 1] = np.nan
        changes = {
            "missing": {"actions": None},
            "nan": {"observations": observations},
            "cut": {"terminals": np.arange(200) % 60 == 59},
            "short": {"actions": arrays["actions"][:150] / 2},
        }
        write_data(path, **changes[damage])
    for line in (
        refused("data", "check", str(path)),
        refused(*fit(tmp_path / "runs", path)),
    ):
        assert str(path) in line
        assert words in line
    assert not (tmp_path / "runs").exists()


def test_data_of_other_sizes_are_refused_before_training(refused, tmp_path, point_file):
    line = refused("train", "gcbc", "cube-single-play-v0", "--dataset", str(point_file))
    assert "observations of 2 numbers and actions of 2; cube-single-play-v0 has 28 and 5" in line


def test_without_validation_data_some_trajectories_are_held_out(capsys, tmp_path):
    path = write_data(tmp_path / "alone.npz")
    ogbench.validation_path(path).unlink()
    assert main(fit(tmp_path / "runs", path)) == 0
    assert f"{path}: " in capsys.readouterr().out
    result = folder(tmp_path / "runs").read_result()
    assert 0 < result.dataset["transitions"] < 196, "of four trajectories"


# Training, and what follows it


def test_a_run_is_trained_evaluated_and_recorded(trained, point_file):
    for seed in (0, 1):
        run = folder(trained, seed)
        result = run.read_result()
        assert set(RECORD) <= set(result.to_json())
        assert (result.task, result.agent, result.seed) == (MAZE, "gcbc", seed)
        assert (result.steps, result.episodes, result.status) == (20, 1, "finished")
        assert result.score == np.mean(result.scores)
        assert len(result.scores) == 5
        assert result.dataset["sha256"] == ogbench.sha256(point_file)
        assert result.dataset["transitions"] == 196
        assert result.config["agent"]["hidden"] == [16]
        assert (
            min(getattr(result, name) for name in ("parameters", "train_seconds", "sample_ms")) > 0
        )
        assert set(result.versions) >= {"python", "nfrl", "jax", "mujoco"}
        names = {path.name for path in run.path.iterdir()}
        assert names == {
            *("config.json", "run.toml", "metrics.jsonl", "checkpoints", "result.json"),
            *("evaluation.npz", "policy_samples.npz"),
        }
    lines = [json.loads(line) for line in (trained / "records.jsonl").read_text().splitlines()]
    assert lines == [folder(trained, seed).read_result().to_json() for seed in (0, 1)]


def test_records_and_runs_are_reported(trained, tmp_path, capsys):
    records = str(trained / "records.jsonl")
    for source in (records, str(trained)):
        assert main(["report", source, "--out", str(tmp_path / "out")]) == 0
        assert MAZE in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    # The runs' own records and the file's are the same ones.
    assert len(load_records([Path(records), trained])) == 2


def test_a_finished_run_is_not_trained_again(trained, point_file, tmp_path, capsys):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    run = folder(tmp_path)
    kept = {path: path.read_bytes() for path in run.checkpoints.iterdir()}
    before, measured = run.read_result(), run.metrics_file.read_bytes()
    more = ("--episodes", "1", "--workers", "1", "--seeds", "0", "1")
    assert main(fit(tmp_path, point_file, *more)) == 0
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == kept
    assert run.metrics_file.read_bytes() == measured
    for name in ("scores", "train_seconds", "parameters", "config"):
        assert getattr(run.read_result(), name) == getattr(before, name)


def test_another_run_keeps_its_folder(trained, point_file, refused):
    more = ("--episodes", "1", "--workers", "1", "--seeds", "0", "1")
    line = refused(*fit(trained, point_file, *more, "--agent.optimizer.learning-rate", "1e-2"))
    assert "--variant" in line
    assert "--runs" in line
    assert str(folder(trained).path) in line


def test_a_renamed_run_is_not_taken_for_its_sibling(trained, tmp_path, refused):
    copy = shutil.copytree(folder(trained).path, tmp_path / "seed-0-copy")
    assert "renamed or copied" in refused("resume", str(copy))


def test_a_run_is_found_from_within_its_folder(trained, monkeypatch, capsys):
    run = folder(trained).path
    monkeypatch.chdir(run)
    before = sorted(run.iterdir())
    assert main(["resume", "."]) == 0
    assert "success" in capsys.readouterr().out
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize("command", ["eval", "resume"])
def test_what_is_no_run_of_an_agent_is_named(command, trained, tmp_path, refused):
    (tmp_path / "config.json").write_text('{"agent": {"hidden": [8]}, "seeds": [0]}')
    assert "does not describe a run" in refused(command, str(tmp_path))
    assert "workers" in refused(command, str(folder(trained).path), "--workers", "0")


def test_eval_scores_a_run_again(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    run = folder(tmp_path, 1)
    before = run.read_result()
    assert main(["eval", str(run.path), "--episodes", "1", "--workers", "1"]) == 0
    assert "success" in capsys.readouterr().out
    assert run.read_result().scores == before.scores
    # The run as a kill leaves it: to be looked at, but it has no result.
    (run.path / "result.json").unlink()
    checkpoints.path_of(run.checkpoints, 20).unlink()
    assert main(["eval", str(run.path), "--episodes", "1", "--workers", "1"]) == 0
    assert run.read_result() is None


def test_eval_can_change_how_an_agent_acts(point_file, tmp_path, capsys, refused):
    """Under a name of its own, beside the run's result; networks cannot be changed."""
    assert main(fit(tmp_path, point_file, "--agent.chunk", "4")) == 0
    run = folder(tmp_path)
    before = (run.path / "result.json").read_bytes()
    again = ("eval", str(run.path), "--episodes", "1", "--workers", "1")
    assert main([*again, "--agent.executed", "1"]) == 0
    assert main([*again, "--agent.executed", "1", "--variant", "executed-1"]) == 0
    assert "executed-1" in capsys.readouterr().out
    assert (run.path / "result.json").read_bytes() == before
    record = json.loads((run.path / "executed-1" / "result.json").read_text())
    assert (record["variant"], record["config"]["agent"]["executed"]) == ("executed-1", 1)
    assert record["curve"] == []
    assert "needs" in refused(*again, "--agent.chunk", "5")
    assert "from 1 to" in refused(*again, "--agent.executed", "5")
    assert "nothing was changed" in refused(*again, "--variant", "same")
    assert "finished run" in refused(*again, "--step", "10", "--variant", "x")
    assert "no name" in refused(*again, "--agent.executed", "1", "--variant", "../x")


def test_what_is_no_run_is_named(trained, refused, tmp_path):
    unfinished(trained, tmp_path / "runs")
    for words in (
        ("eval", str(tmp_path)),
        ("resume", str(tmp_path)),
        ("report", str(tmp_path / "x")),
    ):
        assert str(tmp_path) in refused(*words)
    run = folder(tmp_path / "runs")
    assert "episodes" in refused("eval", str(run.path), "--episodes", "0")
    assert "no such checkpoint" in refused("eval", str(run.path), "--step", "7")
    assert "an exact likelihood: nf-bc and gaussian-bc" in refused(
        "eval", str(run.path), "--confidence"
    )
    checkpoint = checkpoints.path_of(run.checkpoints, 20)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    for command in ("eval", "resume"):
        line = refused(command, str(run.path))
        assert str(checkpoint) in line
        assert "not a whole checkpoint" in line
    config = run.path / "config.json"
    for text, words in (
        ("{", "not valid JSON"),
        ("{}", "does not describe a run"),
        ("[]", "JSON object"),
        (config.read_text().replace('"gcbc"', '"nf-sac"'), "unknown agent 'nf-sac'"),
        (config.read_text().replace('"hidden"', '"width"'), "width"),
    ):
        config.write_text(text)
        for command in ("eval", "resume"):
            assert words in refused(command, str(run.path))


def test_data_that_changed_are_not_gone_on_with(trained, refused, tmp_path):
    unfinished(trained, tmp_path / "runs")
    other = write_data(tmp_path / "other.npz", seed=9)
    for seed in (0, 1):
        config = folder(tmp_path / "runs", seed).path / "config.json"
        values = json.loads(config.read_text())
        values["dataset"]["path"] = str(other)
        config.write_text(json.dumps(values))
    assert "sha256 differs" in refused("resume", str(folder(tmp_path / "runs").path))


# Presets and overrides


def test_the_papers_preset_has_the_papers_values():
    for name in PAPER:
        preset = find_preset("paper", "nf-gcbc", find_task(name))
        agent, training = preset.agent, preset.training
        assert agent.flow == RealNVPConfig(6, 256, "affine", "plu", layer_norm=True)
        assert (agent.condition_dim, agent.encoder) == (64, (512,) * 4)
        assert (agent.noise, agent.denoising) == (0.1, True)
        assert preset.agent.optimizer == AdamW(3e-4, 1e-6, 500, 1e-6, None)
        assert (training.steps, training.batch_size) == (1_000_000, 256)
        assert preset.agent.discount == find_task(name).discount
        assert preset.episodes is None


def test_the_papers_preset_of_exploring_has_the_codes_values():
    for agent in agents_that(explores=True):
        preset = find_preset("paper", agent, find_task("ant-u-maze"))
        assert preset.training == ExploreTraining(
            environment_steps=100_000_000,
            environments=1024,
            batch_size=4096,
            discount=0.99,
            buffer_steps=10_000,
            prefill=1000,
            candidates=1024,
            command_every="round",
            candidate_goals="hindsight",
        )
        config = preset.agent
        assert config.actor_hidden == config.encoder == (1024,) * 4
        assert config.learning_rate == 3e-4
        if agent == "nf-ugs":
            assert config.flow == RealNVPConfig(6, 256)
            assert (config.condition_dim, config.noise, config.mask_probability) == (64, 0.05, 0.1)
            assert (config.flow_learning_rate, config.flow_weight_decay) == (1e-4, 1e-6)
        else:
            assert (config.represent_goals, config.minmax_by_mode) == (True, True)
            assert config.contrast == ("forward" if agent == "crl-oracle" else "backward")
            assert (config.penalty, config.representation_dim) == (0.1, 64)
        assert config.goal_scale == 1


def test_the_papers_preset_of_gcbc_is_ogbenchs():
    preset = find_preset("paper", "gcbc", find_task("cube-single-play-v0"))
    assert preset.training == OfflineTraining(steps=1_000_000, batch_size=1024)
    assert preset.agent.goals == "uniform"
    assert preset.agent.hidden == (512, 512, 512)
    assert preset.agent.optimizer == constant_adam(3e-4)


# method.md of the paper's code: history, prediction, execution, epochs, blocks, k, learning rate.
IMITATION = {
    "pusht": (2, 8, 4, 100, 24, 256, 1e-3),
    "multimodal-ant": (100, 8, 8, 500, 12, 256, 3e-4),
    "two-blocks": (10, 1, 1, 300, 12, 256, 3e-4),
    "kitchen": (10, 1, 1, 1000, 12, 1024, 3e-4),
}


@pytest.mark.parametrize("task", IMITATION)
def test_the_papers_preset_of_imitation_has_the_papers_values(task):
    *chunks, epochs, blocks, width, rate = IMITATION[task]
    for agent in agents_that(explores=False, goals=False, rewards=False):
        preset = find_preset("paper", agent, find_task(task))
        assert preset.agent.chunks == ChunkShape(*chunks)
        assert preset.training == OfflineTraining(epochs=epochs)
    ours = find_preset("paper", "nf-bc", find_task(task)).agent
    assert ours.flow == RealNVPConfig(blocks, 512)
    assert (ours.condition_dim, ours.optimizer.learning_rate) == (width, rate)
    assert (ours.noise, ours.denoising, ours.encoder) == (0.1, True, (512,) * 4)


def test_epochs_are_steps_once_the_data_are_known(point_file, tmp_path, capsys):
    # 196 transitions in 4 trajectories, 64 a step: two passes are 7 steps.
    words = ("train", "gaussian-bc", "--data", str(point_file), "--runs", str(tmp_path))
    words += ("--training.epochs", "2", "--training.batch-size", "64", "--training.log-every", "7")
    words += ("--training.checkpoint-every", "7", "--agent.hidden", "8")
    assert main(list(words)) == 0
    (run,) = tmp_path.glob("*/*/seed-0")
    assert RunFolder(run).last_step() == 7
    assert json.loads((run / "config.json").read_text())["training"]["steps"] == 7
    capsys.readouterr()
    # What counts steps counts no epochs.
    assert main([*words, "--steps", "3", "--variant", "short"]) == 0
    (run,) = tmp_path.glob("*/*-short/seed-0")
    assert RunFolder(run).last_step() == 3


def test_what_is_given_reaches_the_run(point_file, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["nfrl.experiment.run"], "train", interrupted)
    more = ("--preset", "paper", "--agent.channels", "8", "--agent.encoder", "16", "12")
    more += ("--agent.optimizer.clip-norm", "2.5", "--agent.no-denoising", "--agent.mixing", "none")
    more += ("--variant", "odd", "--seeds", "3")
    assert main(fit(tmp_path, point_file, *more, agent="nf-gcbc")) == 130
    run = folder(tmp_path, 3, "nf-gcbc-paper-odd")
    assert f"nfrl resume {run.path}" in capsys.readouterr().err
    config = run.read_config()
    assert config["seed"] == 3
    assert (config["preset"], config["variant"], config["seeds"]) == ("paper", "odd", [3])
    agent, training = config["agent_config"], config["training"]
    flow = agent["flow"]
    assert flow["name"] == "real-nvp"
    assert (flow["channels"], agent["encoder"], flow["blocks"]) == (8, [16, 12], 1)
    assert (agent["denoising"], flow["mixing"], agent["noise"]) == (False, "none", 0.1)
    assert agent["optimizer"]["clip_norm"] == 2.5
    assert agent["optimizer"]["learning_rate"] == 3e-4
    assert (training["steps"], training["log_every"], agent["discount"]) == (20, 10, 0.97)


def test_in_mazes_the_presets_for_few_minutes_standardize():
    task = find_task("antmaze-large-navigate-singletask-task1-v0")
    for preset, standardize in (("laptop", True), ("far-sighted", True), ("paper", False)):
        assert find_preset(preset, "nf-rlbc", task).agent.standardize is standardize


@pytest.mark.parametrize("agent", IMITATORS_OF_GOALS)
def test_far_sighted_imitation_plans_chunks_for_goals_of_what_decides(agent):
    double, single = (find_task(f"cube-{many}-play-v0") for many in ("double", "single"))
    laptop, ahead = (find_preset(name, agent, double) for name in ("laptop", "far-sighted"))
    cooled = {} if agent == "gcbc" else {"temperature": 1.0}
    assert dataclasses.replace(ahead.agent, chunk=1, goal_columns=(), **cooled) == laptop.agent
    assert (ahead.agent.chunk, ahead.episodes) == (5, None)
    assert ahead.agent.goal_columns == (19, 20, 21, 28, 29, 30)
    assert ahead.training.steps > laptop.training.steps
    assert find_preset("far-sighted", agent, single).episodes == 150


@pytest.mark.parametrize(
    "agent", [each for each in agents_that(rewards=True) if each != "nf-waypoints-rl"]
)
def test_far_sighted_rivals_have_what_the_flow_has(agent):
    """Where their method can use it: chunks, the horizon, critics, the budget, the best of many."""
    task = find_task("puzzle-3x3-play-singletask-task4-v0")
    ours, theirs = (find_preset("far-sighted", name, task) for name in ("nf-rlbc", agent))
    assert (theirs.training, theirs.episodes) == (ours.training, ours.episodes)
    names = ("chunk", "executed", "discount", "tau", "critic", "critic_unit", "optimizer")
    for name in names:
        value = getattr(theirs.agent, name, None)
        assert value in (getattr(ours.agent, name), None), name
    if agent in ("fql", "ifql", "idql"):
        assert theirs.agent.samples == ours.agent.acting_candidates == 64


@pytest.mark.parametrize(
    ("agent", "task"),
    [
        ("nf-bc", "pusht"),
        ("gcbc", "antmaze-medium-stitch-v0"),
        ("nf-ugs", "point-u-maze"),
    ],
)
def test_a_preset_of_some_agents_is_refused_for_others(agent, task, refused):
    line = refused("train", agent, task, "--preset", "far-sighted")
    assert "far-sighted is for offline RL" in line
    assert "laptop, paper" in line


@pytest.mark.parametrize(
    ("agent", "preset"),
    [
        *(
            (agent, preset)
            for agent in agents_that()
            for preset in preset_names()
            if not beyond_paper(preset) and not (preset == "paper" and "waypoints" in agent)
        ),
        *((agent, "far-sighted") for agent in ("fql", "nf-rlbc", *IMITATORS_OF_GOALS)),
    ],
)
def test_a_configuration_is_read_back_as_it_was_written(agent, preset):
    family = family_of(find_config(agent).capabilities)
    tagged = {"gcbc": "arm", "offline-rl": "arm"}.get(family)
    task = next(
        t for t in TASKS.values() if t.family == family and (tagged is None or tagged in t.tags)
    )
    values = find_preset(preset, agent, task)
    explores = family == "exploration"
    experiment = Experiment(
        task=task,
        agent=agent,
        preset=preset,
        variant="",
        seeds=(0, 4),
        agent_config=values.agent,
        training=values.training,
        dataset=None
        if explores
        else DatasetInfo(MAZE, "a.npz", "file", 10, "00", Spec.vectors(2, 2)),
    )
    text = json.dumps(experiment.to_json(4))
    assert Experiment.from_json(json.loads(text)) == experiment
    kind = ExploreTraining if explores else OfflineTraining
    assert cattrs.structure(json.loads(text)["training"], kind) == values.training


def test_a_configuration_of_before_schemas_is_read(trained):
    """As version 0.1 wrote it: sizes of the flow among the agent's, of the data as two numbers."""
    experiment = Experiment(
        task=find_task(MAZE),
        agent="nf-gcbc",
        preset="laptop",
        variant="",
        seeds=(0,),
        agent_config=find_preset("laptop", "nf-gcbc", find_task(MAZE)).agent,
        training=OfflineTraining(log_every=500),
        dataset=DatasetInfo(MAZE, "a.npz", "file", 10, "00", Spec.vectors(2, 2)),
    )
    now = json.loads(json.dumps(experiment.to_json(0)))
    flow = now["agent_config"].pop("flow")
    assert flow.pop("name") == "real-nvp"
    del now["schema"], now["dataset"]["spec"]
    now["agent_config"] |= flow
    now["dataset"] |= {"observation_dim": 2, "action_dim": 2}
    now["training"]["chunk"] = now["training"].pop("log_every")
    assert Experiment.from_json(now) == experiment


# Exploration


def test_the_actor_has_a_short_name():
    began = plan(["nf-ugs", "point-u-maze", "--actor", "flow", "--steps", "9"]).experiment
    assert began.agent_config.actor == "flow"
    assert began.training.environment_steps == 9
    assert plan(["nf-ugs", "point-u-maze"]).experiment.agent_config.actor == "gaussian"


def test_a_maze_is_explored_taken_up_and_reported(tmp_path, refused, capsys):
    training = {
        **{"environment-steps": 640, "environments": 8, "unroll": 20, "updates": 1},
        **{"batch-size": 8, "buffer-steps": 400, "prefill": 20, "candidates": 4, "log-every": 2},
        **{"checkpoint-every": 2, "evaluation-episodes": 1},
    }
    sizes = {"blocks": 1, "channels": 4, "encoder": 4, "actor-hidden": 4}
    values = {f"training.{name}": value for name, value in training.items()}
    values |= {f"agent.{name}": value for name, value in sizes.items()}
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    record, runs = tmp_path / "records.jsonl", tmp_path / "runs"
    command = ["train", "nf-ugs", "point-u-maze", *words, "--runs", str(runs)]
    assert main([*command, "--record", str(record)]) == 0
    said = capsys.readouterr().out
    assert "of the cells seen" in said
    run = runs / "point-u-maze" / "nf-ugs-laptop" / "seed-0"
    result = json.loads((run / "result.json").read_text())
    assert result["environment_steps"] == 640
    assert result["curve"][-1] == {
        "step": result["steps"],
        "seconds": pytest.approx(result["train_seconds"], abs=0.1),
        "score": pytest.approx(result["score"], abs=1e-4),
        "coverage": pytest.approx(result["coverage"], abs=1e-4),
    }
    assert (run / "figures" / "density.png").is_file()
    assert f"maps in {run / 'figures'}" in said

    # A finished run stands; one without its result is finished again from its checkpoint.
    (run / "result.json").unlink()
    assert main(["resume", str(run)]) == 0
    again = json.loads((run / "result.json").read_text())
    assert again["score"] == result["score"]
    assert main(["report", str(runs), "--out", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert any(name.endswith("density.png") for name in names)

    assert "evaluated as it did" in refused("eval", str(run))
    assert "--variant" in refused(*command, "--agent.noise", "0.25")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["nf-ugs", "point-umaze"], "point-u-maze"),
        (["nf-ugs", "point-u-maze", "--training.unroll", "7"], "must divide"),
        (["crl-minmax", "point-u-maze", "--training.batch-size", "10000000"], "batch-size"),
        (["crl-minmax", "point-u-maze", "--training.buffer-steps", "100"], "buffer-steps"),
        (["nf-ugs", "point-u-maze", "--seeds", "1", "1"], "distinct"),
    ],
)
def test_what_cannot_be_explored_is_refused(words, answer, refused, tmp_path):
    assert answer in refused(
        "train", *words, *(["--runs", str(tmp_path)] if len(words) > 2 else [])
    )
    assert not list(tmp_path.iterdir())


# Speed


def test_speed_is_measured(tmp_path, capsys):
    out = tmp_path / "train.json"
    words = ("--preset", "laptop", "--agents", "gcbc", "--out")
    assert main(["bench", "train", *words, str(out), "--steps", "2", "--rounds", "1"]) == 0
    found = json.loads(out.read_text())
    figures = found["agents"]["gcbc"]
    assert all(value > 0 for value in figures.values())
    assert figures["gain"] == pytest.approx(
        figures["steps_per_second"] / figures["plain_steps_per_second"]
    )
    assert (found["bench"], found["preset"]) == ("train", "laptop")
    assert {"device", "versions", "commit"} <= set(found)
    out = tmp_path / "sample.json"
    assert main(["bench", "sample", *words, str(out), "--batches", "1", "50"]) == 0
    times = json.loads(out.read_text())["agents"]["gcbc"]
    assert list(times) == ["milliseconds_1", "milliseconds_50"]
    assert all(0 < value < 10_000 for value in times.values())


def test_starting_is_measured(tmp_path):
    out = tmp_path / "start.json"
    words = ["--agents", "gcbc", "--again", "1", "--out", str(out)]
    assert main(["bench", "start", *words]) == 0
    seconds = json.loads(out.read_text())["agents"]["gcbc"]
    assert min(seconds["first_seconds"], seconds["again_seconds"]) > 0


def test_batches_and_seeds_are_measured(tmp_path, capsys):
    out, picture = tmp_path / "scale.json", tmp_path / "scale.png"
    words = ["--agent", "gcbc", "--preset", "laptop", "--batch-sizes", "8", "32", "--seeds", "1"]
    words += ["2", "--steps", "2", "--rounds", "1", "--out", str(out), "--picture", str(picture)]
    assert main(["bench", "scale", *words]) == 0
    found = json.loads(out.read_text())
    sizes = [(point["seeds"], point["batch_size"]) for point in found["points"]]
    assert sizes == [(1, 8), (1, 32), (2, 8), (2, 32)]
    assert all(value > 0 for point in found["points"] for value in point.values())
    kernels = found["kernels"]
    # Three products for each of its weights; fusion leaves fewer other kernels than operations.
    assert kernels["products"] >= 3
    assert kernels["all"] == kernels["products"] + kernels["others"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"{kernels['all']} kernels" in capsys.readouterr().out


def test_the_making_of_data_is_measured(tmp_path, capsys):
    out = tmp_path / "data.json"
    words = ["--datasets", "pointmaze-medium-navigate-v0", "--workers", "1", "--episodes", "10"]
    assert main(["bench", "data", *words, "--out", str(out)]) == 0
    speed = json.loads(out.read_text())["datasets"]["pointmaze-medium-navigate-v0"]
    # Other load may slow either side; steps counted as episodes would be off by a hundred and more.
    assert 0.02 < speed["stored"]["1"] / speed["simulator"] < 20
    assert "1 worker" in capsys.readouterr().out


def test_agents_are_held_against_known_densities(tmp_path, capsys):
    """A bell curve cannot be two paths: its samples lie between them, and it is told so."""
    out, picture = tmp_path / "modes.json", tmp_path / "modes.png"
    words = ["--agents", "gaussian-bc", "--densities", "left-or-right", "--steps", "150"]
    assert main(["bench", "modes", *words, "--out", str(out), "--picture", str(picture)]) == 0
    score = json.loads(out.read_text())["densities"]["left-or-right"]["gaussian-bc"]
    assert score["coverage"] == 0
    assert score["inside"] < 0.05
    assert score["log_prob"] < score["true_log_prob"] - 5
    assert abs(score["parameters"] - 100_000) < 5000
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "left-or-right" in capsys.readouterr().out


# All of it


@pytest.mark.slow
def test_the_quick_demonstration(tmp_path, monkeypatch, capfd):
    """With few updates and episodes: how many there are is the one thing that it does not show."""
    few = dataclasses.replace(demo.QUICK, steps=100, data_episodes=4, episodes=1)
    monkeypatch.setattr(demo, "QUICK", few)
    monkeypatch.setenv("NFRL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--quick", "--runs", str(tmp_path / "runs")]) == 0
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    for agent in ("nf-gcbc", "gcbc"):
        result = folder(tmp_path / "runs", 0, f"{agent}-laptop").read_result()
        assert set(RECORD) <= set(result.to_json())
        assert set(result.dataset) >= {"name", "origin", "transitions", "sha256"}
        assert "made" in result.dataset["origin"]
        assert result.agent == agent
        assert 0 <= result.score <= 1
    page = tmp_path / "runs" / "report" / "report.html"
    assert page.is_file()
    assert "minutes" in said.out.splitlines()[-1]


def test_eval_goes_on_where_no_video_can_be_drawn(monkeypatch, capsys):
    """`nfrl eval RUN --video` says what is missing, and the score stands."""
    from nfrl.evaluation import video

    def unavailable(*arguments, **settings):
        raise video.VideoUnavailable("no GL library: apt-get install libegl1")

    monkeypatch.setattr(video, "record_video", unavailable)
    monkeypatch.setattr(scoring, "batched_policy", lambda agent, seed: None)
    monkeypatch.setattr(scoring, "describe_result", lambda *arguments: "the result")
    experiment = Experiment(
        task=find_task("cube-single-play-v0"),
        agent="gcbc",
        preset="laptop",
        variant="",
        seeds=(0,),
        agent_config=find_config("gcbc"),
        training=OfflineTraining(),
        dataset=DatasetInfo("d", "d.npz", "file", 1, "0", Spec.vectors(1, 1)),
        episodes=0,
    )
    run = RunFolder(Path("nowhere"))
    assert scoring.score(experiment, 0, run, agent=None, video=True, keep=False) == "the result"
    assert "libegl1" in capsys.readouterr().out


def test_a_runs_policy_acts_as_its_agent(trained):
    run = folder(trained, 1)
    for step in (10, None):
        agent = load_trained(Experiment.from_json(run.read_config()), run, step)
        policy = load_policy(str(run.path), step=step, seed=2)
        state = np.ones((1, 2), np.float32)
        expected = batched_policy(agent, 2)(state, -state, np.zeros(1), np.zeros(1))
        np.testing.assert_array_equal(policy(state[0], -state[0]), expected[0])
    with pytest.raises(UserError, match=r"step-00000007.* no such checkpoint"):
        load_policy(run.path, step=7)


def test_what_has_no_policy_to_load_is_refused(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        load_policy(tmp_path)
    explored = plan(["nf-ugs", "point-u-maze"]).experiment
    (tmp_path / "config.json").write_text(json.dumps(explored.to_json(0)))
    with pytest.raises(UserError, match=r"explored a maze"):
        load_policy(tmp_path)


def test_a_finished_run_keeps_its_result(trained, tmp_path, capsys):
    """Resuming it says the score again; it neither trains nor evaluates."""
    shutil.copytree(trained, tmp_path / "runs")
    shutil.rmtree(folder(tmp_path / "runs").checkpoints)
    before = folder(tmp_path / "runs").read_result()
    assert main(["resume", str(folder(tmp_path / "runs").path)]) == 0
    assert folder(tmp_path / "runs").read_result() == before
    assert "success" in capsys.readouterr().out


def test_a_run_that_another_machine_trained_says_so(trained, tmp_path):
    runs = unfinished(trained, tmp_path / "runs")
    for seed in (0, 1):
        values = folder(runs, seed).read_config()
        folder(runs, seed).write_config({**values, "device": "gpu: of another"})
    assert main(["resume", str(folder(runs).path)]) == 0
    result = folder(runs).read_result()
    assert result.device == "gpu: of another"
    assert result.evaluated_on.startswith("cpu: ")
    assert folder(trained).read_result().evaluated_on is None


def test_held_out_data_of_another_width_are_refused(trained, refused, tmp_path):
    runs = unfinished(trained, tmp_path / "runs")
    data = Path(folder(runs).read_config()["dataset"]["path"])
    copy = tmp_path / data.name
    shutil.copy(data, copy)
    with np.load(ogbench.validation_path(data)) as file:
        arrays = dict(file)
    arrays["actions"] = arrays["actions"][:, :1]
    np.savez(ogbench.validation_path(copy), **arrays)
    for seed in (0, 1):
        values = folder(runs, seed).read_config()
        values["dataset"]["path"] = str(copy)
        folder(runs, seed).write_config(values)
    assert "actions of the validation data are 1 wide" in refused("resume", str(folder(runs).path))
