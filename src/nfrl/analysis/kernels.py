"""How many kernels an update is: what an accelerator must start, one after the other."""

import re
from collections import Counter

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from nfrl.data.dataset import Dataset
from nfrl.interfaces.agent import Agent
from nfrl.training.updates import batch_key, update_key

_NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call"}
_PRODUCTS = re.compile(r"dot|gemm|matmul|convolution", re.IGNORECASE)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*? ([a-z][a-z\-]*)\(")
_LOOP = re.compile(r"\bwhile\(.*\bbody=%?([\w.\-]+)")


def count_kernels(agent: Agent, data: Dataset, batch_size: int) -> dict[str, int]:
    """Count the kernels of one update, its batch included, in the program that XLA compiles.

    What counts is each operation that the loop of updates has left after XLA's fusion, on the
    device that JAX uses. On a GPU each is a kernel that is started; on a CPU it is a call. A loop
    inside an update, such as a CPU's random numbers, counts once.

    Args:
        agent: Any agent that learns from data.
        data: What its batches come from.
        batch_size: Of a batch.

    Returns:
        ``products``: matrix products; ``others``; and ``all`` of them.
    """
    dynamic, static = eqx.partition(agent, eqx.is_array)

    def updates(dynamic, key, data):
        def update(dynamic, step):
            agent = eqx.combine(dynamic, static)
            batch = agent.draw(data, batch_key(key, step), batch_size)
            agent, metrics = agent.update(batch, update_key(key, step))
            return eqx.filter(agent, eqx.is_array), metrics

        return jax.lax.scan(update, dynamic, jnp.arange(50))

    lowered = jax.jit(updates, donate_argnums=0).lower(dynamic, jr.key(0), data)
    return kernels_of(lowered.compile().as_text() or "")


def kernels_of(program: str) -> dict[str, int]:
    """Count the kernels in the largest loop of a compiled program, given as XLA prints it.

    Raises:
        ValueError: It has no loop.
    """
    bodies: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            lines = bodies.setdefault(found[1], [])
        else:
            lines.append(line)
    loops = [found[1] for lines in bodies.values() for x in lines if (found := _LOOP.search(x))]
    counts = [_count(bodies, name) for name in loops]
    if not counts:
        raise ValueError("the program has no loop of updates")
    largest = max(counts, key=lambda count: count.total())
    return {
        "products": largest["products"],
        "others": largest["others"],
        "all": largest.total(),
    }


def _count(bodies: dict[str, list[str]], name: str) -> Counter[str]:
    """Count one computation's kernels, and once those of the loops in it."""
    found: Counter[str] = Counter()
    for line in bodies[name]:
        if loop := _LOOP.search(line):
            found += _count(bodies, loop[1])
        instruction = _INSTRUCTION.match(line)
        if instruction is None or instruction[1] in _NO_KERNEL:
            continue
        # A product stands alone, or in a call of a library, or with what follows it in a fusion.
        called = re.search(r'(?:calls|to_apply)=%?([\w.\-]+)|custom_call_target="([^"]*)"', line)
        inside = "" if called is None else "\n".join(bodies.get(called[1] or "", [called[2] or ""]))
        kinds = f"{instruction[1]} {inside}"
        found["products" if _PRODUCTS.search(kinds) else "others"] += 1
    return found
