"""Training: every bit from the seed and the step, nothing lost, nothing bad kept."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from conftest import COMPILATION_CACHE, write_data

from nfrl.agents import FMGCBCConfig, GCBCConfig, NFGCBCConfig
from nfrl.cli.main import main
from nfrl.data.dataset import Dataset
from nfrl.data.formats.ogbench import validation_path
from nfrl.data.samplers import sample_goals
from nfrl.errors import UserError
from nfrl.flows import RealNVPConfig
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training.loop import FINITE_UPDATES, NonFiniteLossError
from nfrl.training.offline import (
    OfflineTraining,
    load_agent,
    train,
)
from nfrl.training.seeds import latest_step, seed_keys, take
from nfrl.training.updates import batch_key, compile_updates, update_key

SPEC = Spec.vectors(2, 2)
MAZE = "pointmaze-medium-navigate-v0"
AGENTS = {
    "nf-gcbc": NFGCBCConfig(
        flow=RealNVPConfig(blocks=1, channels=8), encoder=(16,), condition_dim=8
    ),
    "gcbc": GCBCConfig(hidden=(16,)),
    "fm-gcbc": FMGCBCConfig(hidden=(16,), euler_steps=2),
}
TRAINING = OfflineTraining(
    steps=30, batch_size=16, log_every=5, checkpoint_every=10, validation_batches=2
)


class Killed(Exception):
    """Stands in for what ends a process between two chunks."""


@pytest.fixture(scope="module")
def data(point_file) -> Dataset:
    return Dataset.from_file(point_file)


@pytest.fixture(scope="module")
def held_out(point_file) -> Dataset:
    return Dataset.from_file(validation_path(point_file))


def folders(root: Path, seeds) -> list[RunFolder]:
    return [RunFolder(root / f"seed-{seed}") for seed in seeds]


def weights(run: RunFolder) -> dict[int, bytes]:
    return {step: path.read_bytes() for step, path in checkpoints.steps_in(run.checkpoints).items()}


def metrics_with_time(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def metrics(run: RunFolder) -> list[dict]:
    lines = metrics_with_time(run)
    for line in lines:
        assert line.pop("seconds") >= 0
    return lines


def assert_same_runs(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert list(weights(one)) == list(weights(other))
        assert weights(one) == weights(other), "checkpoints differ"
        assert metrics(one) == metrics(other)


def stop_at(step: int):
    def report(done: int, _: dict[str, float]) -> None:
        if done == step:
            raise Killed

    return report


# To the bit


def test_resume_is_equal_to_the_bit_as_users_compile():
    """In a process of its own: with the tests' quick emitters a seed alone has other bits."""
    words = (
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-o",
        "python_functions=check_*",
    )
    done = subprocess.run(
        [sys.executable, *words, __file__],
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(AGENTS)} passed" in done.stdout


@pytest.mark.parametrize("agent", AGENTS)
def check_resume_is_equal_to_the_bit(agent, data, held_out, tmp_path):
    common = (AGENTS[agent], SPEC, TRAINING, data, held_out)
    seeds = (0, 1, 2)
    whole, broken = folders(tmp_path / "whole", seeds), folders(tmp_path / "broken", seeds)
    train(whole, seeds, *common)
    assert list(weights(whole[0])) == [20, 30]
    assert len({weights(run)[30] for run in whole}) == 3, "seeds differ"
    # At a checkpoint, and then past one, with metrics that the checkpoint knows nothing of.
    for step in (10, 25):
        with pytest.raises(Killed):
            train(broken, seeds, *common, stop_at(step))
        assert metrics(broken[0])[-1]["step"] == step
    train(broken, seeds, *common)
    assert_same_runs(broken, whole)
    if jax.default_backend() == "cpu":
        # Seeds train in turn there, and what one comes to does not depend on its company.
        alone = folders(tmp_path / "alone", (1,))
        with pytest.raises(Killed):
            train(alone, (1,), *common, stop_at(25))
        train(alone, (1,), *common)
        assert_same_runs(alone, whole[1:2])


