"""Commands as tasks of a Ray cluster. A run whose node is lost goes on elsewhere."""

import contextlib
import dataclasses
import logging
import math
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from nfrl.errors import UserError
from nfrl.launch.launcher import Command, Start
from nfrl.launch.work import Work, forwarded, prepared


@dataclasses.dataclass(frozen=True)
class RayLauncher:
    """Runs commands as tasks of a Ray cluster (docs/cluster.md)."""

    at_once: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("ray",)

    cpus: float = 1
    """Cores of a run."""
    gpus: float = 0
    """GPUs of a run; 0.25 puts four runs on one."""
    memory_gb: float = 0
    """Memory that a run needs, so that no node gets too many; 0 does not say."""
    retries: int = 3
    """How often a run may lose its node, and goes on from its checkpoint on another."""
    address: str = "auto"
    """The cluster: HOST:PORT of its head; auto for the one that this machine is part of; local for
    one of this machine alone, which ends with the command."""

    def __post_init__(self):
        for name in ("cpus", "gpus", "memory_gb", "retries"):
            if getattr(self, name) < 0:
                raise UserError(f"{name.replace('_', '-')} must not be negative")

    def lanes(self) -> None:
        return None

    def cores(self, lanes: int) -> int:
        return max(math.ceil(self.cpus), 1)

    @contextlib.contextmanager
    def open(self, lanes: int) -> Iterator[Start]:
        import ray

        folder, environment = os.getcwd(), forwarded()
        with _connected(self.address):
            self._say_if_nowhere(ray.nodes())
            task = ray.remote(_carry_out).options(
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                memory=int(self.memory_gb * 1e9) or None,
                max_retries=self.retries,
            )

            def begin(commands: Sequence[Command]) -> list[_Task]:
                cores = self.cores(lanes)
                works = [
                    Work(prepared(command), folder, cores, environment, with_us=True)
                    for command in commands
                ]
                return [_Task(task.remote(work), work.command) for work in works]

            yield begin

    def _say_if_nowhere(self, nodes: Sequence[dict[str, Any]]) -> None:
        """Warn where no node can take a run: the cluster may grow, so this is no error."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_gb * 1e9}
        for node in nodes:
            has = node["Resources"]
            if node["Alive"] and all(has.get(name, 0) >= value for name, value in wanted.items()):
                return
        print(
            f"no node of the cluster has {self.cpus:g} cores, {self.gpus:g} GPUs and "
            f"{self.memory_gb:g} GB of memory now: runs wait until one joins"
        )


def _carry_out(work: Work) -> int:
    return work()


class _Task:
    """A task of Ray's: the command is queued, runs on a node, or has ended."""

    def __init__(self, reference: Any, command: Command):
        self._reference, self._command = reference, command
        self._status: int | None = None

    def poll(self) -> int | None:
        import ray

        if self._status is None and ray.wait([self._reference], timeout=0)[0]:
            try:
                self._status = ray.get(self._reference)
            except ray.exceptions.TaskCancelledError:
                self._status = -signal.SIGINT
            except ray.exceptions.RayError as error:  # its node was lost too often, say
                with self._command.log.open("a") as file:
                    print(error, file=file)
                self._status = 1
        return self._status

    def interrupt(self) -> None:
        import ray

        ray.cancel(self._reference)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """Be connected to a cluster; a connection that is there already is used, and stays."""
    import ray

    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"there is no Ray cluster at {address} ({str(error).splitlines()[0]}): start one with "
            "`ray start --head`, or give --address local for one of this machine alone"
        ) from error
    # Ray sets its own, by which a suite that is told to end would not end in order.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()
