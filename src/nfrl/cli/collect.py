"""``nfrl collect expert NAME`` trains a policy that makes data; ``score`` measures it."""

import dataclasses
import datetime
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from nfrl.agents.sac import SACConfig
from nfrl.collect.expert_policy import expert_folder, find_expert, read_expert
from nfrl.collect.expert_score import describe, score, walk
from nfrl.environments.locomotion import BODIES, Body, body
from nfrl.errors import UserError, unknown_name
from nfrl.files import write_atomically, write_json
from nfrl.progress import progress
from nfrl.reports.behaviour import directions
from nfrl.reports.style import png
from nfrl.runs.checkpoints import steps_in
from nfrl.runs.folder import RunFolder
from nfrl.runs.provenance import provenance, provenance_of
from nfrl.training.experts import EXPERTS, ExpertTraining, train_expert, write_expert

USAGE = """usage: nfrl collect expert NAME [options]
       nfrl collect score NAME [options]

  NAME    one of: {names}

Trains the policy that runs (ant, humanoid) or dribbles (ant-ball) when maze data are made, or
measures it. The ant's comes with the package. What was interrupted goes on when the command is
given again.
for example:
  nfrl collect score ant --picture ant.png
  nfrl collect expert ant --run runs/expert-ant
  nfrl collect expert humanoid --workers 16 --install"""


@dataclasses.dataclass(frozen=True)
class ExpertOptions:
    """Train a locomotion expert, measure it, and write its weights."""

    agent: SACConfig
    """The algorithm's own values."""
    training: ExpertTraining
    """How long, and how acting and learning alternate."""
    steps: int | None = None
    """Environment steps (the same as --training.steps)."""
    seed: int = 0
    """Of the weights, the actions and the environments."""
    workers: int = 0
    """Processes that step the environments; 0 steps them here, the best for an ant on few cores.
    The outcome is the same."""
    run: Path | None = None
    """The run's folder; by default runs/expert-NAME."""
    score_steps: int = 1000
    """Steps in each of the 16 directions that the score is measured in."""
    install: bool = False
    """Put the weights where `nfrl data make` finds them, before those that are shipped."""


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """Measure an expert without noise: in 16 directions, or on goals."""

    weights: Path | None = None
    """Its .safetensors file; by default the one that data are made with."""
    seed: int = 0
    """Of the environments."""
    steps: int = 1000
    """Steps in each direction."""
    picture: Path | None = None
    """A PNG file to draw the paths to, of an expert that runs in directions."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl collect`` and do it."""
    action, *rest = arguments or [""]
    known = action in ("expert", "score")
    if not known or not rest or rest[0].startswith("-"):
        print(USAGE.format(names=", ".join(BODIES)))
        if not known and action not in ("-h", "--help"):
            raise UserError(f"collect takes expert or score, not {action!r}")
        if known and not {"-h", "--help"} & set(rest):
            raise unknown_name("expert", "".join(rest[:1]), BODIES)
        return
    mover = body(rest[0])
    if action == "score":
        measure(mover, tyro.cli(ScoreOptions, args=rest[1:], prog=f"nfrl collect score {rest[0]}"))
        return
    agent, training = EXPERTS[mover.name]
    options = tyro.cli(
        ExpertOptions,
        args=rest[1:],
        prog=f"nfrl collect expert {mover.name}",
        default=ExpertOptions(agent, training),
        config=(tyro.conf.AvoidSubcommands,),
    )
    print(make_expert(mover, options))


def measure(mover: Body, options: ScoreOptions) -> None:
    """Print what an expert can do, and draw where it went."""
    if options.seed < 0 or options.steps < 1:
        raise UserError("seed must be at least 0, steps at least 1")
    if options.picture is not None and mover.command == "goal":
        raise UserError(f"a picture shows 16 directions; the {mover.name} expert goes for goals")
    policy = read_expert(options.weights or find_expert(mover.name))
    if mover.command == "goal":
        figures = score(policy, mover, seed=options.seed, steps=options.steps)
    else:
        paths = walk(policy, mover, seed=options.seed, steps=options.steps)
        figures = describe(paths, mover)
        if options.picture is not None:
            title = f"The {mover.name} expert, told to run in 16 directions: metres from the start"
            figure = directions(title, [(path.direction, path.xy) for path in paths])
            write_atomically(options.picture, lambda file: file.write(png(figure)))
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value}")


def make_expert(mover: Body, options: ExpertOptions) -> Path:
    """Train an expert, from wherever its run stands; return the file of its weights."""
    training = options.training
    if options.steps is not None:
        training = dataclasses.replace(training, steps=options.steps)
    if options.seed < 0 or options.workers < 0 or options.score_steps < 1:
        raise UserError("seed and workers must be at least 0, score-steps at least 1")
    folder = RunFolder(options.run or Path("runs", f"expert-{mover.name}"))
    asked = {
        "expert": mover.name,
        "environment": mover.environment,
        "seed": options.seed,
        "agent": _plain(options.agent),
        "training": _plain(training),
    }
    if not folder.is_begun:
        folder.write_config({**asked, **provenance()})
    begun = folder.read_config()
    if other := [key for key, value in asked.items() if begun.get(key) != value]:
        raise UserError(
            f"{folder.path} holds a run with another {other[0]} ({begun.get(other[0])}, not "
            f"{asked[other[0]]}); name another folder with --run"
        )
    weights = folder.path / f"{mover.name}.safetensors"
    if not folder.has_result:
        try:
            _train(folder, mover, options, training, weights)
        except KeyboardInterrupt:
            saved = max(steps_in(folder.checkpoints), default=0)
            print(f"interrupted; the same command goes on from step {saved}", file=sys.stderr)
            raise
        result = {
            **asked,
            "score": score(
                read_expert(weights), mover, seed=options.seed, steps=options.score_steps
            ),
            "train_seconds": round(folder.seconds_until(training.steps), 1),
            **provenance_of(begun),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_json(weights.with_suffix(".json"), result)
        write_json(folder.result_file, result)  # no record: an expert is of no task
    if options.install:
        target = expert_folder() / weights.name
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".json", ".safetensors"):
            shutil.copyfile(weights.with_suffix(suffix), target.with_suffix(suffix))
        return target
    return weights


def _train(
    folder: RunFolder, mover: Body, options: ExpertOptions, training: ExpertTraining, weights: Path
) -> None:
    title = f"training the {mover.name} expert"
    start, began = max(steps_in(folder.checkpoints), default=0), time.perf_counter()
    with progress(title, training.steps, "steps", done=start) as update:

        def report(step: int, metrics: dict[str, float]) -> None:
            rate = (step - start) / (time.perf_counter() - began)
            figures = [f"{rate:.0f} steps/s", f"reward {metrics['reward']:.3f} a step"]
            figures.append(f"{metrics['ends_per_1000']:.1f} ends in 1000")
            update(step, ", ".join(figures))

        agent = train_expert(
            folder,
            mover,
            options.agent,
            training,
            seed=options.seed,
            workers=options.workers,
            report=report,
        )
    write_expert(agent.policy, weights)


def _plain(config: Any) -> dict[str, Any]:
    """Give a configuration's values as JSON would."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
    }
