"""``nfrl bench train`` and ``nfrl bench sample``: speed, beside what it is measured against."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.random as jr
import tyro
from rich.console import Console
from rich.table import Table

from nfrl.agents import AGENTS, build_agent
from nfrl.errors import UserError, unknown_name
from nfrl.experiment import commit, device, versions
from nfrl.files import write_json
from nfrl.speed import sampling_milliseconds, training_speed
from nfrl.tasks import find_task
from nfrl.training.presets import SUITES, PresetName, find_preset

# Sizes of cube-single: neither needs the simulator to be started.
OBSERVATION_DIM, ACTION_DIM = 28, 5
TASK_OF = {
    "gcbc": "cube-single-play-v0",
    "offline-rl": "cube-single-play-singletask-task2-v0",
    "imitation": "two-blocks",
}
"""Whose preset an agent is measured with."""
BATCHES = (1, 50, 1024)


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Measure the speed of agents on cube-single's sizes (28 observed numbers, 5-d actions)."""

    preset: PresetName = "paper"
    """Whose networks: "paper" or "laptop"."""
    agents: tuple[str, ...] = ("nf-gcbc", "gcbc", "fm-gcbc")
    """Which agents."""
    steps: int = 50
    """train: updates in a compiled chunk."""
    rounds: int = 5
    """train: how often each side is timed; the medians count."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl bench`` and do it."""
    action, *rest = arguments or [""]
    if action not in ("train", "sample"):
        print("usage: nfrl bench train [options]\n       nfrl bench sample [options]")
        if action not in ("-h", "--help"):
            raise UserError(f"bench takes train or sample, not {action!r}")
        return
    options = tyro.cli(BenchOptions, args=rest, prog=f"nfrl bench {action}")
    for agent in options.agents:
        if agent not in AGENTS:
            raise unknown_name("agent", agent, AGENTS)
    table, figures = (bench_train if action == "train" else bench_sample)(options)
    console = Console()
    console.print(table)
    console.print(device())
    if options.out is not None:
        record = {
            "bench": action,
            "preset": options.preset,
            "agents": figures,
            "device": device(),
            "versions": versions(),
            "commit": commit(),
        }
        write_json(options.out, json.loads(json.dumps(record)))


def bench_train(options: BenchOptions) -> tuple[Table, dict[str, Any]]:
    """Time training: compiled chunks, the plain loop, and the bare matrix products."""
    table = Table(
        "agent", "parameters", "steps/s", "plain loop", "gain", "GFLOP/s", "products alone", "share"
    )
    figures: dict[str, Any] = {}
    for agent in options.agents:
        speed = training_speed(
            _config(agent, options.preset),
            observation_dim=OBSERVATION_DIM,
            action_dim=ACTION_DIM,
            steps=options.steps,
            rounds=options.rounds,
        )
        table.add_row(
            agent,
            f"{speed.parameters:,}",
            f"{speed.steps_per_second:.1f}",
            f"{speed.plain_steps_per_second:.1f}",
            f"{speed.gain:.2f}x",
            _number(speed.gflops),
            _number(speed.product_gflops),
            "" if speed.share_of_products is None else f"{speed.share_of_products:.0%}",
        )
        figures[agent] = dataclasses.asdict(speed) | {
            "gain": speed.gain,
            "share_of_products": speed.share_of_products,
        }
    return table, figures


def bench_sample(options: BenchOptions) -> tuple[Table, dict[str, Any]]:
    """Time the choice of 1, 50 and 1024 actions."""
    table = Table("agent", *(f"{batch} action{'s' * (batch > 1)}, ms" for batch in BATCHES))
    figures: dict[str, Any] = {}
    for agent in options.agents:
        config = _config(agent, options.preset)
        built = build_agent(config, jr.key(0), OBSERVATION_DIM, ACTION_DIM, 1)
        times = {batch: sampling_milliseconds(built, OBSERVATION_DIM, batch) for batch in BATCHES}
        table.add_row(agent, *(f"{value:.2f}" for value in times.values()))
        figures[agent] = {f"milliseconds_{batch}": value for batch, value in times.items()}
    return table, figures


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _config(agent: str, preset: PresetName) -> Any:
    task = next(TASK_OF[suite] for suite, (_, fitting) in SUITES.items() if agent in fitting)
    return find_preset(preset, agent, find_task(task)).agent
