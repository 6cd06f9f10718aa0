"""Trackers get what a run measures, and never decide whether or how fast it trains."""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nfrl
from nfrl.cli import suite
from nfrl.cli.main import main
from nfrl.cli.train import plan
from nfrl.errors import UserError
from nfrl.experiment import DatasetInfo
from nfrl.interfaces.tracker import Bookmark
from nfrl.launch.jobs import Job
from nfrl.runs import tracking
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record
from nfrl.runs.tracking import check_trackers, numbers_of
from nfrl.spec import Spec

MAZE = "pointmaze-medium-navigate-v0"
running = importlib.import_module("nfrl.experiment.run")  # the package has a function of that name
SHIPPED = ("tensorboard", "wandb", "mlflow")
HERE = "test_tracking"
DATA = {
    "observations": np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32),
    "actions": np.random.default_rng(1).uniform(-1, 1, (200, 1)).astype(np.float32),
    "rewards": np.zeros(200, np.float32),
    "terminals": np.arange(200) % 50 == 49,
    "timeouts": np.arange(200) % 50 == 49,
}


class Recorder:
    """Remembers what trackers were told, by the run's folder."""

    told: dict = {}  # noqa: RUF012 (a tracker is built with no arguments)

    def start(self, run, resume):
        self.calls = self.told.setdefault(run.name, [])
        self.calls.append(("start", run, resume))
        return resume or Bookmark(f"my-{run.name}")

    def metrics(self, step, numbers):
        self.calls.append(("metrics", step, numbers))

    def image(self, name, path, step):
        self.calls.append(("image", name, path.read_bytes()[:4]))

    def video(self, name, path, step):
        self.calls.append(("video", path.name, path.read_bytes()))

    def finish(self, status, summary):
        self.calls.append(("finish", status, summary))

    def steps(self):
        return [call[1] for call in self.calls if call[0] == "metrics"]


class FailsToBeBuilt(Recorder):
    def __init__(self):
        raise RuntimeError("no such luck")


class FailsAtStart(Recorder):
    def start(self, run, resume):
        raise ConnectionError(f"no network\nnor hope, with {os.environ['LAB_TOKEN']}")


class FailsAtMetrics(Recorder):
    def metrics(self, step, numbers):
        raise OSError(28, "No space left on device")


class ExitsAtMetrics(Recorder):
    def metrics(self, step, numbers):
        sys.exit("please log in")


class FailsAtFinish(Recorder):
    def finish(self, status, summary):
        raise ValueError(f"bad token {os.environ['LAB_TOKEN']}")


class Hangs(Recorder):
    def metrics(self, step, numbers):
        time.sleep(60)


FAILING = (FailsToBeBuilt, FailsAtStart, FailsAtMetrics, ExitsAtMetrics, FailsAtFinish, Hangs)


def no_login(patch, folder):
    """Let no account of this machine's user be found."""
    patch.setenv("NETRC", str(folder / "no-netrc"))
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")) and name != "WANDB_SERVICE":
            patch.delenv(name)


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """A working folder, no login anywhere, and trackers that look more often."""
    monkeypatch.chdir(tmp_path)
    no_login(monkeypatch, tmp_path)
    monkeypatch.setenv("LAB_TOKEN", "hush-hush-hush")
    monkeypatch.setattr(tracking, "PERIOD", 0.05)
    Recorder.told.clear()


def words(file, runs, *more, steps=20, every=10):
    return [
        *("train", "gcbc", MAZE, "--dataset", str(file), "--runs", str(runs), "--episodes", "0"),
        *("--agent.hidden", "16", "--training.batch-size", "16", "--steps", str(steps)),
        *("--training.log-every", str(every), "--training.checkpoint-every", str(every)),
        *("--training.validation-batches", "1", *more),
    ]


def folder_of(runs, seed=0):
    return RunFolder(Path(runs) / MAZE / "gcbc-laptop" / f"seed-{seed}")


