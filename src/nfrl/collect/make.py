"""Making a data set: plan it, collect what is missing in parallel, merge, describe."""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from nfrl.collect import parts
from nfrl.collect.collectors import Collector, open_collector
from nfrl.collect.parts import Plan, Shard
from nfrl.collect.recipe import Recipe, recipe
from nfrl.environments.episode import SPLITS, episode_seeds
from nfrl.environments.pool import graphics
from nfrl.errors import UserError
from nfrl.files import not_written
from nfrl.progress import progress as show_progress

# A worker's matrices are 6 by 6: threads would only get into each other's way.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def make_dataset(
    name: str,
    *,
    episodes: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    path: Path | str | None = None,
    steps: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Make a data set and its validation data, in OGBench's format.

    The files depend on the name, the seed, the steps and the episodes, and not on the number of
    workers; episode i is the same in a data set of any size. Whatever interrupts the making, the
    next call with the same arguments goes on from the episodes that were finished.

    The work is done in fresh processes that import the calling program's main module again: in a
    script, call this under ``if __name__ == "__main__":``.

    Args:
        name: A data set that there is a recipe for: ``cube-single-play-v0``.
        episodes: Training episodes, at least 1; by default the full number. Validation has a
            tenth as many, at least one.
        seed: Non-negative.
        workers: Processes; by default one per processor core.
        path: The training file; by default `nfrl.data.formats.ogbench.dataset_path`.
        steps: Rows per episode, at least 2; by default the data set's own. Other numbers need a
            path, since their files have no name of their own.
        progress: Show a bar, or lines where there is no terminal, on standard error.
        force: Overwrite files that are something else, and throw away another's parts.

    Returns:
        The training file. Its validation file and a JSON file for each stand beside it. If they
        were there already, made with the same arguments, nothing is done.

    Raises:
        UserError: There is no such data set; a number is out of range; something else stands at
            the path; the disk is full; or a worker failed. Finished episodes are kept.
        KeyboardInterrupt: After saying how to go on.
    """
    plan = _plan(recipe(name), episodes, seed, path, steps)
    plan.identity()  # That an expert is missing is said before anything is begun.
    workers = _at_least("workers", os.cpu_count() or 1 if workers is None else workers, 1)
    splits = [split for split in SPLITS if force or not plan.is_made(split)]
    if not splits:
        if parts.is_begun(plan):  # Killed after the last merge.
            parts.remove(plan)
        return plan.path
    for split in splits:
        # With its parts still there, the file is one whose description was yet to be written.
        if plan.target(split).exists() and not force and not parts.is_begun(plan):
            raise UserError(
                f"{plan.target(split)} exists and is not what was asked for "
                f"({_describe(plan)}); use --force to overwrite it, or another path"
            )
    with parts.held(plan, force=force), _explained(plan):
        _collect_missing(plan, splits, workers, progress)
        for split in splits:
            parts.merge(plan, split)
        parts.remove(plan)
    return plan.path


def _collect_missing(plan: Plan, splits: list[str], workers: int, progress: bool) -> None:
    """Collect every shard that is not there yet, in parallel."""
    shards = parts.missing(plan, splits)
    total = sum(plan.count(split) for split in splits)
    done = total - sum(len(shard.episodes) for shard in shards)
    already, begun = done, time.monotonic()
    title = f"making {plan.recipe.name}"
    with (
        show_progress(title, total, "episodes", done=done, show=progress) as told,
        _pool(max(1, min(workers, len(shards))), plan.recipe.pictures) as pool,
    ):
        with _interrupts_held():
            futures = {pool.submit(_collect, plan, shard): shard for shard in shards}
        for future in as_completed(futures):
            _finish(future, futures[future])
            done += len(futures[future].episodes)
            rate = 60 * (done - already) / (time.monotonic() - begun)
            told(done, f"{rate:.0f} episodes a minute")


def _plan(
    recipe: Recipe, episodes: int | None, seed: int, path: Path | str | None, steps: int | None
) -> Plan:
    if path is None and steps not in (None, recipe.steps):
        raise UserError(f"with {steps} steps instead of {recipe.steps}, name the file by its path")
    if path is None:
        path = recipe.file(episodes, seed)
    path = Path(path).expanduser().absolute()
    if path.suffix != ".npz":
        raise UserError(f"a data set's file is called NAME.npz, not {path.name}")
    return Plan(
        recipe=recipe,
        path=path,
        episodes=_at_least("episodes", recipe.episodes if episodes is None else episodes, 1),
        steps=_at_least("steps", recipe.steps if steps is None else steps, 2),
        seed=_at_least("seed", seed, 0),
    )


def _at_least(what: str, value: int, least: int) -> int:
    if value < least:
        raise UserError(f"{what} must be at least {least}, not {value}")
    return value


def _describe(plan: Plan) -> str:
    return f"{plan.recipe.name}, {plan.episodes} episodes of {plan.steps} steps, seed {plan.seed}"


@contextlib.contextmanager
def _explained(plan: Plan) -> Iterator[None]:
    """Say, with whatever ends the collecting, that nothing finished is lost and how to go on."""
    kept = f"finished episodes are kept in {plan.folder}: run the same command again to go on"
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nstopped; {kept}", file=sys.stderr, flush=True)
        raise
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died at once or was killed (out of memory? or called from a script "
            f'without `if __name__ == "__main__":`?); {kept}, with fewer workers perhaps'
        ) from error
    except UserError as error:
        raise UserError(f"{error}; {kept}") from error


@contextlib.contextmanager
def _pool(workers: int, pictures: bool = False) -> Iterator[ProcessPoolExecutor]:
    """Keep worker processes that end with this one, however it ends; some draw pictures."""
    variables = dict.fromkeys(THREAD_VARIABLES, "1") | (
        {"MUJOCO_GL": graphics()} if pictures else {}
    )
    with _variables(variables):
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_start_worker
        )
        try:
            yield pool
        finally:
            # Shards under way, a second or two each, are finished and kept.
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Give processes that are started here these environment variables."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start, who would meet it before they can ignore it.

    They inherit the hold and keep it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows.
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # MuJoCo's viewer warns, once per process, where there is no display; nothing is shown here.
    warnings.filterwarnings("ignore", module="glfw")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@functools.lru_cache(maxsize=1)
def _collector(recipe: Recipe) -> Collector:
    """The worker's environment, built once."""
    return open_collector(recipe)


def _collect(plan: Plan, shard: Shard) -> None:
    """Collect one shard, in a worker."""
    # OGBench's mazes leave a file behind for each environment; here it goes with the parts.
    tempfile.tempdir = str(plan.folder)
    collector = _collector(plan.recipe)
    episodes = [
        collector.episode(episode_seeds(plan.seed, shard.split, index), plan.steps)
        for index in shard.episodes
    ]
    parts.write_shard(plan.folder / shard.name, episodes)


def _finish(future: Future[None], shard: Shard) -> None:
    """Raise what went wrong with a shard, in one line."""
    try:
        future.result()
    except (UserError, BrokenProcessPool, KeyboardInterrupt):
        raise
    except OSError as error:  # of a simulator's own files
        raise UserError(not_written(error.filename or shard.name, error)) from error
    except Exception as error:
        raise UserError(
            f"collecting {shard.split} episodes {shard.episodes.start} to "
            f"{shard.episodes.stop - 1} failed: {type(error).__name__}: {error}"
        ) from error
