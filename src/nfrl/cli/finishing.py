"""What every run's end has in common, good or bad."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nfrl.runs.folder import RunFolder
from nfrl.runs.records import append_record
from nfrl.training.offline import NonFiniteLossError


@contextlib.contextmanager
def finishing(
    folders: Sequence[RunFolder], seeds: Sequence[int], record: Path | None
) -> Iterator[None]:
    """Run what may diverge or be interrupted: the one is recorded, the other told how to go on.

    Args:
        folders: One per seed.
        seeds: The seeds.
        record: A .jsonl file for the record of a run that diverged; None for none.
    """
    try:
        yield
    except NonFiniteLossError as error:
        diverged = folders[list(seeds).index(error.seed)].read_result()
        if record is not None and diverged is not None:
            append_record(record, diverged)
        if len(seeds) > 1:
            print(
                "the seeds that trained with it end at their last checkpoints as well; to train "
                "them without it, give them a --variant name",
                file=sys.stderr,
            )
        raise
    except KeyboardInterrupt:
        print(f"interrupted; go on with: nfrl resume {folders[0].path}", file=sys.stderr)
        raise
