"""Speed of training and of sampling."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from nfrl.acting.acting import batched_policy
from nfrl.analysis.speed_timing import median_seconds
from nfrl.data.dataset import Dataset
from nfrl.data.samplers import ChunkBatch, GoalBatch, Transitions
from nfrl.interfaces.agent import Agent, AgentConfig
from nfrl.networks import count_parameters
from nfrl.spec import Spec
from nfrl.training.devices import over_seeds
from nfrl.training.offline import OfflineTraining
from nfrl.training.seeds import stack
from nfrl.training.updates import compile_updates


@dataclasses.dataclass(frozen=True)
class TrainingSpeed:
    """What :func:`training_speed` measured: medians over its rounds."""

    parameters: int
    steps_per_second: float
    """Updates in compiled calls of many."""
    plain_steps_per_second: float
    """A NumPy batch, one compiled update and the metrics read back, each step."""
    gflop_per_step: float | None
    """Arithmetic of the matrix products of one update: of each weight of a goal-conditioned policy
    one forward and two backward; None for agents that pass through their networks otherwise."""
    product_gflops: float | None
    """Rate of those products alone, in GFLOP/s: the machine's own."""

    @property
    def gain(self) -> float:
        """How many times as fast as the plain loop."""
        return self.steps_per_second / self.plain_steps_per_second

    @property
    def gflops(self) -> float | None:
        """Rate of the products in training, in GFLOP/s."""
        if self.gflop_per_step is None:
            return None
        return self.steps_per_second * self.gflop_per_step

    @property
    def share_of_products(self) -> float | None:
        """The share of the machine's rate for the same matrix products, in [0, 1]."""
        if self.gflop_per_step is None or self.product_gflops is None:
            return None
        return self.steps_per_second * self.gflop_per_step / self.product_gflops


def training_speed(
    config: AgentConfig,
    *,
    observation_dim: int,
    action_dim: int,
    batch_size: int = 256,
    steps: int = 50,
    rounds: int = 5,
) -> TrainingSpeed:
    """Measure an agent's training beside the plain loop and the bare matrix products.

    Args:
        config: The agent.
        observation_dim: Width of an observation.
        action_dim: Width of an action.
        batch_size: Transitions a step.
        steps: Updates in a compiled call.
        rounds: How often each side is timed; the medians count.
    """
    data = synthetic(observation_dim, action_dim)
    spec = Spec.vectors(observation_dim, action_dim)
    agent = config.build(jr.key(0), spec, 1_000_000, data)
    parameters = count_parameters(agent.policy)
    sides = {
        "chunks": compiled_side(agent, data, batch_size, steps),
        "plain": _plain_loop(agent, data, batch_size, steps),
    }
    simple = config.capabilities.goals
    shapes = product_shapes(agent.policy) if simple else []
    if simple:
        sides["products"] = product_side(shapes, batch_size, steps)
    seconds = median_seconds(sides, rounds)
    median = {name: value / steps for name, value in seconds.items()}
    gflop = 3 * 2 * batch_size * sum(a * b for a, b in shapes) / 1e9
    return TrainingSpeed(
        parameters=parameters,
        steps_per_second=1 / median["chunks"],
        plain_steps_per_second=1 / median["plain"],
        gflop_per_step=gflop if simple else None,
        product_gflops=gflop / median["products"] if simple else None,
    )


def sampling_milliseconds(
    agent: Agent, observation_dim: int, batch: int = 1, *, budget_seconds: float = 3.0
) -> float:
    """Measure one call of the batched policy, arrays in and out: the median, in milliseconds.

    Args:
        agent: Any agent.
        observation_dim: Width of an observation.
        batch: How many actions a call chooses.
        budget_seconds: Stop after a hundred calls, or after so long.
    """
    policy = batched_policy(agent)
    states = np.random.default_rng(0).normal(size=(batch, observation_dim)).astype(np.float32)
    episodes, times = np.arange(batch), np.zeros(batch, np.int64)
    policy(states, states, episodes, times)  # compiles
    seconds: list[float] = []
    while len(seconds) < 100 and sum(seconds) < budget_seconds:
        start = time.perf_counter()
        policy(states, states, episodes, times)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


def synthetic(observation_dim: int, action_dim: int, rows: int = 100_100) -> Dataset:
    """Return random data of these sizes, with rewards."""
    generator = np.random.default_rng(0)
    return Dataset.from_arrays(
        generator.normal(size=(rows, observation_dim)),
        generator.uniform(-1, 1, size=(rows, action_dim)),
        np.arange(rows) % 1001 == 1000,
        rewards=generator.choice([-1.0, 0.0], size=rows),
        masks=np.ones(rows),
    )


