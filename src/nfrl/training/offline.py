"""Training from a data set: compiled calls of many updates, one or several seeds at once."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.random as jr
import numpy as np

from nfrl.data.dataset import Dataset
from nfrl.data.load import Data
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent, AgentConfig
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training.devices import room
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
from nfrl.training.seeds import restore, save, seed_keys, stack, take
from nfrl.training.updates import batch_key, compile_updates

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


def to_datasets(data: Data, stream: bool | None) -> tuple[Dataset, Dataset]:
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
    update = compile_updates(agents, dataset, training, validation)

    def advance(agents: Any, begin: int, end: int) -> tuple[Any, list[Line]]:
        agents, metrics = update(agents, keys, begin, end - begin)
        host = {name: np.asarray(value) for name, value in metrics.items()}
        finite = host.pop(FINITE_UPDATES)
        for i, run in enumerate(runs):
            if finite[i] < end - begin:
                bad = begin + int(finite[i])
                batch = take(agents, i).draw(dataset, batch_key(keys[i], bad), training.batch_size)
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


def _non_finite(run: RunFolder, seed: int, step: int, batch: Any) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"seed {seed}: the loss of step {step} is not finite; its batch: "
        f"{statistics(batch._asdict())}; last good checkpoint: {last_checkpoint(run)}; "
        "more training noise, a lower learning rate or gradient clipping help",
        seed,
    )
