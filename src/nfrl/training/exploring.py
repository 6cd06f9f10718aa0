"""Exploring a maze: robots, buffer, goals and updates in one compiled program.

A round is ``unroll`` steps of every environment and then ``updates`` updates. All environments
begin their episodes together, at the start of a round. The agent commands each a goal then, or in
every round.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfrl.agents.parts.optimization import mean_metrics
from nfrl.data import goal_replay as replay
from nfrl.data.goal_replay import GoalReplay
from nfrl.errors import UserError
from nfrl.interfaces.agent import AgentConfig
from nfrl.interfaces.explorer import Explorer, World
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.spec import Spec
from nfrl.training import snapshots
from nfrl.training.devices import mesh_of, over_seeds, spread
from nfrl.training.loop import (
    FINITE_UPDATES,
    Line,
    NonFiniteLossError,
    Report,
    last_checkpoint,
    loop,
    statistics,
)
from nfrl.training.seeds import restore, save, seed_keys, stack, take

Every = Literal["episode", "round"]
CandidateGoals = Literal["rows", "hindsight"]

COMMANDS_AT_ONCE = 16
"""Environments whose candidates are scored side by side; more outgrow the processor's caches."""


@dataclasses.dataclass(frozen=True)
class ExploreTraining:
    """How long, and on how much at a time. The defaults are the paper's."""

    environment_steps: int = 100_000_000
    """Steps of all environments together, rounded up to whole rounds."""
    environments: int = 1024
    """Robots that move at once."""
    unroll: int = 50
    """Steps of each environment in a round, a divisor of the episode length (the code has 62)."""
    updates: int = 250
    """Updates in a round. 250 batches of 4096 are as many transitions as an episode of 1024
    environments has; the paper does not say."""
    batch_size: int = 4096
    """Transitions an update."""
    discount: float = 0.99
    """gamma of the geometric distribution of goals."""
    buffer_steps: int = 10_000
    """Rows of each environment that the buffer keeps."""
    prefill: int = 1000
    """Steps of each environment before the first update, rounded up to whole rounds."""
    candidates: int = 1024
    """Goals from the buffer that each environment's command is chosen from."""
    command_every: Every = "episode"
    """When goals are commanded: at the start of an episode, or of every round as in the code (there
    after 62 steps)."""
    candidate_goals: CandidateGoals = "rows"
    """What the candidates are: states of the buffer, each as likely as any other, or hindsight
    goals as those of the critic, as in the code."""
    evaluation_episodes: int = 4
    """Episodes for each evaluation goal, with each line of metrics."""
    log_every: int = 20
    """Rounds between two lines of metrics, which are averaged over them; so many are one compiled
    call."""
    checkpoint_every: int = 200
    """Rounds between checkpoints, a multiple of ``log_every``; each holds the buffer."""
    keep: int = 1
    """How many checkpoints are kept, the latest."""
    devices: int = 1
    """Devices to train on, each with as many of the seeds."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "discount" and not isinstance(value, str) and value < 1:
                raise UserError(f"{field.name.replace('_', '-')} must be at least 1")
        if not 0 <= self.discount < 1:
            raise UserError(f"discount must lie in [0, 1); got {self.discount}")
        if self.checkpoint_every % self.log_every:
            raise UserError(
                f"checkpoint-every ({self.checkpoint_every}) must be a multiple of "
                f"log-every ({self.log_every})"
            )

    @property
    def round_steps(self) -> int:
        """Environment steps of a round."""
        return self.environments * self.unroll

    @property
    def prefill_rounds(self) -> int:
        """Rounds without updates."""
        return -(-self.prefill // self.unroll)

    @property
    def rounds(self) -> int:
        """Rounds in all."""
        return max(-(-self.environment_steps // self.round_steps), self.prefill_rounds + 1)

    def check(self, world: World) -> None:
        """Check the values against a maze.

        Raises:
            UserError: An episode does not consist of whole rounds, or does not fit the buffer;
                or a batch is larger than what the buffer holds at the first update.
        """
        length = world.robot.episode_length
        if length % self.unroll:
            raise UserError(
                f"unroll ({self.unroll}) must divide the {length} steps of an episode of "
                f"{world.name}"
            )
        if length > self.buffer_steps:
            raise UserError(
                f"an episode of {world.name} ({length} steps) does not fit the buffer: "
                f"buffer-steps is {self.buffer_steps}"
            )
        rows = min(self.prefill_rounds * self.unroll, self.buffer_steps)
        held = self.environments * (rows - -(-rows // length))
        if self.batch_size > held:
            raise UserError(
                f"batch-size ({self.batch_size}) is more than the {held} transitions that the "
                "buffer holds at the first update; raise prefill or environments"
            )


class Exploration(eqx.Module):
    """All that one seed's run goes on from."""

    agent: Explorer
    robots: Any
    goals: Float[Array, "environments 2"]
    replay: GoalReplay
    visits: Int[Array, "rows columns"]


