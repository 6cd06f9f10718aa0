"""Agents as compiled functions that cost no more to call than they compute."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax

from nfrl.agents.parts.optimization import without_optimizer


def compile_for(agent: Any, function: Callable[..., Any]) -> Callable[[Any], Callable[..., Any]]:
    """Compile ``function(agent, *arrays)``, with the agent given ahead of the arrays.

    Taking an agent of a hundred weights apart takes Python longer than choosing an action takes
    the processor (``equinox.filter_jit`` does it every call), so it is done once an agent.

    Args:
        agent: What the agents will look like; its optimiser's state is left out.
        function: A pure function.

    Returns:
        A function of an agent of the same shape that returns the function of the arrays. It is
        compiled once for all of them.
    """
    dynamic, static = eqx.partition(without_optimizer(agent), eqx.is_array)
    structure = jax.tree.structure(dynamic)

    @jax.jit
    def compiled(leaves: list[jax.Array], *arrays: Any) -> Any:
        return function(eqx.combine(jax.tree.unflatten(structure, leaves), static), *arrays)

    def bind(agent: Any) -> Callable[..., Any]:
        return partial(
            compiled, jax.tree.leaves(eqx.filter(without_optimizer(agent), eqx.is_array))
        )

    return bind
