"""A command as a node of a cluster carries it out."""

import dataclasses
import os
import signal
import time
from collections.abc import Mapping

from nfrl.launch.launcher import Command
from nfrl.launch.local import Process

# What the launching process was told by its environment, and runs must be told, too.
_FORWARDED = (
    *("NFRL_", "JAX_", "XLA_", "MUJOCO_", "MINARI_", "HF_", "WANDB_", "MLFLOW_"),
    "PYTHONPATH",
)


def forwarded() -> dict[str, str]:
    """Return the variables of this process that runs on other machines must have, too."""
    return {name: value for name, value in os.environ.items() if name.startswith(_FORWARDED)}


def prepared(command: Command) -> Command:
    """Return a command that can be sent away: with an empty log, of an absolute path."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    command.log.write_bytes(b"")
    return dataclasses.replace(command, log=command.log.absolute())


class Work:
    """A command that is sent to a node, and called there.

    A command that was carried out before, on a node that is lost, prints on into its log.

    Args:
        command: The command; its log lies on storage that the nodes share.
        folder: Where it runs: a path that is the same on every node.
        cores: How many cores it has.
        environment: Its variables, beside those of the node.
        with_us: See :class:`nfrl.launch.local.Process`.
    """

    def __init__(
        self,
        command: Command,
        folder: str,
        cores: int,
        environment: Mapping[str, str],
        with_us: bool,
    ):
        self.command, self.folder, self.cores = command, folder, cores
        self.environment, self.with_us = dict(environment), with_us

    def __call__(self) -> int:
        """Carry it out; return its exit status. What interrupts this interrupts it, as Ctrl-C."""
        # Of a cluster that a shell started in the background, which ignores it, nodes inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = self.begin()
        try:
            # Not `wait`: what Ray interrupts a task by does not end a call of the system's.
            while process.poll() is None:
                time.sleep(0.1)
        except BaseException:
            process.interrupt()
            raise
        finally:
            status = process.wait()
        return status

    def begin(self) -> Process:
        """Begin it."""
        return Process(
            self.command,
            folder=self.folder,
            # XLA has as many threads as it says, or else one for each core of the node.
            environment={**os.environ, **self.environment, "NPROC": str(self.cores)},
            append=True,
            with_us=self.with_us,
        )
