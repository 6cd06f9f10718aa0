"""``nfrl bench``: speed beside what it is measured against, and densities beside the true ones."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax.random as jr
import tyro
from rich.console import Console
from rich.table import Table

from nfrl import registry
from nfrl.acting.policy import Policy
from nfrl.agents.configs import agents_that, find_config
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.analysis.flow_kinds import KINDS, flow_speeds
from nfrl.analysis.kernels import count_kernels
from nfrl.analysis.multimodality import DENSITIES, MODELS, compare, true_samples
from nfrl.analysis.speed_collecting import collecting_speed
from nfrl.analysis.speed_deploying import PRODUCTS, deploying_speed
from nfrl.analysis.speed_exploring import exploring_speed
from nfrl.analysis.speed_flowjax import beside_flowjax
from nfrl.analysis.speed_scaling import scaling_speed
from nfrl.analysis.speed_starting import starting_speed
from nfrl.analysis.speed_streaming import streaming_speed, write_random
from nfrl.analysis.speed_training import sampling_milliseconds, synthetic, training_speed
from nfrl.errors import UserError, unknown_name
from nfrl.files import temporary_folder, write_atomically, write_json
from nfrl.networks import count_parameters
from nfrl.presets import Preset, family_of, find_preset
from nfrl.progress import progress
from nfrl.reports.flow_kinds import flow_kinds
from nfrl.reports.modes import mode_samples
from nfrl.reports.scaling import scaling, scaling_figure
from nfrl.reports.streaming import streaming
from nfrl.reports.style import png
from nfrl.reports.table import Table as PageTable
from nfrl.reports.tables import update_readme
from nfrl.runs.provenance import device, provenance
from nfrl.spec import Spec
from nfrl.task import find_task
from nfrl.training.exploring import ExploreTraining

# Sizes of cube-single: neither needs the simulator to be started.
OBSERVATION_DIM, ACTION_DIM = 28, 5
TASK_OF = {
    "gcbc": "cube-single-play-v0",
    "offline-rl": "cube-single-play-singletask-task2-v0",
    "imitation": "two-blocks",
}
"""Whose preset an agent is measured with."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Measure training on cube-single's sizes (28 observed numbers, 5-d actions)."""

    preset: str = "paper"
    """Whose networks and batches: "paper" or "laptop"."""
    agents: tuple[str, ...] = ("nf-gcbc", "gcbc", "fm-gcbc")
    """Which agents."""
    steps: int = 50
    """Updates in a compiled call."""
    rounds: int = 5
    """How often each side is timed; the medians count."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class ScaleOptions:
    """Measure training against the size of a batch and the number of seeds, beside its limit.

    On cube-single's sizes (28 observed numbers, 5-d actions). The limit are the bare matrix
    products of an update. The kernels of an update are counted, too.
    """

    agent: str = "nf-gcbc"
    """Which agent; one that imitates with goals, whose products can be told."""
    preset: str = "paper"
    """Whose networks: "paper" or "laptop"."""
    batch_sizes: tuple[int, ...] = (64, 256, 1024)
    """Transitions an update."""
    seeds: tuple[int, ...] = (1, 4)
    """Agents that train at once: side by side on an accelerator, in turn on a CPU."""
    steps: int = 20
    """Updates of each seed in a compiled call."""
    rounds: int = 3
    """How often each is timed; the medians count."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""
    page: Path | None = None
    """A Markdown file whose table, between <!-- results:scaling --> marks, is made anew."""
    picture: Path | None = None
    """A PNG file to draw them to."""


