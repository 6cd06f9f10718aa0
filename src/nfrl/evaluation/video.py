"""Videos of a policy: one episode of each goal, side by side."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from nfrl.environments.episode_pool import EpisodePool
from nfrl.environments.pool import WorkerError
from nfrl.errors import UserError
from nfrl.evaluation.rollout import Count, Episode, Policy, play
from nfrl.files import not_written, temporary_folder, write_bytes
from nfrl.progress import progress as show_progress
from nfrl.task import Task

FRAMES_A_SECOND = 15


class VideoUnavailable(UserError):
    """Pictures of the simulator cannot be drawn here."""


def film(
    task: Task,
    policy: Policy,
    *,
    goals: Sequence[int] | None = None,
    seed: int = 0,
    every: int | None = None,
    progress: bool = True,
) -> Iterator[NDArray[np.uint8]]:
    """Play episode 0 of each goal, as ``rollout.evaluate`` with this seed does, and yield pictures.

    The goals stand side by side, 200 x 200 pixels each, to which the environment's pictures are
    brought; an episode that has ended stands still. The environments run in a process of their own,
    which draws with ``MUJOCO_GL``, by default EGL where there is no display; in software a picture
    takes 20 to 50 ms.

    Args:
        task: What to play.
        policy: As for ``evaluate``.
        goals: Which goals (``task_id``, from 1); by default all of them.
        seed: Of the environments, >= 0.
        every: Steps between two pictures; by default 3, or as many as make 100 an episode.
        progress: Whether to show progress on standard error.

    Yields:
        (200, 200 * goals, 3) uint8.

    Raises:
        VideoUnavailable: MuJoCo finds no graphics library here; the message names the cure. Or
            the environment draws no pictures.
        UserError: The task has no environment, or no such goal.
        WorkerError: The environment failed.
    """
    chosen = list(goals or range(1, task.goals + 1))
    if wrong := [goal for goal in chosen if not 1 <= goal <= task.goals]:
        raise UserError(f"{task.name} has goals 1 to {task.goals}, and no goal {wrong[0]}")
    schedule = [Episode(task_id, 0) for task_id in chosen]
    every = every or max(3, -(-task.horizon // 100))
    try:
        with (
            show_progress(f"filming {task.name}", len(schedule), "episodes", show=progress) as told,
            EpisodePool(task, len(schedule), 1, seed=seed, every=every) as pool,
        ):
            count = Count(told, task.horizon)
            number, picture = 0, None
            for event in play(pool, task, policy, schedule):
                count.add(event)
                # All began together, so that an event's time is everyone's; the slots' events of
                # one time, and an end between two pictures, give one: the last one stays.
                if event.time % every == 0 or event.ended:
                    if picture is not None and -(-event.time // every) != number:
                        yield picture
                    number = -(-event.time // every)
                    picture = np.concatenate(list(pool.frames), axis=1)
            if picture is not None:
                yield picture
    except WorkerError as error:
        if "cannot be drawn" in str(error):
            raise VideoUnavailable(f"no video: {error}") from None
        if "NoGraphics" not in str(error):
            raise
        raise VideoUnavailable(
            f"no video: MuJoCo cannot draw here ({str(error).rsplit('NoGraphics: ', 1)[-1]}). "
            "Without a display it needs EGL: `apt-get install libegl1` on Debian and Ubuntu, then "
            "MUJOCO_GL=egl (or leave MUJOCO_GL unset)"
        ) from None


def record_video(
    task: Task,
    policy: Policy,
    path: str | Path,
    *,
    goals: Sequence[int] | None = None,
    seed: int = 0,
    every: int | None = None,
    progress: bool = True,
) -> Path:
    """Write what :func:`film` shows to a file; its arguments and errors are that function's.

    Args:
        path: Where to put it. ``.gif`` makes a GIF, and so does a lack of ffmpeg; else MP4.

    Returns:
        The file written: ``path``, with the suffix ``.gif`` where MP4 could not be made.
    """
    pictures = film(task, policy, goals=goals, seed=seed, every=every, progress=progress)
    return _write(Path(path), list(pictures))


def _write(path: Path, frames: list[Any]) -> Path:
    # Written elsewhere first: the encoder writes a file bit by bit.
    with temporary_folder("nfrl-video-") as place:
        made = _encode(place / path.name, frames)
        path = path.with_suffix(made.suffix)
        write_bytes(path, made.read_bytes())
    return path


def _encode(path: Path, frames: list[Any]) -> Path:
    try:
        if path.suffix != ".gif":
            try:
                with warnings.catch_warnings():
                    # JAX warns of forks; the one here only starts ffmpeg.
                    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
                    # Sides must be even for the codec, and ours are.
                    imageio.mimwrite(
                        path, frames, fps=FRAMES_A_SECOND, codec="libx264", macro_block_size=2
                    )
                return path
            except (ImportError, OSError, RuntimeError, ValueError):  # no ffmpeg, or no x264
                path = path.with_suffix(".gif")
        imageio.mimwrite(path, frames, duration=1000 / FRAMES_A_SECOND, loop=0)
    except OSError as error:
        raise UserError(not_written(path, error)) from error
    return path
