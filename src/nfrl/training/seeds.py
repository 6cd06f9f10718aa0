"""Several seeds at once: their keys, their agents stacked along a first axis, their checkpoints."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder


def stack(trees: Sequence[Any]) -> Any:
    """Stack one tree a seed along a new first axis."""
    return jax.tree.map(
        lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *trees
    )


def take(trees: Any, index: int) -> Any:
    """Return one seed's tree out of a stack; on the first device, if it is spread over several."""

    def taken(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        one = leaf[index]
        return one if len(leaf.devices()) == 1 else jax.device_put(one, jax.devices()[0])

    return jax.tree.map(taken, trees)


def seed_keys(seeds: Sequence[int]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Return each seed's key for the initial weights, and its key for the updates."""
    keys = jnp.stack([jr.split(jr.key(seed)) for seed in seeds])
    return keys[:, 0], keys[:, 1]


def latest_step(runs: Sequence[RunFolder]) -> int:
    """Return the latest step that every seed has a checkpoint of; 0 if there is none."""
    found = [set(checkpoints.steps_in(run.checkpoints)) for run in runs]
    return max(set.intersection(*found), default=0)


def restore(runs: Sequence[RunFolder], stacked: Any) -> tuple[Any, int]:
    """Return what stands in the runs' latest common checkpoint, and its step; or what was given."""
    step = latest_step(runs)
    if step == 0:
        return stacked, 0
    loaded = [
        checkpoints.load(checkpoints.path_of(run.checkpoints, step), take(stacked, i))
        for i, run in enumerate(runs)
    ]
    return stack(loaded), step


def save(runs: Sequence[RunFolder], stacked: Any, step: int, keep: int) -> None:
    """Write every seed's checkpoint, and only then forget the oldest."""
    for i, run in enumerate(runs):
        checkpoints.save(checkpoints.path_of(run.checkpoints, step), take(stacked, i), step=step)
    for run in runs:
        for path in list(checkpoints.steps_in(run.checkpoints).values())[:-keep]:
            path.unlink()