@dataclasses.dataclass(frozen=True)
class FlowjaxOptions:
    """Train nf-gcbc with our flow and with flowjax's coupling flow of equal arithmetic, in turn.

    On cube-single's sizes (28 observed numbers, 5-d actions).
    """

    preset: str = "paper"
    """Whose networks and batches: "paper" or "laptop"."""
    steps: int = 20
    """Updates in a compiled call."""
    rounds: int = 5
    """How often each side is timed; the medians count."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """Measure the time from the command to the first update: the first time, and again.

    Random data of cube-single's sizes (28 observed numbers, 5-d actions) are trained on by the
    command that a user gives.
    """

    agents: tuple[str, ...] = ("gcbc", "nf-gcbc")
    """Which agents."""
    preset: str = "laptop"
    """Whose networks: "paper" or "laptop"."""
    again: int = 3
    """How many times after the first; the median counts."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class SampleOptions:
    """Measure the choice of actions on cube-single's sizes (28 observed numbers, 5-d actions)."""

    preset: str = "paper"
    """Whose networks: "paper" or "laptop"."""
    agents: tuple[str, ...] = ("nf-gcbc", "gcbc", "fm-gcbc")
    """Which agents."""
    batches: tuple[int, ...] = (1, 50, 1024)
    """How many actions (or chunks of them) are chosen at once."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class DeployOptions:
    """Measure one choice of an action as a robot's loop meets it: in JAX, and exported.

    On cube-single's sizes (28 observed numbers, 5-d actions), one action or one chunk at a time.
    """

    agents: tuple[str, ...] = ("nf-gcbc", "fm-gcbc", "nf-bc", "fm-bc", "diffusion-bc")
    """Which agents; AGENT:PRESET for networks of another preset than "laptop"."""
    formats: tuple[str, ...] = ("onnx", "numpy")
    """What to export to."""
    calls: int = 1000
    """Of each agent and format."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """Measure explorers in a maze, one seed: all in one compiled program, and its parts alone."""

    maze: str = "point-big-maze"
    """Where."""
    preset: str = "laptop"
    """Whose sizes: "paper" or "laptop"."""
    agents: tuple[str, ...] = ("nf-ugs", "crl-oracle", "crl-uniform", "crl-minmax")
    """Which agents."""
    batch_size: int | None = None
    """Transitions an update, if not the preset's."""
    rounds: int = 3
    """How often each side is timed, an episode of all environments each time."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Measure the making of data: stored steps a second, beside the bare simulator's."""

    datasets: tuple[str, ...] = tuple(
        f"antmaze-{size}-navigate-v0" for size in ("medium", "large", "giant", "teleport")
    )
    """Which data sets."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of worker processes."""
    episodes: int = 10
    """Episodes of the smaller of the two data sets that are made for a rate."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """Measure training on data that stay on the disk: its rate and memory, beside the device's.

    Random data of cube-single's sizes (28 observed numbers, 5-d actions) are written, and trained
    on by the command that a user gives.
    """

    rows: tuple[int, ...] = (1_000_000, 10_000_000)
    """Transitions, a thousand a trajectory. The largest take 132 bytes each of the disk."""
    agents: tuple[str, ...] = ("gcbc", "nf-gcbc")
    """Which agents."""
    preset: str = "laptop"
    """Whose networks and batches: "paper" or "laptop"."""
    steps: int = 2000
    """Updates of each run."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""
    page: Path | None = None
    """A Markdown file whose table, between <!-- results:streaming --> marks, is made anew."""


@dataclasses.dataclass(frozen=True)
class ModesOptions:
    """Train imitating agents on made-up densities with known modes, with as many parameters each.

    Says which share of the modes they find, which share of their samples lies in one, and how
    likely they hold new samples, beside the density itself.
    """

    agents: tuple[str, ...] = tuple(MODELS)
    """Which agents."""
    densities: tuple[str, ...] = tuple(DENSITIES)
    """Which densities."""
    steps: int = 10_000
    """Gradient steps of 256 fresh samples."""
    seed: int = 0
    """Of the weights and the samples."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""
    picture: Path | None = None
    """A PNG file to draw everyone's samples to."""