def test_a_last_chunk_may_be_short_and_a_finished_run_is_left_alone(data, held_out, tmp_path):
    training = dataclasses.replace(TRAINING, steps=13, keep=1)
    runs = folders(tmp_path, (0,))
    arguments = ((0,), AGENTS["gcbc"], SPEC, training, data, held_out)
    train(runs, *arguments)
    assert [line["step"] for line in metrics(runs[0])] == [5, 10, 13]
    before = weights(runs[0]), runs[0].metrics_file.read_bytes()
    assert list(before[0]) == [13]
    (again,) = train(runs, *arguments, stop_at(13))
    assert before == (weights(runs[0]), runs[0].metrics_file.read_bytes())
    loaded = load_agent(runs[0], AGENTS["gcbc"], SPEC, 13)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, loaded.policy, again.policy))


def test_a_checkpoint_that_not_every_seed_has_is_not_gone_on_from(data, held_out, tmp_path):
    seeds = (0, 1, 2)
    arguments = (seeds, AGENTS["gcbc"], SPEC, TRAINING, data, held_out)
    whole, broken = folders(tmp_path / "whole", seeds), folders(tmp_path / "broken", seeds)
    train(whole, *arguments)
    with pytest.raises(Killed):
        train(broken, *arguments, stop_at(20))
    # Killed between two seeds' files of step 20.
    checkpoints.path_of(broken[1].checkpoints, 20).unlink()
    assert latest_step(broken) == 10
    train(broken, *arguments)
    assert_same_runs(broken, whole)


# The updates


@eqx.filter_jit
def plain_update(agent, data: Dataset, key, step, training: OfflineTraining):
    """One step of training, on its own."""
    batch_key, update_key = jr.split(jr.fold_in(key, step))
    batch = sample_goals(data, batch_key, training.batch_size, agent.config.discount)
    return agent.update(batch, update_key)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_compiled_chunk_is_a_plain_loop_of_updates(agent, data, held_out):
    single = AGENTS[agent].build(jr.key(0), SPEC, TRAINING.steps)
    stacked = jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, single)
    keys = jr.split(jr.key(7), 1)
    each = []
    for step in range(10, 15):
        single, values = plain_update(single, data, keys[0], jnp.asarray(step), TRAINING)
        each.append(values)
    means = jax.tree.map(lambda *leaves: np.mean(leaves), *each)
    stacked, values = compile_updates(stacked, data, TRAINING, held_out)(stacked, keys, 10, 5)
    assert values[FINITE_UPDATES][0] == 5
    for name, mean in means.items():
        np.testing.assert_allclose(values[name][0], mean, rtol=1e-4, err_msg=name)
    ours, theirs = (eqx.filter(end, eqx.is_inexact_array) for end in (take(stacked, 0), single))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_no_key_is_used_twice():
    init, updates = seed_keys((0, 1))
    step_keys = [make(key, step) for make in (batch_key, update_key)
                 for key in updates for step in range(3)]  # fmt: skip
    rows = {tuple(np.asarray(jr.key_data(key)).tolist()) for key in (*init, *updates, *step_keys)}
    assert len(rows) == 2 + 2 + 12


# Processes that end


def command(run_root: Path, file: Path, *, seeds=("0",)) -> list[str]:
    return [
        *("train", "gcbc", MAZE, "--dataset", str(file), "--runs", str(run_root)),
        *("--episodes", "0", "--agent.hidden", "16", "--seeds", *seeds, "--steps", "1000"),
        *("--training.log-every", "10", "--training.checkpoint-every", "20"),
        *("--training.batch-size", "16", "--training.validation-batches", "1"),
    ]


def runs_below(root: Path, seeds=("0",)) -> list[RunFolder]:
    return folders(root / MAZE / "gcbc-laptop", seeds)


