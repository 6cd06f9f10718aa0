"""docs/own-robot.md as it stands, with shorter runs; and one data set in five formats."""

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import data_sets
import numpy as np
import pages
import pytest

import nfrl
from nfrl.cli.main import main

PAGE = pages.page("own-robot.md")
RUN = "runs/Pendulum-v1/nf-bc-laptop/seed-0"
SHORT = ["--steps", "40", "--training.log-every", "20", "--training.checkpoint-every", "20"]
SHORT += ["--training.batch-size", "16", "--training.validation-batches", "2", "--episodes", "2"]
SHORT += ["--agent.flow.blocks", "1", "--agent.flow.channels", "8", "--agent.encoder", "16"]
SHORT += ["--agent.condition-dim", "8", "--workers", "1"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files of the page, and the data that its scripts make."""
    folder = tmp_path_factory.mktemp("robot")
    for path in pages.write_files(PAGE, folder):
        if path.suffix == ".py":
            subprocess.run([sys.executable, path], cwd=folder, check=True, capture_output=True)
    return folder


def commands():
    """The page's commands, in order."""
    lines = [line for block in pages.blocks(PAGE, "sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("nfrl ")]


def shorter(words):
    """The same command, of a shorter run."""
    words = list(words)
    if words[0] == "eval":
        return [*words, "--episodes", "2", "--workers", "1"]
    if words[0] != "train":
        return words
    further = list(SHORT)
    if words[1] == "nf-rlbc":
        further += ["--agent.critic", "16"]
    if "--horizon" in words:
        further += ["--horizon", "20"]
    return [*words, *further]


def weights(run):
    last = sorted((Path(run) / "checkpoints").iterdir(), key=lambda path: int(path.stem[5:]))[-1]
    return hashlib.sha256(last.read_bytes()).hexdigest()


def test_every_command_of_the_page(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    said = {}
    for program, *words in commands():
        assert program == "nfrl"
        assert main(shorter(words)) == 0, capsys.readouterr().err
        said[" ".join(words)] = capsys.readouterr().out
    checked = said["data check pendulum.npz"]
    assert "3600 transitions in 18 trajectories" in checked
    assert "rewards from" in checked
    # Made again from its own file, and from a file of one's own.
    assert weights(RUN) == weights(RUN.replace("runs", "again"))
    config = json.loads(
        Path(RUN.replace("laptop", "laptop-short-chunks"), "config.json").read_text()
    )
    assert config["agent_config"]["chunks"] == {"history": 2, "predicted": 8, "executed": 4}
    assert config["training"]["batch_size"] == 16  # flags stand above the file
    # Scored by return where nothing says success; by success where something does.
    for run, word in (
        (RUN, "return"),
        ("runs/Pendulum-v1/nf-rlbc-laptop/seed-0", "return"),
        ("runs/gymnasium_robotics.PointMaze_UMaze-v3/nf-gcbc-laptop/seed-0", "success rate"),
    ):
        result = json.loads(Path(run, "result.json").read_text())
        assert result["measure"] == word
        assert np.isfinite(result["score"])
        assert result["episodes"] == 2
    assert "return -" in said[f"eval {RUN} --episodes 20 --seed 1"]
    # Trained with nothing to act in.
    result = json.loads(Path("runs/swing-up/nf-bc-laptop/seed-0/result.json").read_text())
    assert result["score"] is None


def test_a_seed_of_the_evaluation_is_another_draw(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    small = [*SHORT, "--runs", "seeds"]
    assert main(["train", "nf-bc", "--data", "pendulum.npz", "--env", "Pendulum-v1", *small]) == 0
    run = RUN.replace("runs", "seeds")
    before = Path(run, "result.json").read_text()
    capsys.readouterr()

    def said(*words):
        assert main(["eval", run, "--episodes", "2", "--workers", "1", *words]) == 0
        return capsys.readouterr().out

    first, again, other = (said("--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other
    assert Path(run, "result.json").read_text() == before


def test_a_file_says_what_flags_say(desk, monkeypatch):
    """TOML and YAML, and the same weights as by flags."""
    monkeypatch.chdir(desk)
    lines = ['data = "pendulum.npz"', 'name = "file"', "episodes = 0", "steps = 20"]
    tables = [
        "[agent]",
        'name = "nf-bc"',
        "encoder = [16]",
        "condition_dim = 8",
        "denoising = false",
    ]
    tables += ["[agent.flow]", "blocks = 1", "channels = 8", "[training]", "log_every = 20"]
    tables += ["checkpoint_every = 20", "batch_size = 8"]
    Path("run.toml").write_text("\n".join([*lines, *tables]))
    assert main(["train", "--config", "run.toml", "--runs", "toml"]) == 0
    Path("run.yaml").write_text(
        "agent: {name: nf-bc, encoder: [16], condition_dim: 8, denoising: false,\n"
        "        flow: {blocks: 1, channels: 8}}\n"
        "data: pendulum.npz\nname: file\nepisodes: 0\nsteps: 20\n"
        "training: {log_every: 20, checkpoint_every: 20, batch_size: 8}\n"
    )
    assert main(["train", "--config", "run.yaml", "--runs", "yaml"]) == 0
    flags = "--name file --episodes 0 --steps 20 --agent.encoder 16 --agent.condition-dim 8"
    flags += " --agent.no-denoising --agent.flow.blocks 1 --agent.flow.channels 8"
    flags += " --training.log-every 20 --training.checkpoint-every 20 --training.batch-size 8"
    words = ["train", "nf-bc", "--data", "pendulum.npz", *flags.split(), "--runs", "flags"]
    assert main(words) == 0
    runs = [Path(root, "file/nf-bc-laptop/seed-0") for root in ("toml", "yaml", "flags")]
    assert len({weights(run) for run in runs}) == 1
    # And what the run wrote makes it again.
    assert main(["train", "--config", str(runs[0] / "run.toml"), "--runs", "again"]) == 0
    assert weights(Path("again", *runs[0].parts[1:])) == weights(runs[0])


FIVE = ("minari", "lerobot v3.0", "hdf5, robomimic", "hdf5, D4RL", "zarr v2")


def test_the_same_data_in_five_formats(desk, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    file = np.load(desk / "pendulum.npz")
    ends = np.flatnonzero(file["timeouts"]) + 1
    episodes = []
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        seen, following = (file[name][begin:end] for name in ("observations", "next_observations"))
        episodes.append(
            data_sets.Episode(
                np.concatenate([seen, following[-1:]]),
                file["actions"][begin:end],
                file["rewards"][begin:end].astype(np.float32),
                np.zeros(end - begin, bool),
            )
        )
    likelihoods = {}
    for form in FIVE:
        uri = data_sets.write(form, episodes, tmp_path)
        name = form.replace(" ", "-").replace(",", "")
        words = ["nf-bc", "--data", uri, "--name", name, *SHORT, "--episodes", "0"]
        assert main(["train", *words]) == 0
        lines = Path("runs", name, "nf-bc-laptop/seed-0/metrics.jsonl").read_text().splitlines()
        likelihoods[form] = [json.loads(line)["val_log_prob"] for line in lines]
    for form in FIVE:
        np.testing.assert_allclose(likelihoods[form], likelihoods[FIVE[0]], rtol=0, atol=1e-6)


def test_the_python_of_the_page(desk, monkeypatch):
    monkeypatch.chdir(desk)
    example = pages.blocks(PAGE, "python")[-1]
    sizes = "encoder=(16,), condition_dim=8, flow=RealNVPConfig(1, 8), batch_size=16"
    example = example.replace("steps=3000", f"steps=20, {sizes}").replace(
        "episodes=5", "episodes=1"
    )
    names: dict = {}
    exec("from nfrl.flows import RealNVPConfig\n" + example, names)
    assert names["action"].shape == (1,)
    assert np.isfinite(names["likelihood"])
    assert np.isfinite(names["result"].mean_return)
    assert Path("swing-up", "policy.json").is_file()


def test_values_of_the_agent_by_name(desk):
    with pytest.raises(nfrl.errors.UserError, match="nf-bc has no best; it has best_of"):
        nfrl.fit("nf-bc", desk / "pendulum.npz", best=4)