@dataclasses.dataclass(frozen=True)
class FlowsOptions:
    """Train nf-bc with each flow on made-up densities, with as many parameters each, and time it.

    Says how likely they hold new samples, beside the density itself, which share of the modes they
    find, and how fast they train and sample.
    """

    flows: tuple[str, ...] = tuple(KINDS)
    """Which flows."""
    densities: tuple[str, ...] = ("circle", "left-or-right")
    """Which densities: eight bell curves on a circle, and paths of eight steps around an obstacle,
    are vectors and chunks."""
    steps: int = 1000
    """Gradient steps of 256 fresh samples."""
    rounds: int = 5
    """How often training is timed; the medians count."""
    seed: int = 0
    """Of the weights and the samples."""
    out: Path | None = None
    """A JSON file to write the figures to, with versions and device."""
    page: Path | None = None
    """A Markdown file whose table, between <!-- results:flow-kinds --> marks, is made anew."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl bench`` and do it."""
    action, *rest = arguments or [""]
    if action not in _ACTIONS:
        print("usage: " + "\n       ".join(f"nfrl bench {a} [options]" for a in _ACTIONS))
        if action not in ("-h", "--help"):
            *others, last = _ACTIONS
            raise UserError(f"bench takes {', '.join(others)} or {last}, not {action!r}")
        return
    kind, measure = _ACTIONS[action]
    options: Any = tyro.cli(kind, args=rest, prog=f"nfrl bench {action}")
    table, figures = measure(options)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(device())
    if options.out is not None:
        record = {"bench": action, **figures, **provenance()}
        write_json(options.out, json.loads(json.dumps(record)))
    if action in _PAGE_TABLES and options.page is not None:
        update_readme(options.page, [_PAGE_TABLES[action](figures)])


def bench_train(options: TrainOptions) -> tuple[Table, dict[str, Any]]:
    """Time training: compiled calls, the plain loop, and the bare matrix products."""
    _check("agent", options.agents, agents_that(explores=False))
    table = Table(
        "agent",
        "parameters",
        "batch",
        "steps/s",
        "plain loop",
        "gain",
        "GFLOP/s",
        "products alone",
        "share",
    )
    figures: dict[str, Any] = {}
    for agent in options.agents:
        preset = _preset(agent, options.preset)
        batch_size = preset.training.batch_size
        speed = training_speed(
            preset.agent,
            observation_dim=OBSERVATION_DIM,
            action_dim=ACTION_DIM,
            batch_size=batch_size,
            steps=options.steps,
            rounds=options.rounds,
        )
        table.add_row(
            agent,
            f"{speed.parameters:,}",
            str(batch_size),
            f"{speed.steps_per_second:.1f}",
            f"{speed.plain_steps_per_second:.1f}",
            f"{speed.gain:.2f}x",
            _number(speed.gflops),
            _number(speed.product_gflops),
            "" if speed.share_of_products is None else f"{speed.share_of_products:.0%}",
        )
        figures[agent] = dataclasses.asdict(speed) | {
            "batch_size": batch_size,
            "gain": speed.gain,
            "share_of_products": speed.share_of_products,
        }
    return table, {"preset": options.preset, "agents": figures}


def bench_scale(options: ScaleOptions) -> tuple[Table, dict[str, Any]]:
    """Time training at each batch size and number of seeds, and count an update's kernels."""
    _check("agent", (options.agent,), agents_that(explores=False, goals=True))
    for name in ("batch_sizes", "seeds"):
        if min(getattr(options, name), default=0) < 1:
            raise UserError(f"{name.replace('_', '-')} must each be 1 or more")
    config = _preset(options.agent, options.preset).agent
    agent = config.build(jr.key(0), Spec.vectors(OBSERVATION_DIM, ACTION_DIM), 1_000_000)
    data = synthetic(OBSERVATION_DIM, ACTION_DIM)
    kernels = count_kernels(agent, data, options.batch_sizes[0])
    speeds = scaling_speed(
        config,
        observation_dim=OBSERVATION_DIM,
        action_dim=ACTION_DIM,
        batch_sizes=options.batch_sizes,
        seeds=options.seeds,
        steps=options.steps,
        rounds=options.rounds,
    )
    points = []
    with progress("measuring", len(options.batch_sizes) * len(options.seeds), "points") as update:
        for speed in speeds:
            points.append(dataclasses.asdict(speed))
            update(len(points))
    record = {
        "agent": options.agent,
        "preset": options.preset,
        "kernels": kernels,
        "points": points,
        "device": device(),
    }
    table = scaling(record)
    if options.picture is not None:
        picture = png(scaling_figure(record))
        write_atomically(options.picture, lambda file: file.write(picture))
    found = table.rich()
    found.caption = (
        f"An update is {kernels['all']} kernels, {kernels['products']} of them matrix products."
    )
    return found, record


