"""A package of a user's own: task, environment, agents, flow, format, preset; all from docs/."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pages
import pytest

import nfrl
from nfrl import registry
from nfrl.agents import Chunk, GoalOptions, ShowGoals, Standardize, find_config
from nfrl.agents.wrappers.options import AgentOptions
from nfrl.cli.main import main
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.flows import RealNVPConfig, sample_at
from nfrl.runs.checkpoints import outline
from nfrl.spec import Spec

PAGE = pages.page("extending.md")
SHORT = ("--training.batch-size", "16", "--training.log-every", "20", "--workers", "1")
SHORT += ("--training.validation-batches", "1", "--episodes", "2")
STEPS = ("--steps", "40", "--training.checkpoint-every", "20")
NET = ("--agent.encoder", "16", "--agent.condition-dim", "8")


def drives(episodes=10, steps=20):
    """Episodes of a point that drives to its target: rows of place and target, rows of actions."""
    rng = np.random.default_rng(0)
    seen, done = [], []
    for _ in range(episodes):
        place, target = rng.uniform(-3, 3, (2, 2))
        for _ in range(steps):
            action = np.clip(2 * (target - place) + rng.normal(0, 0.2, 2), -2, 2)
            seen.append([*place, *target])
            done.append(action)
            place = place + 0.2 * action
    return np.array(seen, np.float32), np.array(done, np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page's package, and with data of its format."""
    place = tmp_path_factory.mktemp("lab")
    assert len(pages.write_files(PAGE, place)) == 7
    (place / "my_lab" / "__init__.py").touch()
    seen, done = drives()
    episode = np.repeat(np.arange(10), 20)[:, None]
    names = "episode,x,y,target_x,target_y,vx,vy"
    table = np.concatenate([episode, seen, done], axis=1)
    np.savetxt(place / "reach.csv", table, delimiter=",", header=names)
    late = np.arange(200) % 20 == 19
    rewards = -np.linalg.norm(seen[:, :2] - seen[:, 2:], axis=1)
    arrays = {"observations": seen, "actions": done, "rewards": rewards}
    np.savez(place / "reach.npz", **arrays, terminals=np.zeros(200, bool), timeouts=late)
    return place


@pytest.fixture(scope="module")
def installed(folder, tmp_path_factory):
    """The same, announced as an installed package is."""
    place = tmp_path_factory.mktemp("site")
    (place / "my_lab").symlink_to(folder / "my_lab")
    (place / "reach.csv").symlink_to(folder / "reach.csv")
    pages.announce(PAGE, place)
    return place


def checkpoint(run: Path) -> str:
    """The hash of a run's last checkpoint."""
    last = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.stem[5:]))[-1]
    return hashlib.sha256(last.read_bytes()).hexdigest()


