"""The table of streamed data, from the record of ``nfrl bench stream``."""

from collections.abc import Mapping
from typing import Any

from nfrl.reports.table import Cell, Table


def streaming(record: Mapping[str, Any]) -> Table:
    """Return a row for each agent and size of data.

    Args:
        record: What ``nfrl bench stream --out`` wrote.
    """
    rows = []
    for agent, runs in record["agents"].items():
        for on_device, streamed in zip(runs[::2], runs[1::2], strict=True):
            share = streamed["steps_per_second"] / on_device["steps_per_second"]
            texts = [
                agent,
                f"{streamed['rows']:,}",
                f"{streamed['megabytes']:,.0f}",
                f"{on_device['steps_per_second']:.0f}",
                f"{streamed['steps_per_second']:.0f}",
                f"{share:.0%}",
                _memory(on_device),
                _memory(streamed),
            ]
            rows.append(tuple(map(Cell, texts)))
    columns = (
        *("agent", "transitions", "data, MB", "device: updates/s", "streamed: updates/s", "share"),
        *("device: memory, MB", "streamed: memory, MB"),
    )
    return Table("streaming", "Streamed data", columns, tuple(rows), left=1)


def _memory(run: Mapping[str, Any]) -> str:
    return "" if run["peak_megabytes"] is None else f"{run['peak_megabytes']:,.0f}"