def bench_flowjax(options: FlowjaxOptions) -> tuple[Table, dict[str, Any]]:
    """Time training with either flow, and the bare matrix products of each."""
    preset = _preset("nf-gcbc", options.preset)
    speeds = beside_flowjax(
        preset.agent,
        observation_dim=OBSERVATION_DIM,
        action_dim=ACTION_DIM,
        batch_size=preset.training.batch_size,
        steps=options.steps,
        rounds=options.rounds,
    )
    table = Table("flow", "MFLOP a transition", "steps/s", "products alone", "share")
    for name, speed in speeds.items():
        table.add_row(
            name,
            f"{speed.megaflop:.2f}",
            f"{speed.steps_per_second:.1f}",
            f"{speed.products_per_second:.1f}",
            f"{speed.steps_per_second / speed.products_per_second:.0%}",
        )
    flows = {name: dataclasses.asdict(speed) for name, speed in speeds.items()}
    return table, {"preset": options.preset, "flows": flows}


def bench_start(options: StartOptions) -> tuple[Table, dict[str, Any]]:
    """Give each agent's command several times."""
    if options.again < 1:
        raise UserError(f"again must be at least 1; got {options.again}")
    _check("agent", options.agents, agents_that(explores=False, rewards=False))
    table = Table("agent", "the first time, s", "again, s")
    figures = {}
    with (
        temporary_folder("nfrl-start-") as place,
        progress("starting", len(options.agents), "agents") as update,
    ):
        write_random(place / "data", 2000, OBSERVATION_DIM, ACTION_DIM)
        for number, agent in enumerate(options.agents):
            words = (agent, "--preset", options.preset)
            speed = starting_speed(place / "data", words, place / agent, again=options.again)
            table.add_row(agent, f"{speed.first_seconds:.1f}", f"{speed.again_seconds:.1f}")
            figures[agent] = dataclasses.asdict(speed)
            update(number + 1)
    return table, {"preset": options.preset, "agents": figures}


def bench_sample(options: SampleOptions) -> tuple[Table, dict[str, Any]]:
    """Time the choice of one action and of many at once."""
    _check("agent", options.agents, agents_that(explores=False))
    if not all(batch > 0 for batch in options.batches):
        raise UserError(f"batches must be 1 or more each; got {options.batches}")
    batches = options.batches
    table = Table("agent", *(f"{batch} action{'s' * (batch > 1)}, ms" for batch in batches))
    figures: dict[str, Any] = {}
    for agent in options.agents:
        config = _preset(agent, options.preset).agent
        built = config.build(jr.key(0), Spec.vectors(OBSERVATION_DIM, ACTION_DIM), 1)
        times = {batch: sampling_milliseconds(built, OBSERVATION_DIM, batch) for batch in batches}
        table.add_row(agent, *(f"{value:.2f}" for value in times.values()))
        figures[agent] = {f"milliseconds_{batch}": value for batch, value in times.items()}
    return table, {"preset": options.preset, "agents": figures}


def bench_deploy(options: DeployOptions) -> tuple[Table, dict[str, Any]]:
    """Time one action in JAX and in exported files."""
    named = [each.partition(":") for each in options.agents]
    _check("agent", [agent for agent, _, _ in named], agents_that(explores=False))
    _check("exporter", options.formats, registry.names("exporters"))
    if options.calls < 1:
        raise UserError(f"calls must be 1 or more; got {options.calls}")
    ways = ("jax", *options.formats, PRODUCTS)
    columns = [f"{way}, {what} ms" for way in ways for what in ("median", "99%")]
    table = Table("agent", "parameters", *columns, title="one action, or one chunk")
    figures: dict[str, Any] = {}
    spec = Spec.vectors(OBSERVATION_DIM, ACTION_DIM)
    with progress("measuring", len(named), "agents") as update:
        for done, (agent, _, preset) in enumerate(named):
            config = _preset(agent, preset or "laptop").agent
            built = config.build(jr.key(0), spec, 1)
            policy = Policy(without_optimizer(built), config, agent, spec)
            found = deploying_speed(policy, options.formats, calls=options.calls)
            times = [value for way in ways for value in dataclasses.astuple(found[way])]
            parameters = count_parameters(built.policy)
            name = f"{agent} ({preset or 'laptop'})"
            table.add_row(name, f"{parameters:,}", *(f"{value:.2f}" for value in times))
            figures[name] = {
                "parameters": parameters,
                **{way: dataclasses.asdict(latency) for way, latency in found.items()},
            }
            update(done + 1)
    return table, {"calls": options.calls, "agents": figures}


