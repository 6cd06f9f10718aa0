"""Several devices: seeds over them, and each seed's batches over those that are left.

Where devices outnumber seeds, each seed has several. They hold the same weights, take a part of
every batch each, and add up their gradients. What is learned is that of one device, but for the
order in which numbers are added.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from nfrl.errors import UserError

SEEDS, BATCH = "seeds", "batch"


def mesh_of(devices: int, seeds: int, batch_size: int | None = None) -> Mesh | None:
    """Lay out devices for so many seeds; None for one device.

    Args:
        devices: How many.
        seeds: How many train at once.
        batch_size: Of each seed; None where a seed cannot be shared out.

    Raises:
        UserError: There are not so many, or they cannot share the work evenly.
    """
    if devices == 1:
        return None
    if devices > jax.device_count():
        raise UserError(
            f"{devices} devices are asked for, but JAX has {jax.device_count()} here "
            f"({jax.default_backend()}); a CPU counts as several with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}"
        )
    groups = math.gcd(devices, seeds)
    parts = devices // groups
    if batch_size is None and parts > 1:
        raise UserError(
            f"{seeds} seeds cannot be shared out over {devices} devices: give {groups} devices, or "
            f"a multiple of {devices} seeds"
        )
    if batch_size is not None and batch_size % parts:
        raise UserError(
            f"a batch of {batch_size} cannot be shared out over {parts} devices a seed: give a "
            f"multiple of {parts}"
        )
    return jax.make_mesh(
        (groups, parts),
        (SEEDS, BATCH),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.devices()[:devices],
    )


def room() -> int:
    """Return how many bytes the device has for data and all else; a CPU has the host's memory."""
    limits = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in limits:
        return int(limits["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def place_of_seeds(mesh: Mesh | None) -> NamedSharding | None:
    """Return where arrays lie that are stacked along the seeds; None for the only device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(SEEDS))


def spread(stacked: Any, mesh: Mesh | None) -> Any:
    """Put the arrays that are stacked along the seeds on their devices."""
    return stacked if mesh is None else _put(stacked, place_of_seeds(mesh))


def copied(tree: Any, mesh: Mesh | None) -> Any:
    """Put a copy of each array on every device."""
    return tree if mesh is None else _put(tree, NamedSharding(mesh, PartitionSpec()))


def _put(tree: Any, where: NamedSharding | None) -> Any:
    return jax.tree.map(lambda x: jax.device_put(x, where) if eqx.is_array(x) else x, tree)


def over_seeds(function: Callable, stacked: Any, shared: Any, mesh: Mesh | None = None) -> Any:
    """Apply a function of (share, shared) to each seed's share: in a compiled function.

    On an accelerator the seeds of a device go side by side, on a CPU in turn: a CPU gains nothing
    from batching the products of different weights, so there every seed has all cores for its share
    of the updates.
    """

    def on_one(stacked: Any, shared: Any) -> Any:
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda share: function(share, shared), stacked)
        return jax.vmap(lambda share: function(share, shared))(stacked)

    if mesh is None:
        return on_one(stacked, shared)
    of_seeds = PartitionSpec(SEEDS)
    return jax.shard_map(
        on_one,
        mesh=mesh,
        in_specs=(of_seeds, PartitionSpec()),
        out_specs=of_seeds,
        axis_names={SEEDS},
        check_vma=False,
    )(stacked, shared)


def share_out(batch: Any, mesh: Mesh | None) -> Any:
    """Give each of a seed's devices its part of a batch, within :func:`over_seeds`."""
    if mesh is None or mesh.shape[BATCH] == 1:
        return batch
    # Within the seeds' part of the mesh only the batch's is left to lay out.
    where = NamedSharding(jax.sharding.get_abstract_mesh(), PartitionSpec(BATCH))
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, where), batch)
