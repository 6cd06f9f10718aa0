"""Measure training on one accelerator, in one call that stops by the clock.

    python scripts/accelerator.py --out accelerator --seconds 560

What is measured, the most wanted first:

1. the plain loop, the compiled one and the bare matrix products, at the paper's size and batch
   (``nfrl bench train``);
2. updates a second and kernels with each of XLA's settings below, at the paper's batch and at a
   large one, for few seeds;
3. updates a second against batch size and seeds with the fastest of them: the figure.

Each is a command of its own: one that fails, or has no time left, leaves the others' records. The
folder holds a JSON file of each, what each command printed, and ``accelerator.json`` of all. Copy
that to ``results/bench/``, and the picture to ``docs/pictures/``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nfrl.files import write_json

SETTINGS = {
    "default": "",
    "no command buffers": "--xla_gpu_enable_command_buffer=",
    "command buffers round loops": "--xla_gpu_graph_min_graph_size=1 "
    "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE,CONDITIONAL",
    "loops unrolled twice": "--xla_gpu_enable_while_loop_unrolling="
    "WHILE_LOOP_UNROLLING_DOUBLE_BUFFER",
    "no Triton": "--xla_gpu_enable_triton_gemm=false",
}
"""What XLA is told, in ``XLA_FLAGS``."""
PROVENANCE = ("device", "versions", "commit")
LEAST_SECONDS = 45.0
"""A command that would have less than this is not begun."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure until all is done or the time is up; return how many commands failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the records")
    parser.add_argument("--seconds", type=float, default=560.0, help="when to stop")
    parser.add_argument("--agent", default="nf-gcbc", help="which agent")
    parser.add_argument("--preset", default="paper", help="whose networks")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[256, 1024, 2048, 4096])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=200, help="updates in a compiled call")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    clock = _Clock(options.seconds)
    common = ("--preset", options.preset, "--steps", str(options.steps))
    record: dict[str, Any] = {"bench": "accelerator", "settings": SETTINGS}

    def measure(name: str, *bench: str, setting: str = "default") -> dict[str, Any] | None:
        found = _bench(options.out, name, bench, SETTINGS[setting], clock)
        record[name] = found
        # As the commands say: who asks JAX for its device takes most of the device's memory.
        record.update({key: found[key] for key in PROVENANCE} if found else {})
        write_json(options.out / "accelerator.json", record)
        return found

    measure("train", "train", *common, "--agents", options.agent, "--rounds", "3")
    first, large = options.batch_sizes[0], options.batch_sizes[len(options.batch_sizes) // 2]
    common += ("--agent", options.agent)
    some = ("--batch-sizes", str(first), str(large), "--seeds", *map(str, options.seeds[:2]))
    tried = {
        name: measure(f"scale, {name}", "scale", *common, *some, "--rounds", "2", setting=name)
        for name in options.settings
    }
    fastest = fastest_of(tried)
    if fastest is not None:
        record["fastest"] = fastest
        grid = ("--batch-sizes", *map(str, options.batch_sizes))
        grid += ("--seeds", *map(str, options.seeds), "--rounds", "2")
        picture = ("--picture", str(options.out / "accelerator.png"))
        measure("scale", "scale", *common, *grid, *picture, setting=fastest)
    failed = [name for name, found in record.items() if found is None]
    for name in failed:
        print(f"not measured: {name}", file=sys.stderr)
    return len(failed)


def fastest_of(tried: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    """Return the setting with the most updates a second of one seed at the first batch size."""
    rates = {
        name: found["points"][0]["updates_per_second"]
        for name, found in tried.items()
        if found is not None
    }
    return max(rates, key=rates.__getitem__, default=None)


class _Clock:
    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()


def _bench(
    folder: Path, name: str, words: Sequence[str], flags: str, clock: _Clock
) -> dict[str, Any] | None:
    """Run one ``nfrl bench`` in a process of its own; None if it failed or had no time."""
    if clock.left < LEAST_SECONDS:
        return None
    stem = name.replace(", ", "-").replace(" ", "-")
    out = folder / f"{stem}.json"
    command = [sys.executable, "-m", "nfrl.cli.main", "bench", *words, "--out", str(out)]
    given = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    environment = {**os.environ, "XLA_FLAGS": given}
    started = time.monotonic()
    with open(folder / f"{stem}.txt", "wb") as log:
        try:
            subprocess.run(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=clock.left,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{name}: {error}; see {log.name}", file=sys.stderr)
            return None
    print(f"{name}: {time.monotonic() - started:.0f} s, {clock.left:.0f} s left", flush=True)
    return json.loads(out.read_text()) | {"xla_flags": flags}


if __name__ == "__main__":
    sys.exit(main())
