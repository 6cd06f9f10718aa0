"""Training from a data set: compiled chunks of many updates, one or several seeds at once."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from nfrl.agents import Agent, AgentConfig, build_agent
from nfrl.agents.parts.optimization import mean_metrics
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.runs.interruption import interruption

FINITE_UPDATES = "finite_updates"
"""The metric that counts a chunk's updates before the first with a non-finite loss."""

Report = Callable[[int, dict[str, float]], None]
Evaluate = Callable[[int, Agent], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class OfflineTraining:
    """How long, and on how much at a time. The defaults are the paper's."""

    steps: int = 1_000_000
    """Gradient steps."""
    batch_size: int = 256
    """Transitions a step."""
    chunk: int = 1000
    """Updates in one compiled call: metrics are averaged over them, and logged."""
    checkpoint_every: int = 50_000
    """Gradient steps between checkpoints, a multiple of ``chunk``."""
    keep: int = 2
    """How many checkpoints are kept, the latest."""
    validation_batches: int = 8
    """Batches of held-out data scored after each chunk."""
    evaluate_every: int = 0
    """Gradient steps between evaluations for the learning curve, a multiple of ``chunk``; 0 for an
    evaluation at the end alone."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            least = 0 if field.name == "evaluate_every" else 1
            if getattr(self, field.name) < least:
                raise UserError(f"{field.name.replace('_', '-')} must be at least {least}")
        for name in ("checkpoint_every", "evaluate_every"):
            if getattr(self, name) % self.chunk:
                raise UserError(
                    f"{name.replace('_', '-')} ({getattr(self, name)}) must be a multiple of "
                    f"chunk ({self.chunk})"
                )


class NonFiniteLossError(UserError):
    """A seed's loss became infinite or not a number; the last good checkpoint stands."""

    def __init__(self, message: str, seed: int):
        super().__init__(message)
        self.seed = seed


def train(
    runs: Sequence[RunFolder],
    seeds: Sequence[int],
    agent_config: AgentConfig,
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
        training: How long, and on how much at a time.
        dataset: What to learn from.
        validation: Held-out data.
        report: Told the step and the metrics, averaged over seeds, after each chunk.
        evaluate: Asked every ``training.evaluate_every`` steps for further metrics of each seed's
            agent, given the seed's place in ``seeds``; the time it takes is not training time.

    Returns:
        The trained agents, in the order of the seeds.

    Raises:
        NonFiniteLossError: A loss was not finite.
        UserError: A checkpoint is cut short or belongs to another configuration, or the disk is
            full.
        KeyboardInterrupt: After the chunk in hand was finished and saved.
    """
    init_keys, update_keys = seed_keys(seeds)
    agents = _initial_agents(agent_config, dataset, training.steps, init_keys)
    agents, start = restore(runs, agents)
    for run in runs:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run.truncate_metrics(start)
    earlier = runs[0].seconds_until(start)
    advance = compile_updates(agents, dataset, training, validation)
    began = time.perf_counter()
    with interruption() as interrupted:
        for step in range(start, training.steps, training.chunk):
            count = min(training.chunk, training.steps - step)
            agents, metrics = advance(agents, update_keys, step, count)
            host = {name: np.asarray(value) for name, value in metrics.items()}
            finite = host.pop(FINITE_UPDATES)
            for i, run in enumerate(runs):
                if finite[i] < count:
                    bad = step + int(finite[i])
                    key = _batch_key(update_keys[i], bad)
                    batch = take(agents, i).draw(dataset, key, training.batch_size)
                    raise _non_finite(run, seeds[i], bad, batch)
            step += count
            seconds = earlier + time.perf_counter() - began
            scores: list[dict[str, float]] = [{} for _ in runs]
            if training.evaluate_every and step % training.evaluate_every == 0:
                paused = time.perf_counter()
                scores = [evaluate(i, take(agents, i)) for i in range(len(runs))]
                began += time.perf_counter() - paused
            for i, run in enumerate(runs):
                values = {name: float(value[i]) for name, value in host.items()} | scores[i]
                run.append_metrics({"step": step, "seconds": round(seconds, 3), **values})
            due = step % training.checkpoint_every == 0 or step == training.steps
            stop = interrupted()  # asked once: what comes later is for the next chunk
            if due or stop:
                save(runs, agents, step, training.keep)
            report(step, {name: float(value.mean()) for name, value in host.items()})
            if stop:
                raise KeyboardInterrupt
    return [take(agents, i) for i in range(len(runs))]


def compile_updates(
    agents: Agent, dataset: Dataset, training: OfflineTraining, validation: Dataset | None = None
) -> Callable[[Agent, Array, int, int], tuple[Agent, dict[str, Array]]]:
    """Compile many updates into one call; the agents passed to it are consumed.

    Args:
        agents: Agents stacked along a first axis, one a seed.
        dataset: What to learn from.
        training: Batch size.
        validation: Held-out data, scored after the updates; None for none.

    Returns:
        A function of (agents, keys, step, count) that makes ``count`` updates from ``step`` on,
        and returns the agents and their metrics, averaged over the updates.
    """
    _, static = eqx.partition(agents, eqx.is_array)

    def one_seed(
        dynamic: Any, key: Array, step: Array, count: int, data: Dataset, held_out: Dataset | None
    ) -> Any:
        def update(dynamic: Any, i: Array) -> tuple[Any, dict[str, Array]]:
            agent = eqx.combine(dynamic, static)
            batch = agent.draw(data, _batch_key(key, i), training.batch_size)
            agent, metrics = agent.update(batch, _update_key(key, i))
            return eqx.filter(agent, eqx.is_array), metrics

        def validate(i: Array) -> dict[str, Array]:
            assert held_out is not None
            agent = eqx.combine(dynamic, static)
            batch = agent.draw(held_out, _batch_key(jr.key(0), i), training.batch_size)
            return agent.validate(batch, _update_key(jr.key(0), i))

        dynamic, each = jax.lax.scan(update, dynamic, step + jnp.arange(count))
        metrics = mean_metrics(each)
        finite = jnp.isfinite(each["loss"]) & jnp.isfinite(each["grad_norm"])
        metrics[FINITE_UPDATES] = jnp.where(finite.all(), count, jnp.argmin(finite))
        if held_out is not None:
            scores = mean_metrics(jax.lax.map(validate, jnp.arange(training.validation_batches)))
            metrics |= {f"val_{name}": value for name, value in scores.items()}
        return dynamic, metrics

    @partial(jax.jit, static_argnames="count", donate_argnames="dynamic")
    def advance(
        dynamic: Any, keys: Array, step: Array, count: int, data: Dataset, held_out: Dataset | None
    ) -> Any:
        def one(share: tuple[Any, Array]) -> Any:
            return one_seed(*share, step, count, data, held_out)

        return over_seeds(one, (dynamic, keys))

    def call(agents: Agent, keys: Array, step: int, count: int) -> tuple[Agent, dict[str, Array]]:
        dynamic = eqx.filter(agents, eqx.is_array)
        dynamic, metrics = advance(dynamic, keys, jnp.asarray(step), count, dataset, validation)
        return eqx.combine(dynamic, static), metrics

    return call


def over_seeds(function: Callable, stacked: Any) -> Any:
    """Apply a function to each seed's share: side by side on an accelerator, in turn on a CPU.

    A CPU gains nothing from batching the products of different weights, so there every seed has
    all cores for its chunk.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, stacked)
    return jax.vmap(function)(stacked)


def stack(agents: Sequence[Agent]) -> Agent:
    """Stack one agent a seed along a new first axis."""
    return jax.tree.map(
        lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *agents
    )


def take(agents: Agent, index: int) -> Agent:
    """Return one seed's agent out of a stack."""
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, agents)


