"""Data on the host: the same batches as from the device, whatever is drawn, and the same agents."""

import dataclasses
import itertools
import shutil
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.agents.gcbc import GCBCConfig
from nfrl.agents.parts.optimization import AdamW
from nfrl.data import samplers, streamed, trajectories
from nfrl.data.packed import pack
from nfrl.data.trajectories import Trajectories
from nfrl.errors import UserError
from nfrl.experiment import data as experiment_data
from nfrl.runs.folder import RunFolder
from nfrl.spec import ActionSpec, ArraySpec, Spec
from nfrl.training import offline
from nfrl.training.offline import OfflineTraining, to_datasets, train
from nfrl.training.prefetch import Fetch, Prefetch

AGENT = GCBCConfig(hidden=(8,))
GOALS = samplers.GoalMixture(0.2, 0.3)
DRAW = {
    "pairs": partial(samplers.sample_pairs, chunk=3),
    "transitions": samplers.sample_transitions,
    "chunk transitions": partial(samplers.sample_chunk_transitions, chunk=4, discount=0.9),
    "goals": partial(samplers.sample_goals, discount=0.9, chunk=2),
    "uniform goals": partial(samplers.sample_goals, discount=0.9, ahead="uniform"),
    "goal transitions": partial(
        samplers.sample_goal_transitions,
        **{"discount": 0.9, "value_goals": GOALS, "actor_goals": GOALS, "steps_ahead": 3},
    ),
    "waypoints": partial(
        samplers.sample_waypoints, steps_ahead=3, discount=0.9, same=0.2, random=0.3
    ),
    "waypoints before jumps": partial(
        samplers.sample_waypoints,
        **{"steps_ahead": 3, "discount": 0.9, "same": 0.2, "random": 0.3, "jump": ((0, 1), 1.0)},
    ),
    "rewarded waypoints": partial(
        samplers.sample_waypoints,
        **{"steps_ahead": 3, "discount": 0.9, "same": 0.2, "random": 0.3, "rewarded": True},
    ),
    "chunks": partial(samplers.sample_chunks, history=3, chunk=4),
}


def random_trajectories(lengths, *, finals=True, rewards=True, seed=0) -> Trajectories:
    rng, rows, count = np.random.default_rng(seed), sum(lengths), len(lengths)
    further = {}
    if rewards:
        further = {"rewards": rng.normal(size=rows), "masks": rng.integers(0, 2, rows)}
    if finals:
        further["final_observations"] = rng.normal(size=(count, 3))
        further["final_rows"] = {"actions": rng.uniform(-1, 1, (count, 2)).astype(np.float32)}
    return Trajectories.from_arrays(
        rng.normal(size=(rows, 3)), rng.uniform(-1, 1, (rows, 2)), np.cumsum(lengths), **further
    )


def same(one, other) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def of(step):
    return jr.fold_in(jr.key(0), step)


def drawn(data, draw):
    """Draw three batches of streamed data: ask for their rows, fetch them, and make the batches."""
    fetch = Fetch(lambda key, step: draw(data, jr.fold_in(key, step), 512))
    rows = [each[0] for each in fetch(jr.key(0)[None], jnp.arange(3))]

    def made(step, rows):
        with streamed.answering(rows):
            return draw(data, of(step), 512)

    return jax.jit(jax.vmap(made))(jnp.arange(3), rows)


@pytest.mark.parametrize("finals", [True, False])
@pytest.mark.parametrize("name", DRAW)
def test_batches_have_the_bits_of_the_devices(name, finals):
    given = random_trajectories((7, 1, 12, 4), finals=finals)
    here, there = given.to_dataset(), given.to_dataset(stream=True)
    same(drawn(there, DRAW[name]), jax.vmap(lambda i: DRAW[name](here, of(i), 512))(jnp.arange(3)))


@pytest.mark.parametrize("lengths", [(1,), (5,), (1, 1, 1), (3, 1, 4, 1, 5), (9, 2)])
def test_rows_are_those_of_the_device(lengths):
    given = random_trajectories(lengths)
    here, there = given.to_dataset(), given.to_dataset(stream=True)
    rows = np.arange(len(here.first))
    for name in ("first", "last", "observations", "actions", "rewards", "masks"):
        same(getattr(there, name)[rows], getattr(here, name))
    same(there.transitions[np.arange(given.transitions)], here.transitions)
    assert len(there.transitions) == len(here.transitions)
    assert there.observations.shape == here.observations.shape


def test_images_stay_bytes_until_a_batch_is_drawn():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    rows = pack([rng.normal(size=(20, 2)), images])
    observation = {"place": ArraySpec((2,)), "image": ArraySpec((4, 4, 3), "uint8")}
    spec = Spec(observation, ActionSpec.unit(2))
    given = Trajectories(rows, rng.uniform(-1, 1, (20, 2)), np.array([9, 20]), spec)
    draw = partial(samplers.sample_chunks, history=2, chunk=3)
    there = given.to_dataset(stream=True)
    expected = jax.vmap(lambda i: draw(given.to_dataset(), of(i), 512))(jnp.arange(3))
    same(drawn(there, draw), expected)
    # Until then they are bytes.
    fetched = Fetch(lambda key, step: draw(there, jr.fold_in(key, step), 512))
    assert fetched(jr.key(0)[None], jnp.arange(3))[0].dtype == np.uint8


