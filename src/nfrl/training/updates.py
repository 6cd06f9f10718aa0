"""Many updates as one compiled call, on data of the device or on rows that come from the host."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from nfrl.agents.parts.optimization import mean_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.streamed import StreamedDataset, answering
from nfrl.interfaces.agent import Agent
from nfrl.training.devices import copied, mesh_of, over_seeds, place_of_seeds, share_out, spread
from nfrl.training.loop import FINITE_UPDATES
from nfrl.training.prefetch import Fetch, Prefetch

if TYPE_CHECKING:
    from nfrl.training.offline import OfflineTraining


def compile_updates(
    agents: Agent, dataset: Dataset, training: "OfflineTraining", validation: Dataset | None = None
) -> Callable[[Agent, Array, int, int], tuple[Agent, dict[str, Array]]]:
    """Compile many updates into one call; the agents passed to it are consumed.

    Args:
        agents: Agents stacked along a first axis, one a seed.
        dataset: What to learn from.
        training: Batch size, and devices.
        validation: Held-out data, scored after the updates; None for none.

    Returns:
        A function of (agents, keys, step, count) that makes ``count`` updates from ``step`` on,
        and returns the agents and their metrics, averaged over the updates.
    """
    dynamic, static = eqx.partition(agents, eqx.is_array)
    mesh = mesh_of(training.devices, len(jax.tree.leaves(dynamic)[0]), training.batch_size)

    def draw(agent: Agent, data: Dataset, key: Array, step: Array) -> Any:
        return agent.draw(data, batch_key(key, step), training.batch_size)

    def updated(dynamic: Any, key: Array, steps: Array, rows: Any, data: Dataset) -> Any:
        """Make the updates of some steps; ``rows``: what their batches ask of streamed data."""

        def update(dynamic: Any, given: tuple[Array, Any]) -> tuple[Any, dict[str, Array]]:
            step, rows = given
            agent = eqx.combine(dynamic, static)
            with answering(rows):
                batch = draw(agent, data, key, step)
            agent, metrics = agent.update(share_out(batch, mesh), update_key(key, step))
            return eqx.filter(agent, eqx.is_array), metrics

        return jax.lax.scan(update, dynamic, (steps, rows))

    def measured(dynamic: Any, each: dict[str, Array], rows: Any, data: Dataset | None) -> Any:
        """Average the metrics of some updates, and score the agent that they led to."""
        metrics = mean_metrics(each)
        finite = jnp.isfinite(each["loss"]) & jnp.isfinite(each["grad_norm"])
        metrics[FINITE_UPDATES] = jnp.where(finite.all(), len(finite), jnp.argmin(finite))
        if data is None:
            return metrics

        def validate(given: tuple[Array, Any]) -> dict[str, Array]:
            i, rows = given
            agent = eqx.combine(dynamic, static)
            with answering(rows):
                batch = draw(agent, data, jr.key(0), i)
            return agent.validate(share_out(batch, mesh), update_key(jr.key(0), i))

        scores = jax.lax.map(validate, (jnp.arange(training.validation_batches), rows))
        return metrics | {f"val_{name}": value for name, value in mean_metrics(scores).items()}

    if isinstance(dataset, StreamedDataset):
        return _streamed(static, dataset, training, validation, mesh, draw, updated, measured)
    dataset, validation = copied(dataset, mesh), copied(validation, mesh)

    @partial(jax.jit, static_argnames="count", donate_argnames="dynamic")
    def advance(
        dynamic: Any, keys: Array, step: Array, count: int, data: Dataset, held_out: Dataset | None
    ) -> Any:
        def one(share: tuple[Any, Array], shared: Any) -> Any:
            step, data, held_out = shared
            dynamic, each = updated(*share, step + jnp.arange(count), None, data)
            return dynamic, measured(dynamic, each, None, held_out)

        return over_seeds(one, (dynamic, keys), (step, data, held_out), mesh)

    def call(agents: Agent, keys: Array, step: int, count: int) -> tuple[Agent, dict[str, Array]]:
        dynamic, keys = spread((eqx.filter(agents, eqx.is_array), keys), mesh)
        dynamic, metrics = advance(dynamic, keys, jnp.asarray(step), count, dataset, validation)
        return eqx.combine(dynamic, static), metrics

    return call


def _streamed(
    static: Agent,
    dataset: StreamedDataset,
    training: "OfflineTraining",
    validation: Dataset | None,
    mesh: Mesh | None,
    draw: Callable[..., Any],
    updated: Callable[..., Any],
    measured: Callable[..., Any],
) -> Callable[[Agent, Array, int, int], tuple[Agent, dict[str, Array]]]:
    """Compile updates as :func:`compile_updates` does, on rows that are fetched on the host.

    Args:
        static: The agents without their arrays: drawing needs none of them.
        dataset: What to learn from.
        training: Batch size.
        validation: Held-out data, streamed, too; or None.
        mesh: Of several devices.
        draw: Draws a batch.
        updated: Makes updates.
        measured: Averages their metrics, and scores the agents.
    """

    @partial(jax.jit, donate_argnames="dynamic")
    def advance(dynamic: Any, keys: Array, rows: Any, step: Array, data: Dataset) -> Any:
        def one(share: tuple[Any, Array, Any], shared: tuple[Array, Dataset]) -> Any:
            dynamic, key, rows = share
            step, data = shared
            return updated(dynamic, key, step + jnp.arange(len(rows[0])), rows, data)

        return over_seeds(one, (dynamic, keys, rows), (step, data), mesh)

    @jax.jit
    def measure(dynamic: Any, each: Any, rows: Any, data: Dataset | None) -> Any:
        def one(share: tuple[Any, Any], shared: Any) -> Any:
            return measured(*share, *shared)

        return over_seeds(one, (dynamic, each), (rows, data), mesh)

    held_out = None
    if validation is not None:
        # Its batches are always the same.
        fetch = Fetch(partial(draw, static, validation))
        fetched = fetch(jr.key(0)[None], jnp.arange(training.validation_batches))
        held_out = copied(tuple(jnp.asarray(each[0]) for each in fetched), mesh)
    # Drawing is the host's, training the devices'.
    placed, held_out_data = copied(dataset, mesh), copied(validation, mesh)
    prefetch: Prefetch | None = None

    def call(agents: Agent, keys: Array, step: int, count: int) -> tuple[Agent, dict[str, Array]]:
        nonlocal prefetch
        if prefetch is None:
            of, span = partial(draw, static, dataset), training.log_every
            prefetch = Prefetch(of, keys, training.steps, span, place_of_seeds(mesh))
        dynamic, keys = spread((eqx.filter(agents, eqx.is_array), keys), mesh)
        parts = []
        for begin, rows in prefetch.blocks(step, step + count):
            dynamic, each = advance(dynamic, keys, rows, jnp.asarray(begin), placed)
            parts.append(each)
        each = jax.tree.map(lambda *part: jnp.concatenate(part, axis=1), *parts)
        return eqx.combine(dynamic, static), measure(dynamic, each, held_out, held_out_data)

    return call


def batch_key(key: PRNGKeyArray, step: int | Array) -> PRNGKeyArray:
    """Return the key of a step's batch, of a seed's."""
    return jr.split(jr.fold_in(key, step))[0]


def update_key(key: PRNGKeyArray, step: int | Array) -> PRNGKeyArray:
    """Return the key of what else is random in a step's update."""
    return jr.split(jr.fold_in(key, step))[1]
