"""Commands as jobs of Slurm, through submitit. A run that is preempted goes on in another job."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from nfrl.errors import UserError
from nfrl.launch.launcher import Command, Start
from nfrl.launch.local import Process
from nfrl.launch.work import Work, prepared


@dataclasses.dataclass(frozen=True)
class SlurmLauncher:
    """Runs commands as jobs of Slurm, in arrays (docs/cluster.md)."""

    # Slurm's own limit of an array, MaxArraySize, is 1001 unless a site says otherwise.
    at_once: ClassVar[int] = 1000
    requires: ClassVar[tuple[str, ...]] = ("submitit",)

    cpus: int = 1
    """Cores of a run."""
    gpus: int = 0
    """GPUs of a run."""
    memory_gb: float = 4
    """Memory of a run; Slurm ends one that takes more."""
    retries: int = 3
    """How often a run may use up its time, and goes on from its checkpoint in another job."""
    time_min: int = 240
    """Minutes of a job. A minute and a half before they are over the run is saved."""
    partition: str = ""
    """The partition; by default Slurm's own."""
    account: str = ""
    """The account; by default Slurm's own."""
    cluster: Literal["slurm", "local"] = "slurm"
    """Where jobs go: slurm; or local, for processes of this machine that are treated as jobs."""
    submitit: Path = Path(".submitit")
    """Where submitit keeps its files, on storage that the nodes share."""

    def __post_init__(self):
        for name, least in {"cpus": 1, "gpus": 0, "retries": 0, "time_min": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name.replace('_', '-')} must be at least {least}")
        if self.memory_gb <= 0:
            raise UserError(f"memory-gb must be more than 0, not {self.memory_gb:g}")

    def lanes(self) -> None:
        return None

    def cores(self, lanes: int) -> int:
        return self.cpus

    @contextlib.contextmanager
    def open(self, lanes: int) -> Iterator[Start]:
        executor = self._executor(lanes)
        folder = os.getcwd()

        def begin(commands: Sequence[Command]) -> list[_Job]:
            # Slurm takes this process's environment to the nodes, and ends all processes of a job
            # with it.
            works = [
                _Resumable(prepared(command), folder, self.cpus, environment={}, with_us=False)
                for command in commands
            ]
            with executor.batch():
                jobs = [executor.submit(work) for work in works]
            return [_Job(job, work.command) for job, work in zip(jobs, works, strict=True)]

        yield begin

    def _executor(self, lanes: int) -> Any:
        import submitit

        try:
            executor = submitit.AutoExecutor(
                self.submitit, cluster=self.cluster, slurm_max_num_timeout=self.retries
            )
        except RuntimeError as error:
            raise UserError(f"there is no Slurm here: {error}") from error
        executor.update_parameters(
            name="nfrl",
            timeout_min=self.time_min,
            cpus_per_task=self.cpus,
            gpus_per_node=self.gpus,
            mem_gb=self.memory_gb,
            slurm_array_parallelism=lanes,
            **{
                f"slurm_{name}": value
                for name in ("partition", "account")
                if (value := getattr(self, name))
            },
        )
        return executor


class _Resumable(Work):
    """A command that goes on in another job when this one's time is over, or it must make way."""

    _process: Process | None = None

    def begin(self) -> Process:
        # Slurm tells this process and the command that the job must end. The command need not know.
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._process = super().begin()
        signal.signal(signal.SIGUSR2, before)
        return self._process

    def checkpoint(self) -> Any:
        """Save; return what goes on. Submitit calls it, when Slurm says that the job must end."""
        import submitit

        if self._process is not None and self._process.poll() is None:
            self._process.interrupt()
            self._process.wait()
        self._process = None
        return submitit.helpers.DelayedSubmission(self)


class _Job:
    """A job of Slurm's: it is pending, runs, or has ended."""

    def __init__(self, job: Any, command: Command):
        self._job, self._command = job, command
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None and self._job.done():
            try:
                self._status = self._job.result()
            except Exception as error:  # whatever Slurm or submitit may say of it
                with self._command.log.open("a") as file:
                    print(error, file=file)
                self._status = 1
        return self._status

    def interrupt(self) -> None:
        self._job.cancel(check=False)
