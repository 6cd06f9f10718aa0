"""What came out of a run: evaluation, samples to draw, and the record of it all."""

import dataclasses
import datetime
from typing import Any

import numpy as np

from nfrl.acting.acting import batched_policy
from nfrl.agents import configs
from nfrl.analysis.speed_training import sampling_milliseconds
from nfrl.evaluation.result import Evaluation
from nfrl.experiment.config import Experiment
from nfrl.interfaces.agent import Agent
from nfrl.interfaces.explorer import Explorer
from nfrl.networks import count_parameters
from nfrl.runs.folder import RunFolder
from nfrl.runs.provenance import device, provenance_of
from nfrl.runs.records import Record


def score(
    experiment: Experiment,
    seed: int,
    folder: RunFolder,
    agent: Agent,
    *,
    evaluation_seed: int | None = None,
    workers: int | None = None,
    video: bool = False,
    keep: bool = True,
    show: bool = True,
) -> Record:
    """Evaluate a trained agent, where there is something to act in; return the result.

    Args:
        experiment: What it was trained in; with its number of evaluation episodes.
        seed: The run's seed.
        folder: The run's folder.
        agent: The agent.
        evaluation_seed: Of the episodes and of the policy's own random numbers; by default the
            run's.
        workers: Processes that step environments; by default one per processor core.
        video: Film one episode per goal, into the run's folder.
        keep: Write evaluation.npz and result.json.
        show: Show progress.
    """
    task = experiment.task
    plays = task.environment is not None
    chosen = seed if evaluation_seed is None else evaluation_seed
    evaluation = None
    if plays and experiment.episodes:
        evaluation = _evaluate(experiment, agent, chosen, experiment.episodes, workers, show)
    if plays and video:
        # Imported here: it needs what draws pictures.
        from nfrl.evaluation.video import VideoUnavailable, record_video

        try:
            policy = batched_policy(agent, chosen)
            record_video(task, policy, folder.path / "video.mp4", seed=chosen, progress=show)
        except VideoUnavailable as error:
            print(error)  # The score stands without it.
    result = describe_result(experiment, seed, folder, agent, evaluation)
    if keep:
        if evaluation is not None:
            evaluation.save(folder.evaluation_file)
        folder.write_result(result)
    return result


def evaluate_on_the_way(
    experiment: Experiment, seed: int, agent: Agent, workers: int | None
) -> dict[str, float]:
    """Return the score of an agent in training; nothing where there is nothing to act in."""
    if experiment.task.environment is None:
        return {}
    found = _evaluate(experiment, agent, seed, experiment.curve_episodes, workers, show=False)
    return {"score": found.measured(experiment.task.scored_by).score}


def _evaluate(
    experiment: Experiment,
    agent: Agent,
    seed: int,
    episodes: int,
    workers: int | None,
    show: bool,
) -> Evaluation:
    # Imported here: it starts simulators, which training alone does not need.
    from nfrl.evaluation.rollout import evaluate

    return evaluate(
        experiment.task,
        batched_policy(agent, seed),
        episodes=episodes,
        seed=seed,
        workers=workers,
        progress=show,
    )


def describe_result(
    experiment: Experiment,
    seed: int,
    folder: RunFolder,
    agent: Agent | None,
    evaluation: Evaluation | None,
) -> Record:
    """Return the record of a run: what was run, on what, with what, and what came out.

    ``train_seconds`` is the wall-clock time of all seeds that trained together, and
    ``steps_per_second`` the rate of gradient steps summed over them. ``curve`` holds the steps,
    seconds and scores of the evaluations on the way. Of a run that went on online these are of
    what came then, when seeds take turns; ``steps`` stays the length of the offline run.
    ``versions``, ``commit`` and ``device`` are what trained; ``evaluated_on`` is there if another
    device evaluated, and then ``sample_ms`` is of that one.
    """
    steps, together = experiment.steps, len(experiment.seeds)
    if experiment.online_steps:
        together = 1
    seconds = folder.seconds_until(steps)
    begun, here = provenance_of(folder.read_config()), device()
    data = experiment.data
    return Record(
        **_common(experiment, seed),
        steps=experiment.offline_training.steps,
        status="diverged" if agent is None else "finished",
        **_scores(experiment, evaluation),
        **_online(experiment, folder),
        episodes=experiment.episodes,
        dataset=data.to_record(),
        parameters=None if agent is None else count_parameters(agent.policy),
        **begun,
        evaluated_on=None if here == begun["device"] else here,
        seeds_together=together,
        train_seconds=round(seconds, 1),
        steps_per_second=round(steps * together / seconds, 1) if agent and seconds else None,
        curve=tuple(folder.read_curve()),
        sample_ms=None
        if agent is None
        else round(sampling_milliseconds(agent, data.spec.width), 3),
    )


