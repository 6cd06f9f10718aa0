"""Taking the time of several things in turn."""

import time
from collections.abc import Callable, Mapping

import numpy as np


def median_seconds(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Time each side ``rounds`` times, in turn, after once for compiling; return the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}
