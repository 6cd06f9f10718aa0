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
from jaxtyping import Array, PRNGKeyArray

from nfrl.agents.parts.optimization import mean_metrics
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, AgentConfig
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
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
from nfrl.training.seeds import over_seeds, restore, save, seed_keys, stack, take

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

    def __post_init__(self):
        for field in dataclasses.fields(self):
            least = 0 if field.name in ("evaluate_every", "epochs") else 1
            if getattr(self, field.name) < least:
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
    agents = stack([agent_config.build(key, spec, training.steps, dataset) for key in init_keys])
    agents, start = restore(runs, agents)
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