def buffer_bytes(training: ExploreTraining, world: World) -> int:
    """Return what one seed's buffer takes, in bytes."""
    return replay.memory_bytes(
        training.environments,
        training.buffer_steps,
        world.robot.observation_dim,
        world.robot.action_dim,
    )


def spec_of(world: World) -> Spec:
    """Return what a robot observes and does."""
    return Spec.vectors(world.robot.observation_dim, world.robot.action_dim)


def explore(
    runs: Sequence[RunFolder],
    seeds: Sequence[int],
    agent_config: AgentConfig,
    training: ExploreTraining,
    world: World,
    report: Report = lambda step, metrics: None,
) -> list[Explorer]:
    """Explore with one agent a seed, all at once, going on from the runs' checkpoints.

    A step is an environment step, in metrics and in checkpoints' names. Every random number comes
    from the seed and the round, so a run that is interrupted and taken up again ends with the bits
    of one that was not (same machine, same seeds together).

    Args:
        runs: A folder for each seed. Beside metrics and checkpoints it gets maze.npz; see
            :mod:`nfrl.training.snapshots`.
        seeds: The seeds.
        agent_config: Builds the agents.
        training: How long, and on how much at a time.
        world: Where.
        report: Told the step and the metrics, averaged over seeds, after each chunk. The first
            chunk is the prefill, whose metrics have no losses.

    Returns:
        The trained agents, in the order of the seeds.

    Raises:
        NonFiniteLossError: A loss was not finite.
        UserError: The values do not fit the maze, a checkpoint is cut short or belongs to another
            configuration, or the disk is full.
        KeyboardInterrupt: After the chunk in hand was finished and saved.
    """
    training.check(world)
    init_keys, keys = seed_keys(seeds)
    # One by one and uncompiled: compiling what runs once takes longer than running it.
    states: Any = stack([initial_state(agent_config, training, world, key) for key in init_keys])
    states, start = restore(runs, states)
    for run in runs:
        snapshots.truncate(run, world, start)
    mesh = mesh_of(training.devices, len(seeds))
    states = spread(states, mesh)
    play = compile_rounds(states, training, world, mesh)
    draw = compile_snapshot(states, world, mesh)
    successes = np.empty(0)

    def advance(states: Any, begin: int, end: int) -> tuple[Any, list[Line]]:
        nonlocal successes
        first, last = begin // training.round_steps, end // training.round_steps
        states, metrics = play(states, keys, first, last - first)
        host = {name: np.asarray(value) for name, value in metrics.items()}
        learns = first >= training.prefill_rounds
        finite, updates = host.pop(FINITE_UPDATES), (last - first) * training.updates * learns
        for i, run in enumerate(runs):
            if finite[i] < updates:
                bad = first + int(finite[i]) // training.updates
                state: Any = take(states, i)
                raise _non_finite(run, seeds[i], bad, state, training)
        done = max(last - training.prefill_rounds, 0) * training.updates
        host["updates"] = np.full(len(runs), done)
        successes = host["successes"]
        return states, [
            {"environment_steps": end} | {name: value[i].tolist() for name, value in host.items()}
            for i in range(len(runs))
        ]

    def due(step: int) -> bool:
        rounds = step // training.round_steps
        regular = (rounds - training.prefill_rounds) % training.checkpoint_every == 0
        return regular or rounds == training.rounds

    def save_all(states: Any, step: int) -> None:
        if due(step):
            drawn = draw(states)
            for i, run in enumerate(runs):
                picture = {name: value[i] for name, value in drawn.items()}
                picture |= {"steps": np.asarray(step), "successes": successes[i]}
                snapshots.add(run, world, picture)
        save(runs, states, step, training.keep)

    spans = [(a * training.round_steps, b * training.round_steps) for a, b in _spans(training)]
    states = loop(runs, states, start, spans, advance, save_all, due=due, report=report)
    finished: Any = [take(states, i) for i in range(len(runs))]
    return [state.agent for state in finished]


