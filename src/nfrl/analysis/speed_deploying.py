"""How long a policy takes for one action where it is deployed: the distribution, not the mean."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfrl.acting.policy import Policy
from nfrl.exporting.exported_policy import ExportedPolicy

PRODUCTS = "products"


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds of one choice of an action, or of a chunk of them."""

    median: float
    p99: float
    """The 99th percentile."""


def deploying_speed(
    policy: Policy, formats: Sequence[str], *, calls: int = 1000, budget_seconds: float = 20.0
) -> dict[str, Latency]:
    """Measure a policy here and exported, on one thread where that can be chosen.

    Beside it stands ``products``: its products of a vector and a matrix of weights, one after the
    other in NumPy and nothing else. For one observation these are what reading the weights takes.

    The ways take turns, call by call, so that whatever else the machine does meets all alike. At
    each call the policy has just begun an episode, so that one that plans chunks plans.

    Args:
        policy: The policy; how it was trained does not matter.
        formats: What to export it to.
        calls: Of each way.
        budget_seconds: Stop after so long, with at least 20 calls.
    """
    observation = np.ones(policy.spec.width, np.float32)
    goal = observation if policy.agent.capabilities.goals else None
    with tempfile.TemporaryDirectory() as folder:
        exported = {}
        for each in formats:
            policy.export(Path(folder) / each, to=each)
            exported[each] = ExportedPolicy(Path(folder) / each)

        def acts(one: Policy | ExportedPolicy) -> Callable[[], None]:
            def act() -> None:
                one.reset()
                one(observation, goal)

            return act

        ways = {"jax": acts(policy)} | {each: acts(one) for each, one in exported.items()}
        ways[PRODUCTS] = _products(policy, Path(folder) / PRODUCTS)
        for act in ways.values():
            for _ in range(3):  # compiles, and warms the caches
                act()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        began = time.perf_counter()
        for i in range(calls):
            if i >= 20 and time.perf_counter() - began > budget_seconds:
                break
            for name, act in ways.items():
                start = time.perf_counter()
                act()
                seconds[name].append(time.perf_counter() - start)
    return {
        name: Latency(*(1000 * float(np.percentile(each, q)) for q in (50, 99)))
        for name, each in seconds.items()
    }


def _products(policy: Policy, folder: Path) -> Callable[[], None]:
    """Return the products of a policy's acting alone."""
    from safetensors.numpy import load_file

    policy.export(folder, to="numpy")
    weights = load_file(folder / "weights.safetensors")
    program = json.loads((folder / "programs.json").read_text(encoding="utf-8"))["act"]
    matrices = list(_matrices(program, weights))
    pairs = [(np.ones(len(matrix), np.float32), matrix) for matrix in matrices]

    def multiply() -> None:
        for vector, matrix in pairs:
            vector @ matrix

    return multiply


def _matrices(program: dict[str, Any], weights: dict[str, Any]) -> list[np.ndarray]:
    """Return the weights of a program's products in order, those of a loop at every turn."""
    found = []
    for each in program["operations"]:
        if each["kind"] == "MatMul" and each["inputs"][1] in weights:
            found.append(weights[each["inputs"][1]])
        elif "body" in each:
            found += _matrices(each["body"], weights) * each["attributes"]["length"]
    return found