def test_an_agent_is_built_with_whole_trajectories_evenly_spaced(monkeypatch):
    given = random_trajectories((5,) * 40, rewards=False)
    whole = given.to_dataset(stream=True).excerpt()
    same(dataclasses.asdict(whole), dataclasses.asdict(given.to_dataset()))
    monkeypatch.setattr(trajectories, "EXCERPT_BYTES", given.bytes / 4)
    part = given.to_dataset(stream=True).excerpt()
    assert len(part.transitions) == 50
    every_fourth = given.observations.reshape(40, 5, 3)[::4]
    np.testing.assert_array_equal(part.observations.reshape(10, 6, 3)[:, :5], every_fourth)


@pytest.mark.parametrize("block_bytes", [1, 10_000, 10**9])
def test_prefetched_blocks_are_what_their_steps_ask_for(monkeypatch, block_bytes):
    monkeypatch.setattr("nfrl.training.prefetch.BLOCK_BYTES", block_bytes)
    data = random_trajectories((50,) * 4).to_dataset(stream=True)

    def draw(key, step):
        return samplers.sample_pairs(data, jr.fold_in(key, step), 64)

    keys = jr.split(jr.key(0), 2)
    prefetch = Prefetch(draw, keys, 23, 10)
    # A row of three numbers and two, of 64 batches of 2 seeds, takes 2560 bytes.
    assert prefetch.block == {1: 1, 10_000: 3, 10**9: 10}[block_bytes]
    # A span is begun in its middle, as by a run that goes on.
    for begin, end in ((0, 10), (10, 20), (20, 23), (4, 10)):
        steps = []
        for first, (observations, actions) in prefetch.blocks(begin, end):
            count = len(actions[0])
            steps += range(first, first + count)
            for seed, i in itertools.product(range(2), range(count)):
                batch = draw(keys[seed], first + i)
                same(observations[seed, i], batch.observations)
                same(actions[seed, i].reshape(64, 2), batch.actions)
        assert steps == list(range(begin, end))


@pytest.fixture(scope="module")
def given() -> Trajectories:
    return random_trajectories((30,) * 10, rewards=False)


def trained(given, root, stream, agent=AGENT):
    training = OfflineTraining(
        **{"steps": 20, "batch_size": 16, "log_every": 10, "checkpoint_every": 10},
        validation_batches=2,
    )
    runs = [RunFolder(root / f"seed-{seed}") for seed in (0, 1)]
    here = given.to_dataset(stream=stream)
    agents = train(runs, [0, 1], agent, given.spec, training, here, here)
    return agents, [run.read_metrics() for run in runs]


def test_training_is_that_of_data_on_the_device(given, tmp_path, monkeypatch):
    monkeypatch.setattr("nfrl.training.prefetch.BLOCK_BYTES", 5_000)  # blocks of a few steps
    (ours, lines), (theirs, others) = (
        trained(given, tmp_path / str(stream), stream) for stream in (True, False)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if eqx.is_inexact_array(one):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for line, other in zip(lines[1], others[1], strict=True):
        assert line["val_log_prob"] == pytest.approx(other["val_log_prob"], rel=1e-5)
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_a_run_on_streamed_data_goes_on_with_the_same_bits(given, tmp_path):
    (agents, lines) = trained(given, tmp_path / "once", True)
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    for file in (tmp_path / "twice").rglob("step-00000020.safetensors"):
        file.unlink()
    (again, others) = trained(given, tmp_path / "twice", True)
    same(*(eqx.filter(each, eqx.is_array) for each in (agents, again)))
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in others[0]]


def test_data_are_streamed_where_they_would_fill_the_device(given, monkeypatch):
    data = experiment_data.load({"observations": given.observations, "actions": given.actions,
                                 "timeouts": np.arange(300) % 30 == 29})  # fmt: skip
    size = data.training.bytes + data.validation.bytes
    for room, is_streamed in ((2 * size, False), (2 * size - 1, True)):
        monkeypatch.setattr(offline, "room", lambda room=room: room)
        for part in to_datasets(data, None):
            assert isinstance(part, streamed.StreamedDataset) == is_streamed
    assert isinstance(to_datasets(data, False)[0], streamed.StreamedDataset) is False


def test_a_loss_gone_wrong_is_told_of_streamed_data_too(given, tmp_path):
    wild = GCBCConfig(hidden=(8,), optimizer=AdamW(learning_rate=1e30))
    with pytest.raises(UserError, match="its batch: observations in"):
        trained(given, tmp_path, True, agent=wild)


def test_indices_take_no_memory_but_a_number_a_trajectory():
    data = random_trajectories((1000,) * 3).to_dataset(stream=True)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(data, eqx.is_array)))
    assert held == 3 * 3 * 4
    assert jnp.issubdtype(data.first[np.arange(3)].dtype, jnp.int32)