def latest_step(runs: Sequence[RunFolder]) -> int:
    """Return the latest step that every seed has a checkpoint of; 0 if there is none."""
    found = [set(checkpoints.steps_in(run.checkpoints)) for run in runs]
    return max(set.intersection(*found), default=0)


def load_agent(
    run: RunFolder,
    agent_config: AgentConfig,
    observation_dim: int,
    action_dim: int,
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
    like = eqx.filter_eval_shape(
        lambda: build_agent(agent_config, jr.key(0), observation_dim, action_dim, steps)
    )
    return checkpoints.load(checkpoints.path_of(run.checkpoints, step), like)


def seed_keys(seeds: Sequence[int]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Return each seed's key for the initial weights, and its key for the updates."""
    keys = jnp.stack([jr.split(jr.key(seed)) for seed in seeds])
    return keys[:, 0], keys[:, 1]


def _initial_agents(config: AgentConfig, dataset: Dataset, steps: int, keys: PRNGKeyArray) -> Agent:
    observation_dim, action_dim = dataset.observations.shape[1], dataset.actions.shape[1]
    # One by one and uncompiled: compiling what runs once takes longer than running it.
    return stack(
        [build_agent(config, key, observation_dim, action_dim, steps, dataset) for key in keys]
    )


def restore(runs: Sequence[RunFolder], agents: Any) -> tuple[Any, int]:
    """Return what stands in the runs' latest common checkpoint, and its step; or what was given."""
    step = latest_step(runs)
    if step == 0:
        return agents, 0
    loaded = [
        checkpoints.load(checkpoints.path_of(run.checkpoints, step), take(agents, i))
        for i, run in enumerate(runs)
    ]
    return stack(loaded), step


def save(runs: Sequence[RunFolder], agents: Any, step: int, keep: int) -> None:
    """Write every seed's checkpoint, and only then forget the oldest."""
    for i, run in enumerate(runs):
        checkpoints.save(checkpoints.path_of(run.checkpoints, step), take(agents, i), step=step)
    for run in runs:
        for path in list(checkpoints.steps_in(run.checkpoints).values())[:-keep]:
            path.unlink()


def _batch_key(key: PRNGKeyArray, step: int | Array) -> PRNGKeyArray:
    return jr.split(jr.fold_in(key, step))[0]


def _update_key(key: PRNGKeyArray, step: int | Array) -> PRNGKeyArray:
    return jr.split(jr.fold_in(key, step))[1]


def _non_finite(run: RunFolder, seed: int, step: int, batch: Any) -> NonFiniteLossError:
    found = checkpoints.steps_in(run.checkpoints)
    statistics = ", ".join(
        f"{name} in [{float(value.min()):.3g}, {float(value.max()):.3g}] with mean "
        f"{float(value.mean()):.3g}"
        for name, value in batch._asdict().items()
    )
    return NonFiniteLossError(
        f"seed {seed}: the loss of step {step} is not finite; its batch: {statistics}; "
        f"last good checkpoint: {found[max(found)] if found else 'none yet'}; "
        "more training noise, a lower learning rate or gradient clipping help",
        seed,
    )
