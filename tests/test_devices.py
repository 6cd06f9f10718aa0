"""Several devices: a CPU counted as eight. What is learned is what one device learns."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest
from test_streamed import random_trajectories

from nfrl.agents.gcbc import GCBCConfig
from nfrl.errors import UserError
from nfrl.runs.folder import RunFolder
from nfrl.training.devices import BATCH, SEEDS, mesh_of
from nfrl.training.offline import OfflineTraining, train
from nfrl.training.seeds import stack
from nfrl.training.updates import compile_updates

DATA = random_trajectories((30,) * 10, rewards=False)
AGENT = GCBCConfig(hidden=(16,))


def trained(root, seeds, devices, stream=False):
    training = OfflineTraining(
        **{"steps": 20, "batch_size": 32, "log_every": 10, "checkpoint_every": 10},
        validation_batches=2,
        devices=devices,
    )
    runs = [RunFolder(root / f"seed-{seed}") for seed in seeds]
    data = DATA.to_dataset(stream=stream)
    return train(runs, seeds, AGENT, DATA.spec, training, data, data), runs


def assert_close(ours, theirs) -> None:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for one, other in pairs:
        if eqx.is_inexact_array(one):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("one"), (0, 1), 1)


@pytest.mark.parametrize(("devices", "stream"), [(2, False), (8, False), (4, True)])
def test_several_devices_learn_what_one_learns(alone, tmp_path, devices, stream):
    agents, runs = trained(tmp_path, (0, 1), devices, stream)
    assert_close(agents, alone[0])
    for ours, theirs in zip(runs, alone[1], strict=True):
        for line, other in zip(ours.read_metrics(), theirs.read_metrics(), strict=True):
            assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
            assert line["val_log_prob"] == pytest.approx(other["val_log_prob"], rel=1e-5)
    # What is handed on acts on one device, as any agent does.
    assert all(
        len(leaf.devices()) == 1 for leaf in jax.tree.leaves(eqx.filter(agents, eqx.is_array))
    )


def test_a_run_goes_on_on_another_number_of_devices(alone, tmp_path):
    _, runs = trained(tmp_path, (0, 1), 8)
    for run in runs:
        (run.checkpoints / "step-00000020.safetensors").unlink()
    agents, _ = trained(tmp_path, (0, 1), 1)
    assert_close(agents, alone[0])


def test_each_device_works_on_its_share():
    """Of the weights each device holds its seeds', and of a product the batch's share of rows."""
    training = OfflineTraining(batch_size=32, devices=8)
    agents = stack([AGENT.build(jr.key(seed), DATA.spec, 10) for seed in (0, 1)])
    keys = jr.split(jr.key(0), 2)
    learned, _ = compile_updates(agents, DATA.to_dataset(), training)(agents, keys, 0, 2)
    weights = max(jax.tree.leaves(eqx.filter(learned, eqx.is_inexact_array)), key=lambda x: x.size)
    assert {shard.data.shape for shard in weights.addressable_shards} == {(1, *weights.shape[1:])}
    assert len(weights.addressable_shards) == 8


def test_devices_are_shared_out_among_the_seeds():
    for devices, seeds, shape in ((8, 8, (8, 1)), (8, 2, (2, 4)), (6, 4, (2, 3)), (2, 3, (1, 2))):
        mesh = mesh_of(devices, seeds, 48)
        assert mesh is not None
        assert (mesh.shape[SEEDS], mesh.shape[BATCH]) == shape
    assert mesh_of(1, 5, 7) is None


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(UserError, match="JAX has 8 here"):
        mesh_of(9, 1, 9)
    with pytest.raises(UserError, match="a batch of 30 cannot be shared out over 4 devices a seed"):
        mesh_of(8, 2, 30)
    with pytest.raises(UserError, match="2 seeds cannot be shared out over 8 devices: give 2"):
        mesh_of(8, 2)
    with pytest.raises(UserError, match="devices must be at least 1"):
        OfflineTraining(devices=0)
