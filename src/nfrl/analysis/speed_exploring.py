"""Speed of exploring: all in one compiled program, beside the same loop driven from Python."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from nfrl.analysis.speed_timing import median_seconds
from nfrl.files import void
from nfrl.interfaces.agent import AgentConfig
from nfrl.interfaces.explorer import World
from nfrl.training.exploring import (
    Exploration,
    ExploreTraining,
    command,
    initial_state,
    learn,
    move,
    play_round,
)


@dataclasses.dataclass(frozen=True)
class ExploringSpeed:
    """What :func:`exploring_speed` measured: medians over its rounds, an episode long each."""

    steps_per_second: float
    """Environment steps, learning included."""
    updates_per_second: float
    """Gradient steps, moving included."""
    learning: float
    """Seconds of an episode that its updates take alone."""
    moving: float
    """Seconds that acting, stepping and remembering take alone."""
    commanding: float
    """Seconds that the choice of goals takes alone."""
    driven_steps_per_second: float
    """Environment steps of the same loop in Python: a compiled call for each step of all
    environments and for each update, whose metrics are read back."""
    environment_steps_per_second: float
    """Of the environments alone, all actions zero."""

    @property
    def gain(self) -> float:
        """How many times as fast as the loop in Python."""
        return self.steps_per_second / self.driven_steps_per_second


def exploring_speed(
    config: AgentConfig, training: ExploreTraining, world: World, *, rounds: int = 3
) -> ExploringSpeed:
    """Measure an explorer in a maze, one seed, after the buffer was filled.

    Args:
        config: The agent.
        training: Sizes.
        world: Where.
        rounds: How often each side is timed.

    Raises:
        UserError: The sizes do not fit the world.
    """
    training.check(world)
    episode = world.robot.episode_length
    key = jr.key(0)
    state = initial_state(config, training, world, key)
    dynamic, static = eqx.partition(state, eqx.is_array)

    def compiled(change: Callable[..., tuple[Exploration, Any]]) -> Callable[[Any], Any]:
        """Compile what changes a state with a key, as a function of the state's arrays."""

        @jax.jit
        def changed(dynamic: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
            state, metrics = change(eqx.combine(dynamic, static), key)
            return eqx.filter(state, eqx.is_array), metrics

        # An argument: of a constant key the compiler would draw the random numbers beforehand.
        return lambda dynamic: changed(dynamic, key)

    def rounds_of_episode(
        state: Exploration, key: PRNGKeyArray, learning: bool
    ) -> tuple[Exploration, Any]:
        def one(dynamic: Any, index: Array) -> tuple[Any, Any]:
            state = eqx.combine(dynamic, static)
            state, metrics = play_round(state, training, world, index, key, learning)
            return eqx.filter(state, eqx.is_array), metrics

        indices = jnp.arange(episode // training.unroll)
        dynamic, metrics = jax.lax.scan(one, eqx.filter(state, eqx.is_array), indices)
        return eqx.combine(dynamic, static), metrics

    fill = compiled(partial(rounds_of_episode, learning=False))
    for _ in range(-(-training.prefill_rounds * training.unroll // episode)):
        dynamic, _ = fill(dynamic)
    updates = training.updates * episode // training.unroll
    one_step = dataclasses.replace(training, unroll=1, updates=1)
    every = dataclasses.replace(training, unroll=episode, updates=updates)
    zero = jnp.asarray(0)
    whole = compiled(partial(rounds_of_episode, learning=True))
    parts = {
        "commanding": compiled(lambda state, key: (command(state, every, world, zero, key), None)),
        "moving": compiled(lambda state, key: (move(state, every, world, zero, key), None)),
        "learning": compiled(lambda state, key: learn(state, every, world, key)),
    }
    step = compiled(lambda state, key: (move(state, one_step, world, zero, key), None))
    update = compiled(lambda state, key: learn(state, one_step, world, key))

    def driven() -> None:
        current, _ = parts["commanding"](dynamic)
        for _ in range(episode):
            current, _ = step(current)
        for _ in range(updates):
            current, metrics = update(current)
            _ = {name: float(value[0]) for name, value in metrics.items()}
        jax.block_until_ready(current)

    @jax.jit
    def environment(robots: Any) -> Any:
        actions = jnp.zeros((training.environments, world.robot.action_dim))

        def one(robots: Any, _: None) -> tuple[Any, None]:
            return jax.vmap(world.robot.step)(robots, actions), None

        return jax.lax.scan(one, robots, None, length=episode)[0]

    def timed(function: Callable[[Any], Any], argument: Any) -> Callable[[], None]:
        return lambda: void(jax.block_until_ready(function(argument)))

    sides = {name: timed(part, dynamic) for name, part in parts.items()}
    sides |= {
        "whole": timed(whole, dynamic),
        "driven": driven,
        "environment": timed(environment, dynamic.robots),
    }
    seconds = median_seconds(sides, rounds)
    steps = episode * training.environments
    return ExploringSpeed(
        steps_per_second=steps / seconds["whole"],
        updates_per_second=updates / seconds["whole"],
        learning=seconds["learning"],
        moving=seconds["moving"],
        commanding=seconds["commanding"],
        driven_steps_per_second=steps / seconds["driven"],
        environment_steps_per_second=steps / seconds["environment"],
    )