def load_explorer(
    run: RunFolder, agent_config: AgentConfig, world: World, step: int | None = None
) -> Explorer:
    """Load a run's agent, and nothing else, from its latest checkpoint or from that of a step.

    Raises:
        UserError: There is no checkpoint, or it is cut short.
    """
    found = checkpoints.steps_in(run.checkpoints)
    if not found:
        raise UserError(f"{run.path} has no checkpoint yet")
    step = max(found) if step is None else step
    agent = checkpoints.outline(lambda: agent_config.build(jr.key(0), spec_of(world), 0))
    like: Any = Exploration(agent, None, None, None, None)  # type: ignore[arg-type]
    return checkpoints.load(checkpoints.path_of(run.checkpoints, step), like).agent


def compile_rounds(
    states: Exploration, training: ExploreTraining, world: World, mesh: Mesh | None = None
) -> Callable[[Exploration, Array, int, int], tuple[Exploration, dict[str, Array]]]:
    """Compile many rounds and an evaluation into one call; the states passed to it are consumed.

    Args:
        states: Stacked along a first axis, one a seed.
        training: Sizes.
        world: Where.
        mesh: Of several devices, over which the states are spread.

    Returns:
        A function of (states, keys, round, count) that makes ``count`` rounds from a round on,
        all of them before or all of them after the prefill's end, and returns the states and
        their metrics: of updates, averaged; of the evaluation, and of the coverage.
    """
    _, static = eqx.partition(states, eqx.is_array)

    def one_seed(dynamic: Any, key: PRNGKeyArray, first: Array, count: int, learning: bool) -> Any:
        def one_round(dynamic: Any, index: Array) -> tuple[Any, dict[str, Array]]:
            state = eqx.combine(dynamic, static)
            state, metrics = play_round(state, training, world, index, key, learning)
            return eqx.filter(state, eqx.is_array), metrics

        dynamic, each = jax.lax.scan(one_round, dynamic, first + jnp.arange(count))
        state = eqx.combine(dynamic, static)
        flat = jax.tree.map(jnp.ravel, each)
        metrics = mean_metrics(flat)
        metrics[FINITE_UPDATES] = jnp.asarray(0)
        if learning:
            total = count * training.updates
            names = ("loss", "grad_norm", "actor_loss", "actor_grad_norm")
            finite = jnp.stack([jnp.isfinite(flat[name]) for name in names]).all(0)
            metrics[FINITE_UPDATES] = jnp.where(finite.all(), total, jnp.argmin(finite))
        evaluate_key = _round_keys(key, first + count - 1)[3]
        metrics |= evaluate(state.agent, world, training.evaluation_episodes, evaluate_key)
        seen = ((state.visits > 0) & world.free).sum()
        metrics |= {"cells": seen, "coverage": seen / world.free.sum()}
        return dynamic, metrics

    @partial(jax.jit, static_argnames=("count", "learning"), donate_argnames="dynamic")
    def advance(dynamic: Any, keys: Array, begin: Array, count: int, learning: bool) -> Any:
        # The round is the same for all seeds, so that what depends on it alone stays a branch.
        def one(share: tuple[Any, Array], begin: Array) -> Any:
            return one_seed(*share, begin, count, learning)

        return over_seeds(one, (dynamic, keys), begin, mesh)

    def call(
        states: Exploration, keys: Array, begin: int, count: int
    ) -> tuple[Exploration, dict[str, Array]]:
        dynamic = eqx.filter(states, eqx.is_array)
        learning = begin >= training.prefill_rounds
        first = jnp.asarray(begin)
        dynamic, metrics = advance(dynamic, spread(keys, mesh), first, count, learning)
        return eqx.combine(dynamic, static), metrics

    return call


