"""What an exported policy can be asked, as functions of arrays alone."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from nfrl.exporting.draws import Draw, with_draws
from nfrl.exporting.program import Port
from nfrl.interfaces.agent import Agent
from nfrl.spec import Spec


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of a policy.

    Attributes:
        call: Of the inputs, in their order, to one array.
        inputs: Their names, shapes and types.
        output: What it returns.
        meaning: Of inputs and output, in words and units, by name.
    """

    call: Callable[..., Array]
    inputs: tuple[Port, ...]
    output: str
    meaning: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Functions:
    """All functions of a policy: ``act``, and where it has them ``log_prob`` and ``q``.

    Attributes:
        by_name: The functions.
        draws: What ``act`` is given of random numbers, by the name of the input.
    """

    by_name: dict[str, Function]
    draws: dict[str, Draw]


def functions_of(agent: Agent, spec: Spec) -> Functions:
    """Return the functions of an agent's policy.

    Normalisation, denoising, the translation of units and the choice among candidates are inside.

    Args:
        agent: The agent.
        spec: What it observes and does.

    Raises:
        UserError: It acts in a way that cannot be written as a function of arrays.
    """
    can = agent.capabilities
    history = () if can.history is None else (can.history,)
    planned = () if can.predicted is None else (can.predicted,)
    observation = Port("observation", (*history, spec.width))
    goal = (Port("goal", (spec.width,)),) if can.goals else ()
    action = Port("action", (*planned, spec.action_dim))
    meaning = _meaning(agent, spec)

    def act(observation: Array, *goal: Array) -> Array:
        return agent.act(observation, _goal_or_none(goal), jr.key(0))

    shapes = [jax.ShapeDtypeStruct(each.shape, jnp.float32) for each in (observation, *goal)]
    drawn, draws = with_draws(act, *shapes)
    names = ["latent"] if len(draws) == 1 else [f"latent_{i + 1}" for i in range(len(draws))]
    latents = tuple(Port(name, draw.shape) for name, draw in zip(names, draws, strict=True))
    found = {"act": Function(drawn, (observation, *goal, *latents), "action", meaning)}
    if can.likelihood:
        found["log_prob"] = _valued(agent, "log_prob", (observation, *goal, action), meaning)
    if can.values:
        found["q"] = _valued(agent, "q", (observation, *goal, action), meaning)
    return Functions(found, dict(zip(names, draws, strict=True)))


def _valued(agent: Agent, name: str, inputs: tuple[Port, ...], meaning: dict[str, str]) -> Function:
    method: Any = getattr(agent, name)

    def call(observation: Array, *rest: Array) -> Array:
        *goal, action = rest
        return method(observation, _goal_or_none(goal), action)

    shapes = [jax.ShapeDtypeStruct(each.shape, jnp.float32) for each in inputs]
    folded, _ = with_draws(call, *shapes)
    return Function(folded, inputs, name, meaning)


def _goal_or_none(goal: Sequence[Array]) -> Array:
    """Return the goal that is given; one of no width to an agent that seeks none."""
    return goal[0] if goal else jnp.zeros(0)


def _meaning(agent: Agent, spec: Spec) -> dict[str, str]:
    can = agent.capabilities
    layout = ", ".join(f"{name} {each.shape}" for name, each in spec.observation.items())
    latest = (
        ""
        if can.history is None
        else f"; the latest {can.history} of them, the present one last; at the beginning of an "
        "episode the first one is repeated"
    )
    executed = "" if can.predicted is None else f"; the first {can.executed} rows are executed"
    return {
        "observation": f"one after the other: {layout}, in the units of the data{latest}",
        "goal": "an observation of where to go; only the columns that decide success count"
        if spec.goal_columns
        else "an observation of where to go",
        "action": f"in the units of the data, within their bounds{executed}",
        "latent": "random numbers, drawn anew for each call",
        "log_prob": "the log-density, in nats and in the units of the data",
        "q": "the critic's discounted sum of rewards",
    }
