"""``nfrl play WHAT``: watch a policy act, in a window or as a video."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.acting import zoo
from nfrl.acting.policy import Policy
from nfrl.errors import UserError
from nfrl.experiment.config import Experiment, file_name
from nfrl.experiment.load import load_policy
from nfrl.experiment.own import task_for
from nfrl.reading import read_text
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import parse_record
from nfrl.task import Task, find_task


@dataclasses.dataclass(frozen=True)
class PlayOptions:
    """Watch a policy act: one episode of each goal, side by side.

    In a window where there is a display; otherwise, or with --output, as a video. Without a name
    it lists the policies that are installed.
    """

    what: Annotated[str, tyro.conf.Positional] = ""
    """A task that there is an installed policy for; a run's folder, or a saved policy's; or
    hf:user/name."""
    env: str | None = None
    """Another environment to act in: a task's name, a Gymnasium id, module:id, or
    package.module:Class."""
    goals: tuple[int, ...] = ()
    """Which goals, from 1; by default all of the task's."""
    output: Path | None = None
    """A video to write, .mp4 or .gif, and no window."""
    seed: int = 0
    """Of the episode and of the policy's random numbers."""
    step: int | None = None
    """The checkpoint's step, of a run; by default the latest."""
    horizon: int | None = None
    """Steps of an episode in --env; by default its own limit."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl play`` and do it."""
    options = tyro.cli(PlayOptions, args=list(arguments), prog="nfrl play")
    if not options.what:
        print("\n".join(["policies that are installed:", *(f"  {each}" for each in zoo.names())]))
        return
    known = options.what in zoo.names()
    place = f"zoo:{options.what}" if known else options.what
    policy = load_policy(place, step=options.step, seed=options.seed)
    task = _task(options, policy, known)
    print(watch(policy, task, options.output, goals=options.goals, seed=options.seed))


def watch(
    policy: Policy,
    task: Task,
    output: Path | None = None,
    *,
    goals: Sequence[int] = (),
    seed: int = 0,
) -> str:
    """Show a policy in a window where there is a display, otherwise in a video.

    Args:
        policy: The policy.
        task: What it acts in.
        output: A video to write, and no window; by default TASK.mp4 where there is no display.
        goals: Which goals, from 1; none named for all.
        seed: Of the episode and of the policy's random numbers.

    Returns:
        What was done, in a line.

    Raises:
        VideoUnavailable: Pictures of the simulator cannot be drawn here.
    """
    # Imported here: they need what draws pictures.
    from nfrl.evaluation import window
    from nfrl.evaluation.video import FRAMES_A_SECOND, film, record_video

    acts = policy.batched(seed)
    if output is None and window.has_display():
        pictures = film(task, acts, goals=goals, seed=seed)
        count = window.show(pictures, f"{policy.name} on {task.name}", rate=FRAMES_A_SECOND)
        return f"{policy.name} on {task.name}: {count} pictures"
    path = output or Path(f"{file_name(task.name)}.mp4")
    written = record_video(task, acts, path, goals=goals, seed=seed)
    return f"{policy.name} on {task.name}: {written}"


def _task(options: PlayOptions, policy: Policy, known: bool) -> Task:
    """Return what to act in: what is named, else what the policy was made for."""
    if options.env is not None:
        try:
            return find_task(options.env)
        except UserError:
            can = policy.agent.capabilities
            return task_for(can, policy.spec, options.env, horizon=options.horizon)
    if known:
        return find_task(options.what)
    folder = RunFolder(Path(options.what).expanduser())
    if folder.is_begun:
        task = Experiment.of(folder).task
        if task.environment is not None:
            return task
    record = folder.path / zoo.RECORD
    if record.is_file():
        return find_task(parse_record(read_text(record), str(record)).task)
    raise UserError(f"{options.what} does not say what to act in: name it with --env")
