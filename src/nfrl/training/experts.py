"""Training a locomotion expert online: environments, a replay ring on the device, SAC.

A run alternates a short rollout of all environments with as many compiled updates as belong to it.
All episodes begin anew at every checkpoint, so that a checkpoint (agent and replay) is all that the
rest of the run depends on: a resumed run is an uninterrupted one to the bit.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Float, PRNGKeyArray

from nfrl.agents.parts.optimization import mean_metrics
from nfrl.agents.parts.tanh_gaussian import TanhGaussian
from nfrl.agents.sac import SAC, SACConfig
from nfrl.data.experience import Experience, Replay, add, empty_replay, sample
from nfrl.environments.locomotion import Body
from nfrl.environments.locomotion_pool import BodyPool, Outcome
from nfrl.errors import UserError
from nfrl.files import write_atomically
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training.loop import Line, NonFiniteLossError, Report, last_checkpoint, loop, spans_of


@dataclasses.dataclass(frozen=True)
class ExpertTraining:
    """How long, and how acting and learning alternate. The defaults are the ant's."""

    steps: int = 400_000
    """Environment steps, of all environments together."""
    update_every: int = 1
    """Environment steps for each gradient step."""
    batch_size: int = 256
    """Transitions a gradient step."""
    random_steps: int = 10_000
    """Environment steps with random actions, before the first gradient step."""
    capacity: int = 1_000_000
    """Transitions that the replay has room for; no more than ``steps`` are kept."""
    environments: int = 10
    """Environments stepped together."""
    rollout: int = 10
    """Steps of each environment between two calls of the compiled updates."""
    log_every: int = 2_000
    """Environment steps between two lines of metrics."""
    checkpoint_every: int = 20_000
    """Environment steps between checkpoints, where all episodes begin anew."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise UserError(f"{field.name.replace('_', '-')} must be at least 1")
        for name, divisor in (
            ("log_every", self.call),
            ("random_steps", self.call),
            ("checkpoint_every", self.log_every),
            ("steps", self.log_every),
            ("call", self.update_every),
        ):
            if getattr(self, name) % divisor:
                raise UserError(
                    f"{name.replace('_', '-')} ({getattr(self, name)}) must be a multiple "
                    f"of {divisor}"
                )

    @property
    def call(self) -> int:
        """Environment steps for each call of the compiled updates."""
        return self.environments * self.rollout


EXPERTS: dict[str, tuple[SACConfig, ExpertTraining]] = {
    "ant": (SACConfig(), ExpertTraining()),
    "ant-ball": (
        SACConfig(critic_layer_norm=True),
        ExpertTraining(
            steps=12_000_000,
            update_every=4,
            environments=40,
            log_every=20_000,
            checkpoint_every=200_000,
        ),
    ),
    "humanoid": (
        SACConfig(critic_hidden=(1024, 1024, 1024), critic_layer_norm=True, aggregate="mean"),
        ExpertTraining(
            steps=40_000_000,
            update_every=4,
            environments=40,
            log_every=20_000,
            checkpoint_every=400_000,
        ),
    ),
}
"""What OGBench trained its experts with: one gradient step a step for the ant, one in four for the
others."""


def train_expert(
    run: RunFolder,
    body: Body,
    config: SACConfig,
    training: ExpertTraining,
    *,
    seed: int = 0,
    workers: int = 0,
    report: Report = lambda step, metrics: None,
) -> SAC:
    """Train an expert, going on from the checkpoint that the run holds.

    Args:
        run: Where metrics and checkpoints go.
        body: What is to move.
        config: Of the agent.
        training: How long, and how acting and learning alternate.
        seed: Non-negative.
        workers: Processes that step the environments; 0 to step them in this one. The outcome is
            the same.
        report: Told the step and the metrics after each line of metrics.

    Returns:
        The trained agent.

    Raises:
        UserError: A loss was not finite, a checkpoint is cut short, or a worker failed.
        KeyboardInterrupt: Between checkpoints: what came after the last is lost.
    """
    init_key, act_key, update_key = jr.split(jr.key(seed), 3)
    with BodyPool(body, training.environments, workers, seed) as pool:
        agent = config.build(init_key, Spec.vectors(pool.observation_dim, pool.action_dim))
        capacity = min(training.capacity, training.steps)
        replay = empty_replay(capacity, pool.observation_dim, pool.action_dim)
        found = checkpoints.steps_in(run.checkpoints)
        start = max(found, default=0)
        if start:
            agent, replay = checkpoints.load(found[start], (agent, replay))
        learn = compile_updates(agent, training)
        observations = np.empty(0)

        def advance(state: Any, begin: int, end: int) -> tuple[Any, list[Line]]:
            nonlocal observations
            agent, replay = state
            tally, rows = Tally(), []
            for step in range(begin, end, training.call):
                if step == start or step % training.checkpoint_every == 0:
                    observations = pool.reset(step // training.checkpoint_every)
                observations, new = _rollout(
                    pool, agent.policy, observations, act_key, step, training, tally
                )
                learns = step >= training.random_steps
                count = training.call // training.update_every if learns else 0
                agent, replay, metrics = learn(agent, replay, new, update_key, step, count)
                rows.append(metrics)
            line = tally.line() | _averages(rows)
            if not all(np.isfinite(list(line.values()))):
                raise NonFiniteLossError(
                    f"step {end}: the losses are not finite ({line}); last good checkpoint: "
                    f"{last_checkpoint(run)}",
                    seed,
                )
            return (agent, replay), [line]

        agent, _ = loop(
            [run],
            (agent, replay),
            start,
            spans_of(training.log_every, training.steps),
            advance,
            lambda state, step: checkpoints.save_only(run.checkpoints, state, step=step),
            due=lambda step: step % training.checkpoint_every == 0 or step == training.steps,
            anywhere=False,
            report=report,
        )
    return agent


def write_expert(policy: TanhGaussian, path: Path) -> None:
    """Write a policy's weights where `nfrl.collect.expert_policy` can read them."""
    arrays = {}
    for index, layer in enumerate(policy.mlp.layers):
        arrays[f"{index}.weight"] = np.asarray(layer.weight)
        arrays[f"{index}.bias"] = np.asarray(layer.bias)
    data = safetensors.numpy.save(arrays)
    write_atomically(path, lambda file: file.write(data))