def describe_exploration(
    experiment: Experiment, seed: int, folder: RunFolder, agent: Explorer | None
) -> Record:
    """Return the record of a run that explored.

    ``score`` is the success of the last evaluation; ``steps`` counts gradient steps, and
    ``train_seconds`` is the wall-clock time of all seeds that explored together.
    """
    training: Any = experiment.training
    together = len(experiment.seeds)
    lines = folder.read_metrics()
    last = lines[-1] if lines else {}
    seconds, updates = float(last.get("seconds", 0.0)), int(last.get("updates", 0))
    environment_steps = int(last.get("environment_steps", 0))
    found: dict[str, Any] = {"score": None}
    if agent is not None:
        names = {"score": "success"} | {
            name: name for name in ("success_easy", "success_hard", "coverage")
        }
        found = {name: round(last[key], 4) for name, key in names.items()}
        found["scores"] = tuple(round(value, 4) for value in last["successes"])
    return Record(
        **_common(experiment, seed),
        steps=updates,
        environment_steps=environment_steps,
        status="diverged" if agent is None else "finished",
        **found,
        episodes=training.evaluation_episodes,
        parameters=None if agent is None else count_parameters(agent.policy),
        **provenance_of(folder.read_config()),
        seeds_together=together,
        train_seconds=round(seconds, 1),
        steps_per_second=round(updates * together / seconds, 1) if seconds else None,
        environment_steps_per_second=(
            round(environment_steps * together / seconds, 1) if seconds else None
        ),
        curve=tuple(
            {
                "step": line["updates"],
                "seconds": line["seconds"],
                "score": line["success"],
                "coverage": line["coverage"],
            }
            for line in lines
        ),
    )


def _common(experiment: Experiment, seed: int) -> dict[str, Any]:
    return {
        "task": experiment.task.name,
        "family": experiment.task.family,
        "measure": experiment.task.measure,
        "environment": experiment.task.environment,
        "agent": experiment.agent,
        "preset": experiment.preset,
        # Runs that went on are no repetitions of those that did not.
        "variant": experiment.label,
        "seed": seed,
        "config": {
            "agent": configs.to_json(experiment.agent_config),
            "training": dataclasses.asdict(experiment.training),
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _scores(experiment: Experiment, evaluation: Evaluation | None) -> dict[str, Any]:
    """Return what an evaluation found: the task's own score, and what else is known."""
    if evaluation is None:
        return {"score": None}

    def rounded(values: Any) -> tuple[float, ...]:
        return tuple(round(float(value), 4) for value in values)

    by = experiment.task.scored_by
    found = evaluation.measured(by)
    scores: dict[str, Any] = {"score": None, "failures": evaluation.failures}
    if np.isfinite(found.score):  # It is not where every episode failed and returns count.
        scores |= {
            "score": round(found.score, 4),
            "scores": rounded(found.by_goal),
            "interval": rounded(found.interval),
        }
    if by == "score" and evaluation.max_scores is not None:
        entropy = evaluation.mode_entropy
        scores |= {
            "max_score": round(float(evaluation.max_scores.mean()), 4),
            "mode_entropy": None if entropy is None else round(entropy, 4),
        }
    if by != "success":
        scores["success"] = round(evaluation.score, 4)
    if evaluation.returns is not None and np.isfinite(evaluation.returns).any():
        gathered = evaluation.measured("return")
        scores |= {
            "mean_return": round(gathered.score, 4),
            "returns": rounded(gathered.by_goal),
            "return_interval": rounded(gathered.interval),
        }
    return scores


def _online(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    """Return what an online run's record says beside: its steps, and the score before them."""
    if not experiment.online_steps:
        return {}
    before = experiment.offline_folder(folder).read_result()
    return {
        "online_steps": experiment.online_steps,
        "offline_score": before and before.score,
    }
