"""Training from a data set: compiled calls of many updates, one or several seeds at once."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from nfrl.agents.parts.optimization import mean_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.load import Data
from nfrl.data.streamed import StreamedDataset, answering
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, AgentConfig
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training.devices import (
    copied,
    mesh_of,
    over_seeds,
    place_of_seeds,
    room,
    share_out,
    spread,
)
from nfrl.training.loop import (
    FINITE_UPDATES,
    Line,
    NonFiniteLossError,
    Report,
    last_checkpoint,
    loop,
    spans_of,
    statistics,
)
from nfrl.training.prefetch import Fetch, Prefetch
from nfrl.training.seeds import restore, save, seed_keys, stack, take

Evaluate = Callable[[int, Agent], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class OfflineTraining:
    """How long, and on how much at a time. The defaults are the paper's."""

    steps: int = 1_000_000
    """Gradient steps."""
    batch_size: int = 256
    """Transitions a step."""
    log_every: int = 1000
    """Gradient steps between two lines of metrics, which are averaged over them; so many are one
    compiled call."""
    checkpoint_every: int = 50_000
    """Gradient steps between checkpoints, a multiple of ``log_every``."""
    keep: int = 2
    """How many checkpoints are kept, the latest."""
    validation_batches: int = 8
    """Batches of held-out data scored with each line of metrics."""
    evaluate_every: int = 0
    """Gradient steps between evaluations for the learning curve, a multiple of ``log_every``; 0 for
    an evaluation at the end alone."""
    epochs: int = 0
    """As many gradient steps as make so many passes through the data, in place of ``steps``; 0 for
    ``steps``."""
    devices: int = 1
    """Devices to train on: seeds over them, and each seed's batches over those that are left."""
    stream: bool | None = None
    """Leave the data on the host, in its memory or on its disk, and draw batches from there; None
    for doing so where they would take more than half of the device's memory."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            least = 0 if field.name in ("evaluate_every", "epochs") else 1
            if field.name != "stream" and getattr(self, field.name) < least:
                raise UserError(f"{field.name.replace('_', '-')} must be at least {least}")
        for name in ("checkpoint_every", "evaluate_every"):
            if getattr(self, name) % self.log_every:
                raise UserError(
                    f"{name.replace('_', '-')} ({getattr(self, name)}) must be a multiple of "
                    f"log-every ({self.log_every})"
                )

    def on(self, transitions: int) -> "OfflineTraining":
        """Return it with the steps that its epochs are, on data of so many transitions."""
        if not self.epochs:
            return self
        return dataclasses.replace(self, steps=-(-self.epochs * transitions // self.batch_size))


def put(data: Data, stream: bool | None) -> tuple[Dataset, Dataset]:
    """Put data and their held-out part on the device, or leave both on the host.

    Args:
        data: The data.
        stream: As :attr:`OfflineTraining.stream`.
    """
    if stream is None:
        stream = data.training.bytes + data.validation.bytes > room() / 2
    return data.training.to_dataset(stream=stream), data.validation.to_dataset(stream=stream)


def train(
    runs: Sequence[RunFolder],
    seeds: Sequence[int],
    agent_config: AgentConfig,
    spec: Spec,
    training: OfflineTraining,
    dataset: Dataset,
    validation: Dataset,
    report: Report = lambda step, metrics: None,
    evaluate: Evaluate = lambda index, agent: {},
) -> list[Agent]:
    """Train one agent a seed, all at once, going on from the checkpoints that the runs hold.

    Every random number comes from the seed and the step, so a run that is interrupted and taken
    up again ends with the bits of one that was not (same machine, same seeds together).

    Args:
        runs: A folder for each seed.
        seeds: The seeds.
        agent_config: Builds the agents.
        spec: What they observe and do.
        training: How long, and on how much at a time.
        dataset: What to learn from.
        validation: Held-out data.
        report: Told the step and the metrics, averaged over seeds, with each line of them.
        evaluate: Asked every ``training.evaluate_every`` steps for further metrics of each seed's
            agent, given the seed's place in ``seeds``; the time it takes is not training time.

    Returns:
        The trained agents, in the order of the seeds.

    Raises:
        NonFiniteLossError: A loss was not finite.
        UserError: A checkpoint is cut short or belongs to another configuration, or the disk is
            full.
        KeyboardInterrupt: After the updates in hand were finished and saved.
    """
    init_keys, keys = seed_keys(seeds)
    # One by one and uncompiled: compiling what runs once takes longer than running it.
    known = dataset.excerpt()
    agents = stack([agent_config.build(key, spec, training.steps, known) for key in init_keys])
    agents, start = restore(runs, agents)
    mesh = mesh_of(training.devices, len(seeds), training.batch_size)
    agents = spread(agents, mesh)
    update = compile_updates(agents, dataset, training, validation)

    def advance(agents: Any, begin: int, end: int) -> tuple[Any, list[Line]]:
        agents, metrics = update(agents, keys, begin, end - begin)
        host = {name: np.asarray(value) for name, value in metrics.items()}
        finite = host.pop(FINITE_UPDATES)
        for i, run in enumerate(runs):
            if finite[i] < end - begin:
                bad = begin + int(finite[i])
                batch = take(agents, i).draw(dataset, _batch_key(keys[i], bad), training.batch_size)
                raise _non_finite(run, seeds[i], bad, batch)
        return agents, [{k: float(v[i]) for k, v in host.items()} for i in range(len(runs))]

    def pause(agents: Any, step: int) -> list[Line]:
        if not training.evaluate_every or step % training.evaluate_every:
            return [{} for _ in runs]
        return [evaluate(i, take(agents, i)) for i in range(len(runs))]

    agents = loop(
        runs,
        agents,
        start,
        spans_of(training.log_every, training.steps),
        advance,
        lambda agents, step: save(runs, agents, step, training.keep),
        due=lambda step: step % training.checkpoint_every == 0 or step == training.steps,
        report=report,
        pause=pause,
    )
    return [take(agents, i) for i in range(len(runs))]


def compile_updates(
    agents: Agent, dataset: Dataset, training: OfflineTraining, validation: Dataset | None = None
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
        return agent.draw(data, _batch_key(key, step), training.batch_size)

    def updated(dynamic: Any, key: Array, steps: Array, rows: Any, data: Dataset) -> Any:
        """Make the updates of some steps; ``rows``: what their batches ask of streamed data."""

        def update(dynamic: Any, given: tuple[Array, Any]) -> tuple[Any, dict[str, Array]]:
            step, rows = given
            agent = eqx.combine(dynamic, static)
            with answering(rows):
                batch = draw(agent, data, key, step)
            agent, metrics = agent.update(share_out(batch, mesh), _update_key(key, step))
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
            return agent.validate(share_out(batch, mesh), _update_key(jr.key(0), i))

        scores = jax.lax.map(validate, (jnp.arange(training.validation_batches), rows))
        return metrics | {f"val_{name}": value for name, value in mean_metrics(scores).items()}

    dataset, validation = copied(dataset, mesh), copied(validation, mesh)
    if isinstance(dataset, StreamedDataset):
        return _streamed(static, dataset, training, validation, mesh, draw, updated, measured)

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
        dynamic = eqx.filter(agents, eqx.is_array)
        dynamic, metrics = advance(
            dynamic, spread(keys, mesh), jnp.asarray(step), count, dataset, validation
        )
        return eqx.combine(dynamic, static), metrics

    return call


def _streamed(
    static: Agent,
    dataset: StreamedDataset,
    training: OfflineTraining,
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
    prefetch: list[Prefetch] = []

    def call(agents: Agent, keys: Array, step: int, count: int) -> tuple[Agent, dict[str, Array]]:
        dynamic = eqx.filter(agents, eqx.is_array)
        if not prefetch:
            of, span = partial(draw, static, dataset), training.log_every
            place = place_of_seeds(mesh)
            prefetch.append(Prefetch(of, keys, training.steps, span, place))
        parts = []
        for begin, rows in prefetch[0].blocks(step, step + count):
            first = jnp.asarray(begin)
            dynamic, each = advance(dynamic, spread(keys, mesh), rows, first, dataset)
            parts.append(each)
        each = jax.tree.map(lambda *part: jnp.concatenate(part, axis=1), *parts)
        return eqx.combine(dynamic, static), measure(dynamic, each, held_out, validation)

    return call


def load_agent(
    run: RunFolder,
    agent_config: AgentConfig,
    spec: Spec,
    steps: int,
    step: int | None = None,
) -> Agent:
    """Load a run's agent from its latest checkpoint, or from that of a step.

    Raises:
        UserError: There is no checkpoint, or it is cut short.
    """
    found = checkpoints.steps_in(run.checkpoints)
    if not found:
        raise UserError(f"{run.path} has no checkpoint yet")
    step = max(found) if step is None else step
    like = checkpoints.outline(lambda: agent_config.build(jr.key(0), spec, steps))
    return checkpoints.load(checkpoints.path_of(run.checkpoints, step), like)


def _batch_key(key: PRNGKeyArray, step: int | Array) -> PRNGKeyArray:
    return jr.split(jr.fold_in(key, step))[0]


def _update_key(key: PRNGKeyArray, step: int | Array) -> PRNGKeyArray:
    return jr.split(jr.fold_in(key, step))[1]


def _non_finite(run: RunFolder, seed: int, step: int, batch: Any) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"seed {seed}: the loss of step {step} is not finite; its batch: "
        f"{statistics(batch._asdict())}; last good checkpoint: {last_checkpoint(run)}; "
        "more training noise, a lower learning rate or gradient clipping help",
        seed,
    )