def evaluate(
    agent: Explorer, world: World, episodes: int, key: PRNGKeyArray
) -> dict[str, Float[Array, "..."]]:
    """Run the policy without its noise to every evaluation goal.

    Args:
        agent: The agent.
        world: Where.
        episodes: Episodes for each goal.
        key: Random key of the resets.

    Returns:
        ``success``: the share of episodes that come within 0.5 of the goal at any time;
        ``success_easy``: within 2; ``success_hard``: as the first, of the far goals alone;
        ``successes``: as the first, of each goal.
    """
    robot, (near, easy) = world.robot, world.radii
    goals = jnp.repeat(world.goals, episodes, axis=0)
    robots = jax.vmap(robot.reset)(jr.split(key, len(goals)))

    def step(robots: Any, _: None) -> tuple[Any, Array]:
        actions = jax.vmap(agent.policy.mode)(jax.vmap(robot.observation)(robots), goals)
        robots = jax.vmap(robot.step)(robots, actions)
        places = world.goal_of(jax.vmap(robot.observation)(robots))
        return robots, jnp.linalg.norm(places - goals, axis=-1)

    _, distances = jax.lax.scan(step, robots, None, length=robot.episode_length)
    nearest = distances.min(0).reshape(-1, episodes)
    successes = (nearest < near).mean(1)
    return {
        "success": successes.mean(),
        "success_easy": (nearest < easy).mean(),
        "success_hard": successes.mean(where=world.is_far),
        "successes": successes,
    }


def compile_snapshot(
    states: Exploration, world: World, mesh: Mesh | None = None
) -> Callable[[Exploration], dict[str, np.ndarray]]:
    """Compile the world's snapshot for states stacked along a first axis."""
    _, static = eqx.partition(states, eqx.is_array)

    def one_seed(dynamic: Any, _: None) -> dict[str, Array]:
        state = eqx.combine(dynamic, static)
        return world.snapshot(state.agent, state.goals, state.visits)

    draw = jax.jit(lambda dynamic: over_seeds(one_seed, dynamic, None, mesh))
    return lambda states: jax.tree.map(np.asarray, draw(eqx.filter(states, eqx.is_array)))


# One round


def play_round(
    state: Exploration,
    training: ExploreTraining,
    world: World,
    index: Array,
    key: PRNGKeyArray,
    learning: bool,
) -> tuple[Exploration, dict[str, Array]]:
    """Command goals if it is time, move, and learn unless the buffer is still being filled.

    Args:
        state: Of one seed.
        training: Sizes.
        world: Where.
        index: The round's number, from 0.
        key: The seed's.
        learning: Whether to learn.
    """
    command_key, act_key, learn_key, _ = _round_keys(key, index)
    state = command(state, training, world, index, command_key)
    state = move(state, training, world, index, act_key)
    return learn(state, training, world, learn_key) if learning else (state, {})


def initial_state(
    config: AgentConfig, training: ExploreTraining, world: World, key: PRNGKeyArray
) -> Exploration:
    """Return what one seed's run begins with."""
    robot, count = world.robot, training.environments
    return Exploration(
        config.build(key, spec_of(world), 0),
        # The first round resets them; this gives the shapes.
        jax.vmap(robot.reset)(jr.split(key, count)),
        jnp.zeros((count, 2)),
        GoalReplay.empty(count, training.buffer_steps, robot.observation_dim, robot.action_dim),
        jnp.zeros(world.free.shape, jnp.int32),
    )


