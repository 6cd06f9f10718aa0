"""The table of the kinds of flows, from the record of ``nfrl bench flows``."""

from collections.abc import Mapping
from typing import Any

from nfrl.reports.table import Cell, Table


def flow_kinds(record: Mapping[str, Any]) -> Table:
    """Return a row for each flow.

    Args:
        record: What ``nfrl bench flows --out`` wrote.
    """
    flows = record["flows"]
    densities = list(dict.fromkeys(name for each in flows.values() for name in each["densities"]))
    columns = [
        column
        for name in densities
        for column in (f"{name}: log-density, nats", "modes found", "samples in a mode")
    ]
    rows = []
    for flow, found in flows.items():
        scores = [found["densities"].get(name) for name in densities]
        texts = [
            flow,
            f"{found['parameters']:,}",
            *(text for score in scores for text in _score(score)),
            f"{found['steps_per_second']:.1f}",
            f"{found['milliseconds_1']:.1f}",
            f"{found['milliseconds_50']:.1f}",
        ]
        rows.append(tuple(map(Cell, texts)))
    best = {
        name: score["true_log_prob"]
        for each in flows.values()
        for name, score in each["densities"].items()
    }
    truth = ", ".join(f"{name} {value:.2f}" for name, value in best.items())
    return Table(
        "flow-kinds",
        "Kinds of flows within nf-bc",
        (
            *("flow", "parameters"),
            *columns,
            *("updates/s", "1 chunk, ms", "50 chunks, ms"),
        ),
        tuple(rows),
        note=f"After {record['steps']} updates of 256 fresh samples, seed {record['seed']}. "
        f"Log-densities are of held-out samples; the density's own: {truth}. Speed is that on "
        "left-or-right's chunks of eight actions of two numbers.",
    )


def _score(score: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if score is None:
        return "", "", ""
    return f"{score['log_prob']:.2f}", f"{score['coverage']:.0%}", f"{score['inside']:.0%}"