def program(installed, cwd, *words):
    """Start ``nfrl`` as a process of its own, to which the package is installed."""
    path = [str(pages.SOURCES), str(installed), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return subprocess.Popen(
        [sys.executable, "-m", "nfrl.cli.main", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "NFRL_DATA": str(cwd / "none")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return out + err


def test_an_installed_package_through_the_command_line(installed, tmp_path):
    def nfrl_(*words):
        return output(program(installed, tmp_path, *words))

    (line,) = (each for each in nfrl_("tasks").splitlines() if "my-reach-v0" in each)
    assert "imitation" in line
    data = installed / "reach.csv"
    assert "180 transitions in 9 trajectories of 20" in nfrl_("data", "check", data)

    # The run is stopped on its way, gone on with, killed, gone on with.
    words = ("train", "my-bc", "my-reach-v0", "--data", f"table:{data}", *SHORT)
    words += ("--steps", "2000", "--training.checkpoint-every", "40")
    run = tmp_path / "runs" / "my-reach-v0" / "my-bc-laptop" / "seed-0"
    for start, stop, code in (
        (words, signal.SIGINT, 130),
        (("resume", run), signal.SIGKILL, -signal.SIGKILL),
    ):
        lines = len(metrics(run))
        process = program(installed, tmp_path, *start)
        while len(metrics(run)) <= lines + 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(stop)
        said = output(process, code)
        assert stop == signal.SIGKILL or f"nfrl resume {run.relative_to(tmp_path)}" in said
        assert 0 < len(metrics(run)) < 100
    assert "success" in nfrl_("resume", run)
    with pages.importable(installed):
        assert main([*map(str, words), "--runs", str(tmp_path / "whole")]) == 0
    assert checkpoint(run) == checkpoint(tmp_path / "whole" / run.relative_to(tmp_path / "runs"))

    assert "success" in nfrl_("eval", run, "--episodes", "2", "--seed", "3", "--workers", "1")
    nfrl_("report", tmp_path / "runs", "--out", "report")
    report = (tmp_path / "report" / "report.md").read_text()
    assert "my-reach-v0" in report
    assert "my-bc" in report


def metrics(run: Path) -> list[str]:
    file = run / "metrics.jsonl"
    return file.read_text().splitlines() if file.is_file() else []


@pytest.fixture
def lab(folder, monkeypatch, tmp_path):
    """The package is importable, and announces nothing."""
    monkeypatch.chdir(tmp_path)
    with pages.importable(folder):
        yield folder


def train(*words):
    """Train, and return the run's folder."""
    assert main(["train", *map(str, words), *SHORT, *STEPS]) == 0
    (config,) = Path("runs").glob("*/*/*/config.json")
    return config.parent


def test_an_agent_from_scratch_by_reference(lab):
    """It has nothing to train, and acts well from the first step on."""
    run = train(
        "my_lab.neighbours:NeighboursConfig", "my_lab.tasks:REACH", "--data", lab / "reach.npz"
    )
    config = json.loads((run / "config.json").read_text())
    assert config["agent"] == "my_lab.neighbours:NeighboursConfig"
    policy = nfrl.load_policy(run)
    seen, done = drives(2)
    acts = np.array([policy(each) for each in seen])
    assert np.abs(acts - done).mean() < 0.5
    saved = policy.save("saved")
    np.testing.assert_array_equal(nfrl.load_policy(saved)(seen[0]), acts[0])
    assert main(["eval", str(run), "--episodes", "1", "--workers", "1"]) == 0
    assert main(["train", "--config", str(run / "run.toml"), "--runs", "again"]) == 0
    again = json.loads(Path("again", *run.parts[1:], "config.json").read_text())
    assert again["own_task"] == config["own_task"]
    assert main(["report", "runs", "--out", "report"]) == 0


def test_wrappers_work_around_a_users_agent(lab):
    run = train(
        *("my_lab.agents:MyBCConfig", "my_lab.tasks:REACH", "--data", lab / "reach.npz"),
        *("--agent.chunk", "4", "--agent.executed", "2", "--agent.standardize"),
    )
    policy = nfrl.load_policy(run)
    assert policy.agent.capabilities.predicted == 4
    actions = [policy(drives(1)[0][0]) for _ in range(3)]
    assert np.shape(actions) == (3, 2)
    assert np.abs(actions).max() <= 2 + 1e-6


def acts_again(run):
    """Assert that a run's policy acts and scores, and does the same once it is saved and loaded."""
    policy = nfrl.load_policy(run)
    seen = drives(1)[0][0]
    steps = policy.agent.capabilities.predicted
    action = np.ones((2,) if steps is None else (steps, 2))
    likely = policy.log_prob(seen, action)
    assert np.isfinite(likely)
    again = nfrl.load_policy(policy.save("saved"))
    assert again.log_prob(seen, action) == likely
    np.testing.assert_array_equal(again(seen), policy(seen))
    assert main(["eval", str(run), "--episodes", "1", "--workers", "1", "--seed", "1"]) == 0


def test_a_users_flow_in_our_agent_of_rewards(lab):
    run = train(
        *("nf-rlbc", "--data", lab / "reach.npz", "--env", "my_lab.envs:Reach", "--horizon", "20"),
        *("--agent.flow", "my_lab.flows:MAFConfig", "--agent.flow.layers", "1", *NET),
        *("--agent.critic", "16"),
    )
    config = json.loads((run / "config.json").read_text())
    flow = {"name": "my_lab.flows:MAFConfig", "layers": 1, "width": 16}
    assert config["agent_config"]["flow"] == flow
    acts_again(run)


def test_what_a_function_holds_is_built(lab):
    """Shapes alone lose the arrays in closures, of which flowjax's autoregressive flows have some.

    Such flows also keep their weights wrapped; a temperature must unwrap them.
    """
    flow = registry.find("flows", "my_lab.flows:MAFConfig")()

    def build():
        return flow.build(jr.key(0), dim=2, cond_dim=3)

    leaves = jax.tree.leaves(outline(build))
    assert not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    plain = RealNVPConfig(1, 4)
    shapes = outline(lambda: plain.build(jr.key(0), dim=2, cond_dim=3))
    assert any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
    condition = np.ones(3, np.float32)
    assert np.isfinite(sample_at(0.0, build(), jr.key(1), condition)).all()


def test_announced_names_of_all_kinds(installed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pages.importable(installed):
        run = train(
            *("nf-bc", "my-reach-v0", "--data", installed / "reach.csv", "--preset", "quick"),
            *("--agent.flow", "my-maf", "--agent.flow.layers", "1", *NET),
            "--agent.chunks.predicted",
            "2",
            "--agent.chunks.executed",
            "1",
        )
        config = json.loads((run / "config.json").read_text())
        assert (config["preset"], config["task"]) == ("quick", "my-reach-v0")
        assert config["agent_config"]["flow"]["name"] == "my-maf"
        assert "own_task" not in config
        acts_again(run)
        assert registry.find("agents", "my-neighbours").__name__ == "NeighboursConfig"


def test_a_task_brings_its_data(lab, tmp_path):
    (tmp_path / "brought.py").write_text(
        "import dataclasses\nfrom my_lab.tasks import REACH\n"
        f"TASK = dataclasses.replace(REACH, name='brought', dataset='npz:{lab / 'reach.npz'}')\n"
    )
    run = train("my_lab.agents:MyBCConfig", "brought:TASK")
    assert json.loads((run / "config.json").read_text())["own_task"]["name"] == "brought"
    assert (run / "result.json").is_file()


def test_clashes_and_broken_packages_are_said_in_a_line(tmp_path, capsys):
    info = tmp_path / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[nfrl.agents]\nnf-bc = other.agents:Mine\n[nfrl.flows]\nbroken = other.flows:Flow\n"
        "[nfrl.tasks]\nogbench = other.tasks:TASKS\n"
    )
    with pages.importable(tmp_path):
        with pytest.raises(UserError, match=r"nf-bc is announced twice, as nfrl.*other\.agents"):
            find_config("nf-bc")
        with pytest.raises(UserError, match="other announces broken = other"):
            registry.find("flows", "broken")
        assert main(["tasks"]) == 2
        assert "other announces ogbench = other.tasks:TASKS" in capsys.readouterr().err


def test_a_tasks_name_is_looked_up_once(installed, monkeypatch, tmp_path):
    """From the command line on the task is a value."""
    monkeypatch.chdir(tmp_path)
    asked = []
    find = registry.find_in_mappings

    def counted(kind, name):
        asked.append((kind, name))
        return find(kind, name)

    monkeypatch.setattr(registry, "find_in_mappings", counted)
    with pages.importable(installed):
        train("my-bc", "my-reach-v0", "--data", installed / "reach.csv")
    assert asked == [("tasks", "my-reach-v0")]


# The wrappers that a configuration names

SMALL = {
    "hidden": (8,),
    "critic": (8,),
    "encoder": (8,),
    "condition_dim": 4,
    "flow": RealNVPConfig(1, 4),
    "width": 8,
}
WRAPPED = [
    name
    for name in registry.names("agents")
    if isinstance(find_config(name), AgentOptions) and not find_config(name).capabilities.explores
]


def small(name):
    config = find_config(name)
    fields = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{k: v for k, v in SMALL.items() if k in fields})


def test_all_agents_of_goals_and_of_rewards_have_the_options():
    of_goals = {"nf-gcbc", "gcbc", "fm-gcbc", "gcivl", "gciql", "qrl", "crl", "hiql"}
    of_rewards = {"nf-rlbc", "bc", "rebrac", "iql", "ifql", "idql", "fql"}
    assert set(WRAPPED) == of_goals | of_rewards


@pytest.mark.parametrize("name", WRAPPED)
def test_options_are_wrappers(name):
    """``Config(chunk=5, standardize=True, goal_columns=(0, 1))`` builds what the wrappers build."""
    rng = np.random.default_rng(0)
    rows = 40
    data = Dataset.from_arrays(
        rng.normal(3, 2, (rows, 4)),
        rng.uniform(-1, 1, (rows, 2)),
        np.arange(rows) % 20 == 19,
        rng.normal(size=rows),
        np.ones(rows),
    )
    plain, spec = small(name), Spec.vectors(4, 2)
    options, config = {"chunk": 5, "standardize": True}, Standardize(plain)
    if isinstance(plain, GoalOptions):
        options |= {"goal_columns": (0, 1)}
        config = ShowGoals(config, (0, 1))
    named = dataclasses.replace(plain, **options)
    config = Chunk(config, 5)
    assert named.capabilities == config.capabilities
    ours, theirs = (each.build(jr.key(0), spec, 10, data) for each in (named, config))
    assert layers(ours) == layers(theirs)
    same(ours, theirs)
    around = ["Chunked", "PartialGoals", "Standardized"]
    if not isinstance(plain, GoalOptions):
        around.remove("PartialGoals")
    assert [kind.__name__ for kind in layers(ours)][:-1] == around
    batches = [each.draw(data, jr.key(1), 8) for each in (ours, theirs)]
    assert batches[0].actions.shape == (8, 10)
    same(*batches)
    seen, goal = np.ones(4, np.float32), np.full(4, 2, np.float32)
    chosen = [np.asarray(each.act(seen, goal, jr.key(2))) for each in (ours, theirs)]
    assert chosen[0].shape == (5, 2)
    np.testing.assert_array_equal(*chosen)


def layers(agent):
    """The types of an agent and of those within, from the outside."""
    found = [type(agent)]
    while hasattr(agent, "agent"):
        agent = agent.agent
        found.append(type(agent))
    return found


def same(ours, theirs):
    """Assert that two trees have the same arrays at the same places."""
    first, second = (
        jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
        for tree in (ours, theirs)
    )
    assert [path for path, _ in first] == [path for path, _ in second]
    for (_, one), (_, other) in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