def command(
    state: Exploration, training: ExploreTraining, world: World, index: Array, key: PRNGKeyArray
) -> Exploration:
    """Begin new episodes, and command new goals, if it is time."""
    agent, count = state.agent, training.environments

    def anew() -> tuple[Any, Array]:
        reset_key, draw_key, command_key = jr.split(key, 3)
        robots = jax.vmap(world.robot.reset)(jr.split(reset_key, count))
        starts = jax.vmap(world.robot.observation)(robots)
        if agent.commands_test_goals:
            goals = jnp.asarray(world.goals)
            candidates = jnp.broadcast_to(goals, (count, *goals.shape))
        else:
            drawn = world.goal_of(_candidates(state.replay, training, draw_key))
            # Before anything was seen there is only the start.
            candidates = jnp.where(state.replay.inserted > 0, drawn, world.goal_of(starts)[:, None])
        return robots, jax.lax.map(
            lambda each: agent.command(*each),
            (jr.split(command_key, count), candidates, starts),
            batch_size=COMMANDS_AT_ONCE,
        )

    begins = index % (world.robot.episode_length // training.unroll) == 0
    if training.command_every == "round" and not agent.commands_test_goals:
        robots, goals = anew()
        robots = jax.tree.map(lambda new, old: jnp.where(begins, new, old), robots, state.robots)
    else:
        robots, goals = jax.lax.cond(begins, anew, lambda: (state.robots, state.goals))
    return Exploration(agent, robots, goals, state.replay, state.visits)


def _candidates(
    buffer: GoalReplay, training: ExploreTraining, key: PRNGKeyArray
) -> Float[Array, "environments candidates observation"]:
    """Draw the states whose places each environment's command is chosen from."""
    shape = (training.environments, training.candidates)
    if training.candidate_goals == "rows":
        return replay.sample_observations(buffer, key, shape)
    goals = replay.sample(buffer, key, math.prod(shape), training.discount).goals
    return goals.reshape(*shape, -1)


def move(
    state: Exploration, training: ExploreTraining, world: World, index: Array, key: PRNGKeyArray
) -> Exploration:
    """Let every robot act towards its goal, and remember what happens."""
    robot, agent, count = world.robot, state.agent, training.environments

    def step(robots: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Array, Array]]:
        observations = jax.vmap(robot.observation)(robots)
        actions = jax.vmap(agent.act)(observations, state.goals, jr.split(key, count))
        return jax.vmap(robot.step)(robots, actions), (observations, actions)

    robots, rows = jax.lax.scan(step, state.robots, jr.split(key, training.unroll))
    observations, actions = (jnp.swapaxes(row, 0, 1) for row in rows)
    rounds = robot.episode_length // training.unroll
    begins = jnp.zeros((count, training.unroll), bool).at[:, 0].set(index % rounds == 0)
    cells = world.cell_of(world.goal_of(observations))
    cells = jnp.clip(cells, 0, jnp.asarray(world.free.shape) - 1)
    return Exploration(
        agent,
        robots,
        state.goals,
        replay.insert(state.replay, observations, actions, begins),
        state.visits.at[cells[..., 0], cells[..., 1]].add(1),
    )


def learn(
    state: Exploration, training: ExploreTraining, world: World, key: PRNGKeyArray
) -> tuple[Exploration, dict[str, Array]]:
    """Make a round's updates."""
    dynamic, static = eqx.partition(state.agent, eqx.is_array)

    def update(dynamic: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Array]]:
        batch_key, update_key = jr.split(key)
        batch = replay.sample(state.replay, batch_key, training.batch_size, training.discount)
        batch = batch._replace(goals=world.goal_of(batch.goals))
        agent, metrics = eqx.combine(dynamic, static).update(batch, update_key)
        return eqx.filter(agent, eqx.is_array), metrics

    dynamic, metrics = jax.lax.scan(update, dynamic, jr.split(key, training.updates))
    agent = eqx.combine(dynamic, static)
    return Exploration(agent, state.robots, state.goals, state.replay, state.visits), metrics


def _round_keys(key: PRNGKeyArray, index: Array) -> PRNGKeyArray:
    """Return a round's keys: of commands, of actions, of updates, of an evaluation after it."""
    return jr.split(jr.fold_in(key, index), 4)


def _spans(training: ExploreTraining) -> list[tuple[int, int]]:
    """Return the rounds that each stretch begins and ends with; the first is the prefill."""
    later = range(training.prefill_rounds, training.rounds, training.log_every)
    ends = [*later, training.rounds]
    return list(zip([0, *ends], ends, strict=False))


def _non_finite(
    run: RunFolder, seed: int, index: int, state: Exploration, training: ExploreTraining
) -> NonFiniteLossError:
    rows = min(int(state.replay.inserted), state.replay.capacity)
    held = {
        "observations": np.asarray(state.replay.observations)[:, :rows],
        "actions": np.asarray(state.replay.actions)[:, :rows],
    }
    return NonFiniteLossError(
        f"seed {seed}: a loss after {(index + 1) * training.round_steps} environment steps is not "
        f"finite; the buffer: {statistics(held)}; last good checkpoint: {last_checkpoint(run)}; "
        "more training noise or a lower learning rate help",
        seed,
    )