def bench_explore(options: ExploreOptions) -> tuple[Table, dict[str, Any]]:
    """Time exploring: the whole, its parts, the loop in Python and the environments alone."""
    _check("agent", options.agents, agents_that(explores=True))
    task = find_task(options.maze)
    if task.world is None:
        raise UserError(f"{task.name} is no maze to explore")
    maze = registry.load_reference(task.world)(task.name)
    table = Table(
        "agent",
        "environment steps/s",
        "updates/s",
        *("learning", "moving", "goals"),
        "driven from Python",
        "gain",
        "environments alone",
        title=f"{maze.name}: environment steps a second, and how an episode's time is shared",
    )
    figures: dict[str, Any] = {}
    with progress("measuring", len(options.agents), "agents") as update:
        for done, agent in enumerate(options.agents):
            preset = find_preset(options.preset, agent, task)
            config, training = preset.agent, preset.training
            assert isinstance(training, ExploreTraining)
            if options.batch_size is not None:
                training = dataclasses.replace(training, batch_size=options.batch_size)
            speed = exploring_speed(config, training, maze, rounds=options.rounds)
            parts = (speed.learning, speed.moving, speed.commanding)
            table.add_row(
                agent,
                f"{speed.steps_per_second:,.0f}",
                f"{speed.updates_per_second:.1f}",
                *(f"{part / sum(parts):.0%}" for part in parts),
                f"{speed.driven_steps_per_second:,.0f}",
                f"{speed.gain:.2f}x",
                f"{speed.environment_steps_per_second:,.0f}",
            )
            figures[agent] = {
                "batch_size": training.batch_size,
                **dataclasses.asdict(speed),
                "gain": speed.gain,
            }
            update(done + 1)
    about = {"preset": options.preset, "maze": maze.name, "rounds": options.rounds}
    return table, {**about, "agents": figures}


def bench_data(options: DataOptions) -> tuple[Table, dict[str, Any]]:
    """Time the making of data by worker processes, and the simulator alone."""
    if not options.workers or min(*options.workers, options.episodes) < 1:
        raise UserError("workers and episodes must be at least 1")
    _check("dataset", options.datasets, registry.mappings("recipes"))
    table = Table("data set", "simulator alone", title="steps a second")
    for count in options.workers:
        table.add_column(f"stored, {count} worker{'s' * (count > 1)}")
    figures: dict[str, Any] = {}
    with progress("measuring", len(options.datasets), "data sets") as update:
        for done, name in enumerate(options.datasets):
            speed = collecting_speed(name, workers=options.workers, episodes=options.episodes)
            table.add_row(
                name,
                f"{speed.simulator:,.0f}",
                *(f"{rate:,.0f} ({speed.share(n):.0%})" for n, rate in speed.stored.items()),
            )
            figures[name] = dataclasses.asdict(speed)
            update(done + 1)
    table.caption = "in brackets: of as many bare simulators"
    return table, {"episodes": options.episodes, "datasets": figures}


