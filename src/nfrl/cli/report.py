"""``nfrl report PATHS``: tables, figures and one HTML page from runs or records."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from nfrl.errors import UserError
from nfrl.reports.page import write_report
from nfrl.reports.scoreboard import count_table, scoreboard_table, summary_table
from nfrl.reports.tables import all_tables, find_task, update_readme
from nfrl.runs.records import load_records


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Show runs, or records of runs, as tables, figures and one HTML page."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, folders of them, .jsonl files of records, or folders of those."""
    out: Path = Path("report")
    """Where report.html, report.md and the figures go."""
    readme: Path | None = None
    """A Markdown file whose tables, between <!-- results:NAME --> marks, are made anew."""
    tables: tuple[str, ...] = ()
    """Which of that file's tables, by NAME, where the others are of other records; all by
    default."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl report`` and do it."""
    options = tyro.cli(ReportOptions, args=list(arguments), prog="nfrl report")
    if not options.paths:
        raise UserError("report takes at least one path: a folder of runs, or a file of records")
    show(options.paths, options.out)
    if options.tables and options.readme is None:
        raise UserError("--tables names tables of a file: give --readme as well")
    if options.readme is not None:
        records = load_records(options.paths)
        boards = [make(records) for make in (scoreboard_table, summary_table, count_table)]
        tables = [*all_tables(records, find_task), *boards]
        update_readme(options.readme, tables, options.tables)
        print(f"tables of {options.readme} made anew")


def show(paths: Sequence[Path], out: Path) -> None:
    """Write a report, print its tables, and say where it is."""
    report = write_report(paths, out)
    console = Console()
    for table in report.tables:
        console.print(table.rich())
    for folder in report.unfinished:
        print(f"not finished yet, left out: {folder}")
    print(f"report: {report.page}")