def start(arguments: list[str]) -> subprocess.Popen:
    # It compiles for itself, as a user's would: the same bits must come of it.
    environment = {key: value for key, value in os.environ.items() if key not in COMPILATION_CACHE}
    return subprocess.Popen(
        [sys.executable, "-m", "nfrl.cli.main", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_checkpoint(process: subprocess.Popen, run: RunFolder, after: int = 0) -> None:
    end = time.monotonic() + 120
    while max(checkpoints.steps_in(run.checkpoints), default=0) <= after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="module")
def uninterrupted(point_file, tmp_path_factory) -> list[RunFolder]:
    root = tmp_path_factory.mktemp("uninterrupted")
    assert main(command(root, point_file, seeds=("0", "1"))) == 0
    return runs_below(root, ("0", "1"))


@pytest.fixture(scope="module")
def killed(point_file, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("killed")
    process = start(command(root, point_file, seeds=("0", "1")))
    await_checkpoint(process, runs_below(root)[0])
    process.kill()
    process.communicate()
    assert not list(root.rglob("result.json"))
    return root


@pytest.mark.parametrize("damaged", [False, True], ids=["killed", "killed-and-damaged"])
def test_a_killed_run_resumes_to_the_same_bits(damaged, killed, uninterrupted, tmp_path):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    runs = runs_below(tmp_path, ("0", "1"))
    if damaged:
        # Half a line, as a kill leaves it. The whole ones up to a checkpoint come before it.
        with runs[0].metrics_file.open("ab") as file:
            file.write(b'{"step": 9')
        (runs[1].checkpoints / ".step-00000040.safetensors.ab12.tmp").write_bytes(b"half of one")
    assert main(["resume", str(runs[1].path)]) == 0
    assert_same_runs(runs, uninterrupted)
    for run in runs:
        result = run.read_result()
        assert (result.status, result.score, result.scores) == ("finished", None, ())


def test_ctrl_c_saves_and_says_how_to_go_on(killed, uninterrupted, tmp_path):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    runs = runs_below(tmp_path, ("0", "1"))
    process = start(["resume", str(runs[0].path)])
    await_checkpoint(process, runs[0], after=max(weights(runs[0])))
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"nfrl resume {runs[0].path}" in error
    assert "Traceback" not in error
    for run in runs:
        # Nothing of what was computed is lost.
        assert max(weights(run)) == metrics(run)[-1]["step"] < 1000
    assert main(["resume", str(runs[0].path)]) == 0
    assert_same_runs(runs, uninterrupted)


@contextlib.contextmanager
def room_in_a_file(size: int):
    """Limit the size of files: a write past it fails in the system, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full", ["checkpoint", "metrics"])
def test_a_full_disk_leaves_the_checkpoint_before(full, uninterrupted, tmp_path, capsys):
    shutil.copytree(uninterrupted[0].path.parent, tmp_path, dirs_exist_ok=True)
    runs = folders(tmp_path, ("0", "1"))
    for run in runs:
        checkpoints.path_of(run.checkpoints, 1000).unlink()
        (run.path / "result.json").unlink()
    before = [weights(run) for run in runs]
    run = runs[0]
    run.truncate_metrics(980)
    room = {
        "checkpoint": len(before[0][980]) - 100,
        "metrics": run.metrics_file.stat().st_size + 100,
    }[full]
    with room_in_a_file(room):
        assert main(["resume", str(run.path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nfrl: ")
    assert "could not write" in error
    assert [weights(run) for run in runs] == before
    assert not list(tmp_path.rglob(".*.tmp"))
    assert main(["resume", str(run.path)]) == 0
    assert_same_runs(runs, uninterrupted)


# Losses that are not finite


@pytest.fixture(scope="module")
def poisoned_file(tmp_path_factory) -> Path:
    """One observation that is finite, and whose square is not."""
    observations = np.random.default_rng(5).uniform(0, 20, size=(200, 2)).astype(np.float32)
    observations[17] = 1e30
    path = tmp_path_factory.mktemp("poisoned") / "point.npz"
    return write_data(path, observations=observations)


def first_bad_step(seed: int, config, training: OfflineTraining, data: Dataset) -> int:
    """Find it the slow way: one update after another."""
    init, key = jr.split(jr.key(seed))
    agent = config.build(init, SPEC, training.steps)
    for step in range(training.steps):
        agent, values = plain_update(agent, data, key, jnp.asarray(step), training)
        if not np.isfinite([values["loss"], values["grad_norm"]]).all():
            return step
    return training.steps


def test_a_loss_that_is_not_finite_stops_the_run(poisoned_file, tmp_path):
    data = Dataset.from_file(poisoned_file)
    held_out = Dataset.from_file(validation_path(poisoned_file))
    training = dataclasses.replace(TRAINING, steps=60, batch_size=2, checkpoint_every=5)
    config = AGENTS["gcbc"]
    bad = {seed: first_bad_step(seed, config, training, data) for seed in range(12)}
    # One that has a good checkpoint before, and does not fail at the start of a chunk.
    seed, step = next((s, b) for s, b in bad.items() if 5 < b < 60 and b % 5 in (1, 2, 3))
    other = max(bad, key=lambda s: bad[s])
    assert bad[other] > step, "another seed trains on past it"
    runs = folders(tmp_path, (other, seed))
    with pytest.raises(NonFiniteLossError) as caught:
        train(runs, (other, seed), config, SPEC, training, data, held_out)
    message = str(caught.value)
    good = step // 5 * 5
    assert f"seed {seed}: the loss of step {step} is not finite" in message
    assert str(checkpoints.path_of(runs[1].checkpoints, good)) in message
    assert "1e+30" in message
    assert all(name in message for name in ("observations", "actions", "goals"))
    assert "\n" not in message
    for run in runs:
        assert max(weights(run)) == good == metrics(run)[-1]["step"]
        policy = load_agent(run, config, SPEC, 60).policy
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(policy)
                   if eqx.is_array(leaf))  # fmt: skip
    before = [weights(run) for run in runs], [run.metrics_file.read_bytes() for run in runs]
    with pytest.raises(NonFiniteLossError, match=f"step {step} is"):
        train(runs, (other, seed), config, SPEC, training, data, held_out)
    assert before == ([weights(run) for run in runs],
                      [run.metrics_file.read_bytes() for run in runs])  # fmt: skip


def test_a_diverged_run_is_recorded_as_such(point_file, tmp_path, capsys):
    far_too_high = ("--agent.optimizer.learning-rate", "1e12")
    assert main([*command(tmp_path, point_file), *far_too_high]) == 2
    (run,) = runs_below(tmp_path)
    error = capsys.readouterr().err
    # The first update's rate is zero, the second's 1e10: the third has a loss past all numbers.
    assert error.splitlines()[-1].startswith("nfrl: seed 0: the loss of step 2 is not finite")
    assert "last good checkpoint: none yet" in error
    assert "Traceback" not in error
    result = run.read_result()
    assert result.seed == 0
    assert result.status == "diverged"
    assert result.score is None
    assert result.steps_per_second is None, "no rate of steps that were not made"
    json.loads((run.path / "result.json").read_text(), parse_constant=pytest.fail)


# Checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    agent = AGENTS["gcbc"].build(jr.key(0), SPEC, 10)
    path = tmp_path_factory.mktemp("saved") / "step-00000010.safetensors"
    checkpoints.save(path, agent, step=10)
    return agent, path


def test_a_checkpoint_holds_every_array(saved, tmp_path):
    agent, path = saved
    other = AGENTS["gcbc"].build(jr.key(1), SPEC, 10)
    loaded = checkpoints.load(path, other)
    assert eqx.tree_equal(loaded, agent)
    assert not eqx.tree_equal(other, agent)
    shapes = eqx.filter_eval_shape(lambda: AGENTS["gcbc"].build(jr.key(1), SPEC, 10))
    assert eqx.tree_equal(checkpoints.load(path, shapes), agent)
    assert eqx.tree_equal(checkpoints.load(path, {"policy": None}), {"policy": None})
    for attempt in range(8):
        checkpoints.save(tmp_path / f"{attempt}", agent, step=10)
        assert (tmp_path / f"{attempt}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("left", [0, 5, 200, -1])
def test_a_checkpoint_cut_short_is_named(left, saved, tmp_path):
    agent, path = saved
    short = tmp_path / path.name
    short.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match="not a whole checkpoint") as caught:
        checkpoints.load(short, agent)
    assert str(short) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [1, 300, 700])
def test_a_checkpoint_with_a_flipped_bit_is_named(place, saved, tmp_path):
    agent, path = saved
    spoiled = tmp_path / path.name
    data = bytearray(path.read_bytes())
    data[-place] ^= 4  # among the weights, which stand last
    spoiled.write_bytes(data)
    with pytest.raises(UserError, match=f"{path.name}: damaged: array .* is not what was written"):
        checkpoints.load(spoiled, agent)


def test_what_does_not_fit_is_named(saved, tmp_path):
    _, path = saved
    wider = GCBCConfig(hidden=(17,)).build(jr.key(0), SPEC, 10)
    with pytest.raises(UserError, match=r"policy.layers\[0\].*float32\[.*needs float32\[.*17"):
        checkpoints.load(path, wider)
    deeper = GCBCConfig(hidden=(16, 16)).build(jr.key(0), SPEC, 10)
    with pytest.raises(UserError, match=r"policy.layers"):
        checkpoints.load(path, deeper)
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoints.load(tmp_path / "none.safetensors", deeper)
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_agent(RunFolder(tmp_path), AGENTS["gcbc"], SPEC, 10)


# Values that make no sense


@pytest.mark.parametrize(
    ("values", "word"),
    [
        *(
            ({name: 0}, name.replace("_", "-"))
            for name in ("steps", "batch_size", "log_every", "keep")
        ),
        ({"checkpoint_every": 1500}, "multiple of log-every"),
        ({"checkpoint_every": 0}, "checkpoint-every"),
        ({"checkpoint_every": -1000}, "checkpoint-every"),
        ({"validation_batches": 0}, "validation-batches"),
        ({"evaluate_every": 1500}, "multiple of log-every"),
        ({"evaluate_every": -1000}, "evaluate-every"),
    ],
)
def test_bad_values_are_refused(values, word):
    with pytest.raises(UserError, match=word):
        OfflineTraining(**values)


@pytest.mark.parametrize("discount", [1.0, -0.1])
@pytest.mark.parametrize("config", AGENTS.values(), ids=AGENTS)
def test_a_discount_outside_its_range_is_refused(config, discount):
    with pytest.raises(UserError, match="discount"):
        dataclasses.replace(config, discount=discount)


# The learning curve


def test_evaluations_on_the_way_are_recorded_and_take_no_training_time(data, held_out, tmp_path):
    run = RunFolder(tmp_path)
    training = dataclasses.replace(TRAINING, evaluate_every=10)
    steps = []

    def evaluate(index, agent):
        time.sleep(1)
        assert index == 0
        steps.append(int(agent.optimizer_state[1][0].count))
        return {"score": len(steps) / 10}

    train([run], (0,), AGENTS["gcbc"], SPEC, training, data, held_out, evaluate=evaluate)
    assert steps == [10, 20, 30]
    curve = run.read_curve()
    assert [(point["step"], point["score"]) for point in curve] == [(10, 0.1), (20, 0.2), (30, 0.3)]
    later = [line["seconds"] for line in metrics_with_time(run)][2:]
    assert later[-1] - later[0] < 1, "the evaluation at step 20 counts as training"
