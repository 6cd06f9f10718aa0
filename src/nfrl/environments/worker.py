"""A worker process: steps its share of the environment slots when the parent says so.

Run as ``python -m nfrl.environments.worker CONFIG`` by ``pool.Pool``, which is the only caller. One
byte on standard input asks for a round, one byte on standard output says that it is done; all
arrays lie in files that both have mapped. When the parent goes away, by whatever death, standard
input ends and the worker with it.
"""

import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from nfrl.environments.slots import Slot

IDLE, STEP, RESET = 0, 1, 2
READY, FAILED = b"+", b"!"
FRAME = (200, 200, 3)
WITHOUT_MUJOCO = ("nfrl/PushT-v0",)  # draws by other means


class NoGraphics(Exception):
    """MuJoCo cannot draw in this process."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What a worker is told at its start.

    Attributes:
        environment: The Gymnasium id.
        slots: The number of slots of all workers.
        first: This worker has the slots first, first + workers, first + 2 workers, ...
        workers: The number of workers.
        seed: The evaluation's seed.
        directory: Where the shared arrays lie, and temporary files may.
        every: Draw a frame at every so many steps; 0 for never.
    """

    environment: str
    slots: int
    first: int
    workers: int
    seed: int
    directory: str
    every: int = 0


def shared_arrays(
    config: Config, observation: int, goal: int, action: int, *, create: bool = False
) -> dict[str, np.ndarray]:
    """Map the arrays that the parent and the workers share.

    Plain mapped files rather than ``multiprocessing.shared_memory``: they need no registration, no
    order of closing, and vanish with their directory.

    Args:
        config: Any worker's config.
        observation: Length of an observation.
        goal: Length of a goal; 0 where a task has only one.
        action: Length of an action.
        create: Whether to make the files (the parent, once).
    """
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "commands": ((), np.uint8),
        "task_ids": ((), np.int64),
        "episodes": ((), np.int64),
        "actions": ((action,), np.float32),
        "observations": ((observation,), np.float32),
        "goals": ((goal,), np.float32),
        "goal_xy": ((2,), np.float32),
        "done": ((), np.bool_),
        "success": ((), np.bool_),
        "scores": ((), np.float64),
        "modes": ((), np.int64),
    }
    if config.every:
        shapes["frames"] = (FRAME, np.uint8)
    mode: Literal["w+", "r+"] = "w+" if create else "r+"

    def mapped(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if 0 in shape:  # there is no such thing as an empty map
            return np.empty((config.slots, *shape), dtype)
        file = Path(config.directory, name)
        return np.memmap(file, dtype=dtype, mode=mode, shape=(config.slots, *shape)).view(
            np.ndarray
        )

    return {name: mapped(name, *layout) for name, layout in shapes.items()}


def main() -> None:
    """Serve rounds until standard input ends; report a failure on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    commands, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what a library prints must not be read as a reply
    config = Config(**json.loads(sys.argv[1]))
    tempfile.tempdir = config.directory  # the mazes leave a file behind for each environment
    try:
        _serve(config, commands, replies)
    except BrokenPipeError:
        pass  # the parent was killed while this one was at work
    except Exception:
        os.write(replies, FAILED + traceback.format_exc().encode())
        sys.exit(1)
    shutil.rmtree(config.directory, ignore_errors=True)  # in case that the parent was killed


def _serve(config: Config, commands: int, replies: int) -> None:
    if config.every and config.environment not in WITHOUT_MUJOCO:
        _check_graphics()
    # Only now, as graphics are chosen when MuJoCo is imported.
    from nfrl.environments.slots import make_slots

    mine = range(config.first, config.slots, config.workers)
    slots = dict(zip(mine, make_slots(config.environment, len(mine)), strict=True))
    observation, goal, _ = slots[config.first].reset(config.seed, 1, 0)
    action = slots[config.first].environment.action_space.shape
    assert action is not None
    sizes = [len(observation), len(goal), *action]
    os.write(replies, READY + json.dumps(sizes).encode() + b"\n")

    if not os.read(commands, 1):  # the parent has made the arrays
        return
    arrays = shared_arrays(config, *sizes)
    os.write(replies, READY)
    while os.read(commands, 1):
        for index, slot in slots.items():
            _play(config, index, slot, arrays)
        os.write(replies, READY)


def _play(config: Config, index: int, slot: "Slot", arrays: dict[str, np.ndarray]) -> None:
    """Do what the parent asks of one slot in this round."""
    command = arrays["commands"][index]
    if command == IDLE:
        return
    done, success, score, mode = False, False, float("nan"), -1
    if command == RESET:
        observation, goal, goal_xy = slot.reset(
            config.seed, int(arrays["task_ids"][index]), int(arrays["episodes"][index])
        )
        arrays["goals"][index] = goal
        arrays["goal_xy"][index] = goal_xy
    else:
        observation, done, success, score, mode = slot.step(arrays["actions"][index].copy())
    arrays["observations"][index] = observation
    arrays["done"][index] = done
    arrays["success"][index] = success
    arrays["scores"][index] = score
    arrays["modes"][index] = mode
    if config.every and (slot.time % config.every == 0 or done or success):
        arrays["frames"][index] = slot.render()


def _check_graphics() -> None:
    """Fail early, and in words, where MuJoCo cannot draw."""
    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:
        raise NoGraphics(str(error) or type(error).__name__) from error


if __name__ == "__main__":
    main()