def ledger(folder):
    return json.loads((folder.path / "trackers.json").read_text())


def scalars(folder):
    """Return what TensorBoard reads: the steps and values of each name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def measured(folder):
    """Return the same of metrics.jsonl; TensorBoard keeps 32 bits of a number."""
    columns: dict = {}
    for line in folder.read_metrics():
        for name, value in numbers_of(line).items():
            columns.setdefault(name, []).append((line["step"], float(np.float32(value))))
    del columns["step"]
    return columns


@pytest.fixture(scope="module")
def tracked(point_file, tmp_path_factory):
    """Two seeds, followed by all trackers that come with this package; and what was said."""
    root, said = tmp_path_factory.mktemp("tracked"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.chdir(root)
        no_login(patch, root)
        command = words(point_file, "runs", "--seeds", "0", "1", "--track", *SHIPPED)
        assert main(command) == 0
    return root, said.getvalue()


# What comes with the package


def test_several_trackers_follow_every_seed_to_the_end(tracked):
    root, said = tracked
    assert "tracking:" not in said
    for seed in (0, 1):
        kept = ledger(folder_of(root / "runs", seed))
        assert kept.keys() == set(SHIPPED)
        assert all(entry["step"] == 20 and entry["done"] for entry in kept.values())


def test_tensorboard_reads_exactly_the_metrics(tracked):
    root, _ = tracked
    for seed in (0, 1):
        folder = folder_of(root / "runs", seed)
        read, result = scalars(folder), folder.read_result()
        assert {k: v for k, v in read.items() if not k.startswith("result/")} == measured(folder)
        assert read["result/parameters"] == [(20, result.parameters)]


def test_tensorboard_has_configuration_and_figures(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = folder_of(tracked[0] / "runs")
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("config/text_summary")[0].tensor_proto.string_val
    config = json.loads(text.decode().removeprefix("```json").removesuffix("```"))
    assert config == folder.read_config()
    (picture,) = events.Images("learning")
    assert picture.encoded_image_string[:4] == b"\x89PNG"
    assert (picture.width, picture.step) == (1080, 20)


def test_wandb_keeps_a_run_offline_without_asking(tracked):
    root, said = tracked
    assert said.count("wandb: not logged in") == 1
    for seed in (0, 1):
        folder = folder_of(root / "runs", seed)
        (run,) = folder.path.glob("wandb/offline-run-*")
        name = ledger(folder)["wandb"]["id"]
        assert run.name.endswith(name)
        logged = (run / f"run-{name}.wandb").read_bytes()
        assert all(word in logged for word in (b"val_log_prob", b"agent_config", b"learning"))


def test_mlflow_has_parameters_metrics_and_files(tracked, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    root, _ = tracked
    client = MlflowClient((root / "mlruns").as_uri())
    for seed in (0, 1):
        folder = folder_of(root / "runs", seed)
        name = ledger(folder)["mlflow"]["id"]
        run = client.get_run(name)
        assert run.info.status == "FINISHED"
        assert run.data.params["agent_config.hidden"] == "[16]"
        for metric in ("loss", "val_log_prob"):
            history = [(m.step, m.value) for m in client.get_metric_history(name, metric)]
            assert history == [(line["step"], line[metric]) for line in folder.read_metrics()]
        assert run.data.metrics["result/parameters"] == folder.read_result().parameters
        assert "figures/learning.png" in [f.path for f in client.list_artifacts(name, "figures")]


def test_a_resumed_run_goes_on_in_the_same_runs_of_the_trackers(tracked, tmp_path, monkeypatch):
    """The kill came after the last step was sent, and before that was written down."""
    root, _ = tracked
    shutil.copytree(root, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    folders = [folder_of("runs", seed) for seed in (0, 1)]
    before = [ledger(folder) for folder in folders]
    for folder, kept in zip(folders, before, strict=True):
        folder.result_file.unlink()
        (folder.checkpoints / "step-00000020.safetensors").unlink()
        for entry in kept.values():
            entry |= {
                "step": 10,
                "done": False,
                "where": entry["where"].replace(root.as_uri(), Path.cwd().as_uri()),
            }
        (folder.path / "trackers.json").write_text(json.dumps(kept))
    assert main(["resume", str(folders[0].path)]) == 0
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(Path("mlruns").resolve().as_uri())
    for folder, kept in zip(folders, before, strict=True):
        after = ledger(folder)
        assert {n: after[n]["id"] for n in after} == {n: kept[n]["id"] for n in kept}
        assert all(entry["step"] == 20 and entry["done"] for entry in after.values())
        assert scalars(folder)["loss"] == measured(folder)["loss"]
        name = after["mlflow"]["id"]
        assert [m.step for m in client.get_metric_history(name, "loss")] == [10, 20]
        runs = list(folder.path.glob(f"wandb/offline-run-*-{after['wandb']['id']}"))
        assert len(runs) == 2 == len(list(folder.path.glob("wandb/offline-run-*")))


@pytest.mark.slow
def test_a_killed_run_has_every_step_once(point_file, tmp_path):
    command = words(point_file, tmp_path / "runs", "--track", "tensorboard", steps=4_000, every=20)
    folder = folder_of(tmp_path / "runs")
    process = subprocess.Popen(
        [sys.executable, "-m", "nfrl.cli.main", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            trackers = folder.path / "trackers.json"
            if trackers.is_file() and ledger(folder)["tensorboard"].get("step", 0) >= 40:
                break
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not folder.has_result, "killed too late"
    assert main(["resume", str(folder.path)]) == 0
    steps = [step for step, _ in scalars(folder)["loss"]]
    assert steps == list(range(20, 4_001, 20))
    assert scalars(folder)["loss"] == measured(folder)["loss"]
    assert len(list((folder.path / "tensorboard").iterdir())) == 2


# Any tracker


def test_an_offline_runs_calls_are_in_order(point_file):
    assert main(words(point_file, "runs", "--track", f"{HERE}:Recorder")) == 0
    folder = folder_of("runs")
    ((name, calls),) = Recorder.told.items()
    assert name == f"{MAZE}/gcbc-laptop/seed-0"
    kinds = [call[0] for call in calls]
    assert kinds[:3] == ["start", "metrics", "metrics"]
    assert kinds[-1] == "finish"
    assert set(kinds[3:-1]) == {"image"}
    _, run, resume = calls[0]
    assert (resume, run.folder, run.config) == (None, folder.path, folder.read_config())
    assert [call[2]["loss"] for call in calls[1:3]] == [x["loss"] for x in folder.read_metrics()]
    assert calls[-1][1] == "finished"
    assert not [t for t in threading.enumerate() if t.name.startswith("nfrl-tracker")]


def test_a_run_whose_figures_have_no_room_is_finished_and_told(point_file, monkeypatch, capsys):
    def full(prefix):
        raise UserError("the disk is full: could not write /tmp/figures; make room")

    monkeypatch.setattr(tracking, "temporary_folder", full)
    assert main(words(point_file, "runs", "--track", f"{HERE}:Recorder")) == 0
    assert capsys.readouterr().err.count("tracking: figures stopped: the disk is full") == 1
    (calls,) = Recorder.told.values()
    assert [call[0] for call in calls] == ["start", "metrics", "metrics", "finish"]
    assert calls[-1][1] == "finished"


def test_neither_configuration_nor_record_mention_trackers(point_file):
    assert main(words(point_file, "runs", "--track", f"{HERE}:Recorder")) == 0
    for name in ("config.json", "result.json", "run.toml"):
        assert "track" not in (folder_of("runs").path / name).read_text().lower()


def test_a_run_remembers_its_trackers(point_file):
    assert main(words(point_file, "runs", "--track", f"{HERE}:Recorder")) == 0
    folder = folder_of("runs")
    command = ["resume", str(folder.path)]

    def told(*more):
        Recorder.told.clear()
        folder.result_file.unlink()
        kept = ledger(folder)
        for entry in kept.values():
            entry["done"] = False
        (folder.path / "trackers.json").write_text(json.dumps(kept))
        assert main([*command, *more]) == 0
        return [call[0] for calls in Recorder.told.values() for call in calls]

    assert told()[0] == "start"
    assert "metrics" not in told(), "all was sent before"
    assert told("--track") == []
    # One that joins later gets what was before it came.
    assert told("--track", f"{HERE}:Recorder", f"{HERE}:FailsAtFinish").count("metrics") == 2


def test_what_was_missed_is_sent_when_a_finished_run_is_resumed(point_file, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "metrics", FailsAtMetrics.metrics)
        assert main(words(point_file, "runs", "--track", f"{HERE}:Recorder")) == 0
    path = str(folder_of("runs").path)
    assert f"`nfrl resume {path}` sends what is missing" in capsys.readouterr().err
    Recorder.told.clear()
    assert main(["resume", path]) == 0
    (calls,) = Recorder.told.values()
    assert [call[1] for call in calls if call[0] == "metrics"] == [10, 20]
    assert calls[-1][:2] == ("finish", "finished")
    Recorder.told.clear()
    assert main(["resume", path]) == 0
    assert not Recorder.told, "nothing is missing"


@pytest.mark.parametrize("kind", FAILING)
def test_a_tracker_that_fails_warns_once_and_stops_nothing(kind, point_file, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    names = [f"{HERE}:{kind.__name__}", f"{HERE}:Recorder"]
    assert main(words(point_file, "runs", "--seeds", "0", "1", "--track", *names)) == 0
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("tracking:")]
    assert names[0] in line
    assert "nfrl resume" in line
    assert "Traceback" not in error
    assert "hush-hush-hush" not in error
    for seed in (0, 1):
        assert folder_of("runs", seed).read_result().status == "finished"
        assert ledger(folder_of("runs", seed))[names[1]]["done"], "the other goes on"
        assert not ledger(folder_of("runs", seed))[names[0]].get("done")


def test_a_program_ends_though_a_tracker_hangs(point_file, tmp_path):
    code = (
        "import sys; from nfrl.runs import tracking; tracking.PATIENCE = 0.5;"
        "from nfrl.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = words(point_file, tmp_path / "runs", "--track", f"{HERE}:Hangs")
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tracking: ") == 1


def test_ctrl_c_leaves_a_run_of_the_tracker_that_goes_on(point_file, monkeypatch):
    """It may come at any time; here when the first metrics were sent."""
    came = threading.Event()

    def interrupt(self, step, numbers):
        Recorder.metrics(self, step, numbers)
        if not came.is_set():
            came.set()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FailsAtMetrics, "metrics", interrupt)
    names = ["--track", f"{HERE}:FailsAtMetrics"]
    assert main(words(point_file, "runs", *names, steps=4_000, every=20)) == 130
    folder = folder_of("runs")
    (calls,) = Recorder.told.values()
    assert calls[-1] == ("finish", "interrupted", {})
    sent = [call[1] for call in calls if call[0] == "metrics"]
    assert sent == [line["step"] for line in folder.read_metrics()], "nothing is lost"
    assert main(["resume", str(folder.path)]) == 0
    again = [call[1] for call in calls if call[0] == "metrics"]
    assert again == list(range(20, 4_001, 20))
    assert [call[2] and call[2].step for call in calls if call[0] == "start"] == [None, sent[-1]]


def test_a_video_is_sent(point_file, tmp_path):
    command = words(point_file, "runs", "--track", f"{HERE}:Recorder")
    folder = folder_of("runs")
    folder.path.mkdir(parents=True)
    (folder.path / "video.gif").write_bytes(b"GIF89a")
    assert main(command) == 0
    (calls,) = Recorder.told.values()
    assert ("video", "video.gif", b"GIF89a") in calls


class Stubs:
    """In place of what trains and plays: the same files are written, at once."""

    def train(self, folders, seeds, *rest):
        for folder in folders:
            folder.append_metrics({"step": 20, "seconds": 1.0, "loss": 1.0})
        return [None for _ in folders]

    def explore(self, folders, *rest):
        line = {"step": 640, "updates": 9, "environment_steps": 640, "success": 0.5}
        for folder in folders:
            folder.append_metrics(line | {"seconds": 1.0, "coverage": 1.0, "successes": [0.0, 1.0]})
        return [None for _ in folders]

    def go_online(self, folder, *rest, **more):
        self.train([folder], [0])

    def score(self, experiment, seed, folder, agent, **more):
        record = Record(task=MAZE, agent=experiment.agent, seed=seed, steps=20, score=0.5)
        folder.write_result(record)


@pytest.fixture
def stubs(monkeypatch):
    for name in ("train", "explore", "go_online", "score"):
        monkeypatch.setattr(running, name, getattr(Stubs(), name))
    for name in ("_sample", "load_trained"):
        monkeypatch.setattr(running, name, lambda *rest: None)
    monkeypatch.setattr(running, "load_data", lambda *rest, **how: (None, None))
    monkeypatch.setattr("nfrl.environments.rewarded.RewardedEnvironment", lambda *rest: None)


def test_exploring_is_tracked(stubs, tmp_path):
    planned = plan(["crl-uniform", "point-u-maze", "--seeds", "0", "1"], tmp_path)
    trackers = [f"{HERE}:Recorder"]
    running.run(planned.experiment, planned.folders, show=False, trackers=trackers)
    assert len(Recorder.told) == 2
    for calls in Recorder.told.values():
        (numbers,) = [call[2] for call in calls if call[0] == "metrics"]
        assert (numbers["coverage"], numbers["successes/1"]) == (1.0, 1.0)
        # As a run without an agent is recorded.
        assert calls[-1][:2] == ("finish", "diverged")
        assert calls[-1][2]["environment_steps"] == 640


def test_going_on_online_is_tracked_after_the_offline_run(stubs, tmp_path):
    task = "cube-single-play-singletask-task2-v0"
    planned = plan(["fql", task, "--online-steps", "20"], tmp_path)
    spec, trackers = Spec.vectors(3, 1), [f"{HERE}:Recorder"]
    info = DatasetInfo("none", "none.npz", "nowhere", transitions=0, sha256="", spec=spec)
    experiment = dataclasses.replace(planned.experiment, dataset=info)
    running.run(experiment, planned.folders, show=False, trackers=trackers)
    assert {name.split("/")[1] for name in Recorder.told} == {"fql-laptop", "fql-laptop-online"}
    for calls in Recorder.told.values():
        assert "metrics" in [call[0] for call in calls]
        assert calls[-1][:2] == ("finish", "finished")
        assert calls[-1][2]["score"] == 0.5


def test_a_suite_passes_trackers_on_unless_a_line_has_its_own(tmp_path):
    line = ("gcbc", MAZE, "--dataset", "missing.npz")
    for own, passed in (((), ["wandb", "mlflow"]), (("--track", "tensorboard"), ["tensorboard"])):
        job = Job((*line, *own))
        planned = plan(job.words, tmp_path)
        command = suite._command(job, planned, tmp_path, 1, ["wandb", "mlflow"])
        assert command.count("--track") == 1
        at = command.index("--track") + 1
        assert command[at : at + len(passed)] == passed
        assert plan(command[command.index("train") + 1 :]).folders == planned.folders


# From Python


fit = functools.partial(
    nfrl.fit, "gaussian-bc", DATA, steps=20, batch_size=16, hidden=(8,), progress=False
)


def test_fit_takes_names_and_objects(tmp_path):
    mine = Recorder()
    fit(folder=tmp_path / "mine", trackers=["tensorboard", mine])
    folder = RunFolder(tmp_path / "mine")
    assert mine.steps() == [line["step"] for line in folder.read_metrics()]
    assert mine.calls[0][1].config["agent"] == "gaussian-bc"
    assert scalars(folder)["loss"] == measured(folder)["loss"]
    assert "learning" in [call[1] for call in mine.calls if call[0] == "image"]
    assert ledger(folder).keys() == {"tensorboard", f"{HERE}:Recorder"}


def test_fit_without_a_folder_keeps_what_trackers_write(tmp_path):
    mine = Recorder()
    fit(trackers=["tensorboard", mine])
    assert list(tmp_path.glob("tensorboard/**/events.*"))
    assert mine.calls[0][1].folder is None
    assert mine.calls[-1][1] == "finished"


def test_fit_goes_on_though_a_tracker_fails(capsys):
    assert fit(trackers=[FailsAtMetrics()]).steps == 20
    assert capsys.readouterr().err.count("tracking: ") == 1


# Names


def test_an_unknown_tracker_is_answered_with_the_nearest(point_file, capsys):
    for command in (
        words("missing.npz", "runs", "--track", "tensorbord"),
        ["suite", "run", "gcbc", "--track", "tensorbord"],
    ):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == "nfrl: unknown tracker 'tensorbord'; did you mean tensorboard?"
    with pytest.raises(UserError, match="tensorboard"):
        fit(trackers=["tensorbord"])
    with pytest.raises(UserError, match="no tracker"):
        check_trackers(["json:loads"])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_missing_package_is_named_with_its_cure(name, capsys, monkeypatch):
    find = importlib.util.find_spec
    missing = ("tensorboardX", "wandb", "mlflow")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in missing else find(name, *a)
    )
    assert main(words("missing.npz", "runs", "--track", name)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("pip install 'nfrl[track]'")


def test_a_tracker_that_is_gone_is_warned_of(point_file, capsys):
    assert main(words(point_file, "runs")) == 0
    folder = folder_of("runs")
    (folder.path / "trackers.json").write_text('{"gone": {}}')
    assert main(["resume", str(folder.path)]) == 0
    assert "tracking: gone stopped: unknown tracker" in capsys.readouterr().err


# The parts


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(),
        st.none()
        | st.text()
        | st.floats()
        | st.integers(-9, 9)
        | st.lists(st.floats(), max_size=3),
    )
)
def test_only_numbers_are_sent(line):
    sent = numbers_of(line)
    assert all(isinstance(value, float) for value in sent.values())
    whole = {name for name, value in line.items() if isinstance(value, int | float)}
    parts = {
        f"{name}/{i}"
        for name, value in line.items()
        if isinstance(value, list)
        for i in range(len(value))
    }
    assert sent.keys() == whole | parts


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=20))
def test_lines_are_read_once_and_whole(tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    lines, text = tracking._Lines(path), "".join(f'{{"step": {i}}}\n' for i in range(12))
    assert lines.new() == []
    read, done = [], 0
    for cut in [*cuts, len(text)]:
        with path.open("a") as file:
            file.write(text[done : done + cut])
        done += cut
        read += lines.new()
    assert [line["step"] for line in read] == list(range(12))
    path.with_suffix(".new").write_text('{"step": 3}\n')
    path.with_suffix(".new").replace(path)
    assert lines.new() == [{"step": 3}]


# The page


def test_the_page_runs_as_it_stands(tmp_path, point_file):
    text = pages.page("tracking.md")
    pages.write_files(text, tmp_path)
    example, _ = pages.blocks(text, "python")
    exec(compile(example, "tracking.md", "exec"), {})
    assert scalars(RunFolder(tmp_path / "runs/mine"))["loss"]
    assert main(words(point_file, "runs", "--track", "lab_notes:Notes")) == 0
    notes = (tmp_path / f"{MAZE}-gcbc-laptop-seed-0.csv").read_text().splitlines()
    losses = [line["loss"] for line in folder_of("runs").read_metrics()]
    assert notes == [f"{step},{loss}" for step, loss in zip((10, 20), losses, strict=True)]
