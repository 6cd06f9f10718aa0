"""``nfrl eval RUN``: evaluate a run's agent again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic

import jax.random as jr
import tyro

from nfrl.analysis.confidence import measure
from nfrl.cli.finishing import describe
from nfrl.cli.resume import with_data
from nfrl.cli.train import AgentConfigT, check_variant, check_workers
from nfrl.cli.words import with_slots
from nfrl.errors import UserError
from nfrl.experiment.config import Experiment
from nfrl.experiment.data import load_data
from nfrl.experiment.load import load_trained
from nfrl.experiment.own import task_for
from nfrl.experiment.scoring import score
from nfrl.files import write_atomically, write_json
from nfrl.runs.folder import RunFolder
from nfrl.runs.provenance import provenance
from nfrl.training.seeds import latest_step


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Evaluate a run's agent on every goal of its task.

    Of the agent's own values those can be changed that matter only when it acts, as in training:
    --agent.acting-candidates 128. The run's result stays as it is.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder: runs/TASK/AGENT-PRESET/seed-N."""
    episodes: int = 50
    """Episodes per goal."""
    seed: int | None = None
    """Of the episodes and of the policy's own random numbers; by default the run's. Another one
    leaves the run's result as it is."""
    env: str | None = None
    """Another environment than the run's, or the first: a Gymnasium id, module:id, or
    package.module:Class."""
    horizon: int | None = None
    """Steps of an episode in --env; by default its own limit."""
    data: str | None = None
    """Where the run's data are now, if they have moved (for --confidence)."""
    step: int | None = None
    """The checkpoint's step, of the environment where the run went on in it; by default the latest.
    The run's result is written anew only where none is given and the run is finished."""
    variant: str = ""
    """A word for what is changed of the agent's values: its result is written to RUN/WORD."""
    video: bool = False
    """Film one episode per goal (slow without a graphics card)."""
    workers: int | None = None
    """Processes that step environments; by default one per processor core."""
    confidence: bool = False
    """Do not play, but compare the likelihood of what the agent does at held-out states of its data
    with that at states moved to where it has never been: RUN/confidence.json and .png."""


@dataclasses.dataclass(frozen=True)
class _Acting(Generic[AgentConfigT]):
    """The values of a run's agent."""

    agent: AgentConfigT
    """The algorithm's own values."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl eval`` and do it."""
    options, rest = tyro.cli(
        EvalOptions, args=list(arguments), prog="nfrl eval", return_unknown_args=True
    )
    if options.episodes < 1:
        raise UserError(f"episodes must be at least 1, not {options.episodes}")
    check_workers(options.workers)
    check_variant(options.variant)
    folder = RunFolder(options.run.resolve())
    experiment = Experiment.of(folder)
    if experiment.explores:
        raise UserError(
            f"{folder.path} explored a maze, and was evaluated as it did: see its metrics.jsonl "
            "and figures"
        )
    experiment = dataclasses.replace(experiment, episodes=options.episodes)
    if options.data is not None:
        experiment = with_data(experiment, options.data)
    finished = options.step is None and latest_step([folder]) == experiment.steps
    if options.variant and not finished:
        raise UserError("--variant names a result, which only a finished run's last checkpoint has")
    acts_otherwise = bool(rest or options.variant)
    if acts_otherwise:
        experiment = _changed(experiment, rest, options.variant)
    elsewhere = options.env is not None or options.seed is not None
    if options.env is not None:
        experiment = _in_environment(experiment, options)
    agent = load_trained(experiment, folder, options.step)
    if options.confidence:
        _measure_confidence(experiment, folder, agent)
        return
    if experiment.task.environment is None:
        raise UserError("there is nothing to act in: name an environment with --env")
    result = score(
        experiment,
        folder.read_config()["seed"],
        folder,
        agent,
        evaluation_seed=options.seed,
        workers=options.workers,
        video=options.video,
        keep=finished and not acts_otherwise and not elsewhere,
    )
    if options.variant:
        folder = RunFolder(folder.path / options.variant)
        # The run was evaluated on the way as it acted then.
        folder.write_result(dataclasses.replace(result, curve=()))
    print(f"{folder.path}: {describe(result)}")


def _in_environment(experiment: Experiment, options: EvalOptions) -> Experiment:
    """Return the experiment with another environment to act in."""
    assert options.env is not None
    task = task_for(
        experiment.agent_config.capabilities,
        experiment.data.spec,
        options.env,
        name=experiment.task.name if experiment.task.environment is None else "",
        horizon=options.horizon,
    )
    return dataclasses.replace(experiment, task=task)


def _changed(experiment: Experiment, words: Sequence[str], variant: str) -> Experiment:
    """Return the experiment with other values of the agent, and a word for them."""
    config, rest = with_slots(experiment.agent_config, words)
    kind: Any = type(config)
    acting = tyro.cli(
        _Acting[kind],
        args=rest,
        prog="nfrl eval RUN",
        default=_Acting(config),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if acting.agent == config:
        raise UserError("nothing was changed of the agent's values: leave --variant out")
    name = "-".join(filter(None, (experiment.variant, variant)))
    return dataclasses.replace(experiment, agent_config=acting.agent, variant=name)


def _measure_confidence(experiment: Experiment, folder: RunFolder, agent: Any) -> None:
    # Imported here: it draws, which an evaluation does not need.
    from nfrl.reports.confidence import confidence as draw
    from nfrl.reports.style import png

    found = measure(agent, load_data(experiment)[1].excerpt(), jr.key(folder.read_config()["seed"]))
    figure = draw(
        f"{experiment.agent}, {experiment.task.name}", found.familiar, found.unfamiliar, found.auc
    )
    write_atomically(folder.path / "confidence.png", lambda file: file.write(png(figure)))
    areas = {f"{scale:g}": round(area, 4) for scale, area in found.auc.items()}
    config = folder.read_config()
    record = {name: config[name] for name in ("task", "agent", "preset", "variant", "seed")}
    record["dataset"] = experiment.data.to_record()
    record |= {"states": len(found.familiar), "auc": areas, **provenance()}
    write_json(folder.path / "confidence.json", record)
    said = ", ".join(f"{area:.2f} (moved by {scale:g})" for scale, area in found.auc.items())
    print(f"{folder.path}: area under the ROC curve of familiar states against moved ones: {said}")