def bench_stream(options: StreamOptions) -> tuple[Table, dict[str, Any]]:
    """Time training on the host's data and on the device's, and measure their memory."""
    _check("agent", options.agents, agents_that(explores=False, rewards=False))
    figures: dict[str, Any] = {}
    jobs, done = len(options.rows) * len(options.agents) * 2, 0
    with (
        temporary_folder("nfrl-stream-") as place,
        progress("training", jobs, "runs") as update,
    ):
        for number, rows in enumerate(options.rows):
            folder = place / str(number)
            megabytes = write_random(folder, rows, OBSERVATION_DIM, ACTION_DIM)
            for agent in options.agents:
                sides = []
                for stream in (False, True):
                    words = (agent, "--preset", options.preset, "--steps", str(options.steps))
                    runs = place / f"runs-{agent}-{number}-{stream}"
                    sides.append(
                        streaming_speed(
                            folder, words, runs, rows=rows, megabytes=megabytes, stream=stream
                        )
                    )
                    done += 1
                    update(done)
                figures.setdefault(agent, []).extend(map(dataclasses.asdict, sides))
            shutil.rmtree(folder)
    record = {"preset": options.preset, "steps": options.steps, "agents": figures}
    return streaming(record).rich(), record


def bench_modes(options: ModesOptions) -> tuple[Table, dict[str, Any]]:
    """Hold agents against densities whose modes are known."""
    _check("agent", options.agents, MODELS)
    _check("density", options.densities, DENSITIES)
    table = Table(
        "density", "agent", "parameters", "modes found", "samples in a mode", "log-density, nats"
    )
    figures: dict[str, Any] = {}
    samples: dict[str, dict[str, Any]] = {}
    jobs = [(name, agent) for name in options.densities for agent in options.agents]
    with progress("training", len(jobs), "agents") as update:
        for done, (name, agent) in enumerate(jobs):
            density = DENSITIES[name]
            score, drawn = compare(agent, density, steps=options.steps, seed=options.seed)
            samples.setdefault(name, {"the truth": true_samples(density)})[agent] = drawn
            figures.setdefault(name, {})[agent] = dataclasses.asdict(score)
            table.add_row(
                f"{name} ({score.true_log_prob:.2f} nats)",
                agent,
                f"{score.parameters:,}",
                f"{score.coverage:.0%}",
                f"{score.inside:.0%}",
                "" if score.log_prob is None else f"{score.log_prob:.2f}",
            )
            update(done + 1)
    if options.picture is not None:
        figure = mode_samples("Samples of densities with several modes", samples)
        write_atomically(options.picture, lambda file: file.write(png(figure)))
    return table, {"steps": options.steps, "seed": options.seed, "densities": figures}


def bench_flows(options: FlowsOptions) -> tuple[Table, dict[str, Any]]:
    """Hold the kinds of flows against each other."""
    _check("flow", options.flows, KINDS)
    _check("density", options.densities, DENSITIES)
    figures: dict[str, Any] = {
        name: {**dataclasses.asdict(speed), "densities": {}}
        for name, speed in flow_speeds(options.flows, rounds=options.rounds).items()
    }
    jobs = [(name, density) for name in options.flows for density in options.densities]
    with progress("training", len(jobs), "flows") as update:
        for done, (name, density) in enumerate(jobs):
            score, _ = compare(
                name, DENSITIES[density], steps=options.steps, seed=options.seed, models=KINDS
            )
            figures[name]["densities"][density] = dataclasses.asdict(score)
            update(done + 1)
    record = {"steps": options.steps, "seed": options.seed, "flows": figures}
    return flow_kinds(record).rich(), record


_ACTIONS: dict[str, tuple[type, Callable[[Any], tuple[Table, dict[str, Any]]]]] = {
    "train": (TrainOptions, bench_train),
    "scale": (ScaleOptions, bench_scale),
    "flowjax": (FlowjaxOptions, bench_flowjax),
    "start": (StartOptions, bench_start),
    "sample": (SampleOptions, bench_sample),
    "deploy": (DeployOptions, bench_deploy),
    "explore": (ExploreOptions, bench_explore),
    "data": (DataOptions, bench_data),
    "stream": (StreamOptions, bench_stream),
    "modes": (ModesOptions, bench_modes),
    "flows": (FlowsOptions, bench_flows),
}
_PAGE_TABLES: dict[str, Callable[[dict[str, Any]], PageTable]] = {
    "scale": scaling,
    "stream": streaming,
    "flows": flow_kinds,
}
"""What a page shows of a record."""


def _check(kind: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _preset(agent: str, name: str) -> Preset:
    task = TASK_OF[family_of(find_config(agent).capabilities)]
    return find_preset(name, agent, find_task(task))
