"""Finished runs: a folder and the record in it."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from nfrl.runs.folder import RunFolder
from nfrl.runs.records import Record, find_sources, read_result


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run. What else its folder holds is read when asked for."""

    folder: RunFolder
    record: Record


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Find every finished run under ``paths``, as ``load_records`` does."""
    return [Run(RunFolder(path), read_result(path)) for path in find_sources(paths).runs]