def compile_updates(agent: SAC, training: ExpertTraining) -> Callable[..., Any]:
    """Compile many updates into one call; agent and replay passed to it are consumed.

    Returns:
        A function of (agent, replay, new experience, key, step, count) that adds the experience,
        makes ``count`` updates, and returns the agent, the replay and the averaged metrics.
    """
    _, static = eqx.partition(agent, eqx.is_array)

    @partial(jax.jit, static_argnames="count", donate_argnames=("dynamic", "replay"))
    def advance(
        dynamic: Any, replay: Replay, new: Experience, key: PRNGKeyArray, step: Array, count: int
    ) -> Any:
        replay = add(replay, new)

        def update(dynamic: Any, i: Array) -> tuple[Any, dict[str, Array]]:
            batch_key, update_key = jr.split(jr.fold_in(jr.fold_in(key, step), i))
            batch = sample(replay, batch_key, training.batch_size)
            agent, metrics = eqx.combine(dynamic, static).update(batch, update_key)
            return eqx.filter(agent, eqx.is_array), metrics

        if count == 0:
            return dynamic, replay, {}
        dynamic, metrics = jax.lax.scan(update, dynamic, jnp.arange(count))
        return dynamic, replay, mean_metrics(metrics)

    def learn(
        agent: SAC, replay: Replay, new: Experience, key: PRNGKeyArray, step: int, count: int
    ) -> tuple[SAC, Replay, dict[str, Array]]:
        dynamic = eqx.filter(agent, eqx.is_array)
        dynamic, replay, metrics = advance(dynamic, replay, new, key, jnp.asarray(step), count)
        return eqx.combine(dynamic, static), replay, metrics

    return learn


class Tally:
    """What the environments gave since the last line of metrics."""

    def __init__(self) -> None:
        self._reward = self._ends = 0.0
        self._steps = 0

    def add(self, outcome: Outcome) -> None:
        """Count one step of all environments."""
        self._reward += float(outcome.rewards.sum())
        self._ends += float((1 - outcome.masks).sum())
        self._steps += len(outcome.rewards)

    def line(self) -> dict[str, float]:
        """Return the mean reward of a step, and ends of all reward in a thousand steps."""
        return {
            "reward": self._reward / self._steps,
            "ends_per_1000": 1000 * self._ends / self._steps,
        }


def _rollout(
    pool: BodyPool,
    policy: TanhGaussian,
    observations: np.ndarray,
    key: PRNGKeyArray,
    step: int,
    training: ExpertTraining,
    tally: Tally,
) -> tuple[np.ndarray, Experience]:
    """Step all environments a few times; return what to act on next, and what happened."""
    rows = []
    random = step < training.random_steps
    for time_step in range(training.rollout):
        step_key = jr.fold_in(key, step + time_step)
        actions = np.asarray(_act(policy, jnp.asarray(observations), step_key, random))
        outcome = pool.step(actions)
        tally.add(outcome)
        rows.append(
            (observations, actions, outcome.rewards, outcome.masks, outcome.next_observations)
        )
        observations = outcome.observations
    columns = (jnp.asarray(np.concatenate(column)) for column in zip(*rows, strict=True))
    return observations, Experience(*columns)


@eqx.filter_jit
def _act(
    policy: TanhGaussian, observations: Array, key: PRNGKeyArray, random: bool
) -> Float[Array, "environments action"]:
    if random:
        shape = (len(observations), policy.action_dim)
        return jr.uniform(key, shape, minval=-1.0, maxval=1.0)
    keys = jr.split(key, len(observations))
    return jax.vmap(policy.sample_and_log_prob)(observations, keys)[0]


def _averages(rows: list[dict[str, Array]]) -> dict[str, float]:
    rows = [row for row in rows if row]
    return {name: float(np.mean([row[name] for row in rows])) for name in (rows or [{}])[0]}