def compiled_side(
    agent: Agent, data: Dataset, batch_size: int, steps: int, seeds: int = 1
) -> Callable[[], None]:
    """Return what makes ``steps`` updates in one compiled call, of ``seeds`` agents at once."""
    agents = stack([agent] * seeds)
    advance = compile_updates(agents, data, OfflineTraining(batch_size=batch_size))
    keys = jr.split(jr.key(0), seeds)

    def side() -> None:
        nonlocal agents
        agents, metrics = advance(agents, keys, 0, steps)
        jax.device_get(metrics)

    return side


def _plain_loop(agent: Agent, data: Dataset, batch_size: int, steps: int) -> Callable[[], None]:
    draw = _numpy_sampler(agent, data, batch_size)
    update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))

    def side() -> None:
        nonlocal agent
        for step in range(steps):
            agent, metrics = update(agent, draw(), jr.key(step))
            _ = {name: float(value) for name, value in metrics.items()}

    return side


def _numpy_sampler(agent: Any, data: Dataset, batch_size: int) -> Callable[[], Any]:
    """Return what draws the agent's kind of batch on the host, as other libraries do."""
    observations, actions = np.asarray(data.observations), np.asarray(data.actions)
    first, last, rows = (np.asarray(x) for x in (data.first, data.last, data.transitions))
    rewards, masks = np.asarray(data.rewards), np.asarray(data.masks)
    generator = np.random.default_rng(0)
    like = jax.eval_shape(lambda: agent.draw(data, jr.key(0), batch_size))

    def draw() -> Any:
        chosen = generator.choice(rows, batch_size)
        if isinstance(like, GoalBatch):
            goals = np.minimum(chosen + generator.geometric(0.03, batch_size), last[chosen])
            return GoalBatch(observations[chosen], actions[chosen], observations[goals])
        if isinstance(like, Transitions):
            following = np.minimum(chosen + 1, last[chosen] - 1)
            return Transitions(
                *(observations[chosen], actions[chosen], rewards[chosen], masks[chosen]),
                *(observations[chosen + 1], actions[following]),
            )
        history, chunk = like.observations.shape[1], like.actions.shape[1]
        past = np.maximum(chosen[:, None] + np.arange(1 - history, 1), first[chosen][:, None])
        future = np.minimum(chosen[:, None] + np.arange(chunk), last[chosen][:, None] - 1)
        return ChunkBatch(observations[past], actions[future])

    return draw


def product_shapes(policy: Any) -> list[tuple[int, int]]:
    """Return the shapes of a policy's weights, (inputs, outputs)."""
    return [leaf.shape for leaf in jax.tree.leaves(policy) if getattr(leaf, "ndim", 0) == 2]


def product_side(
    shapes: list[tuple[int, int]], batch_size: int, steps: int, seeds: int = 1
) -> Callable[[], None]:
    """Return what makes the bare products of ``steps`` updates of ``seeds`` agents."""
    run, operands = product_loop(shapes, batch_size, steps)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), operands)
    of_seeds = jax.jit(lambda many: over_seeds(lambda each, _: run(each), many, None))
    return lambda: jax.block_until_ready(of_seeds(many))


def product_loop(
    shapes: list[tuple[int, int]], batch_size: int, steps: int
) -> tuple[Any, list[tuple[Array, Array, Array]]]:
    """Return a compiled loop of the bare products of training, and what to call it with.

    Args:
        shapes: The weights, (inputs, outputs).
        batch_size: Rows of the other operands.
        steps: How often all are made: forward, and both gradients.
    """
    keys = jr.split(jr.key(0), (len(shapes), 3))
    operands = [
        (
            jr.normal(x_key, (batch_size, inputs)),
            jr.normal(w_key, (inputs, outputs)),
            jr.normal(g_key, (batch_size, outputs)),
        )
        for (inputs, outputs), (x_key, w_key, g_key) in zip(shapes, keys, strict=True)
    ]

    @jax.jit
    def run(operands: Any) -> Any:
        def body(carry: Any, _: None) -> tuple[Any, None]:
            (operands, last), following = carry, []
            for x, w, g in operands:
                # Both operands of the gradients change with the products before, in place: none of
                # the three can be left out, or made once for all steps.
                x, g = x.at[0, 0].add(last), g.at[0, 0].add(last)
                results = jax.lax.optimization_barrier((x @ w, x.T @ g, g @ w.T))
                last = 1e-9 * sum(result[0, 0] for result in results)
                following.append((x, w, g))
            return (following, last), None

        return jax.lax.scan(body, (operands, jnp.zeros(())), length=steps)[0]

    return run, operands
