"""A small table that renders itself for the terminal, for Markdown and for HTML."""

import dataclasses
import html
from typing import Literal

from rich import box
from rich.table import Table as RichTable
from rich.text import Text


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell: its text, and whether it stands out."""

    text: str
    bold: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of short texts. Text is escaped wherever it is rendered.

    Attributes:
        name: What the markers of a README call it.
        title: A heading.
        columns: The names of the columns.
        rows: The cells, as many in each row as there are columns.
        left: How many columns, from the first, hold words; the others hold numbers.
        note: What the reader must know to read the numbers.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: {len(row)} cells for {len(self.columns)} columns")

    def rich(self) -> RichTable:
        """Render for the terminal."""
        table = RichTable(
            title=Text(self.title, style="bold"),
            caption=Text(self.note, style="dim") if self.note else None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for index, column in enumerate(self.columns):
            # On a narrow terminal a cell takes more lines; nothing is cut off.
            justify: Literal["left", "right"] = "left" if index < self.left else "right"
            table.add_column(Text(column), justify=justify, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell.text, style="bold" if cell.bold else "") for cell in row))
        return table

    def markdown(self) -> str:
        """Render as a GitHub Markdown table, with the note below."""
        rules = ["---" if index < self.left else "---:" for index in range(len(self.columns))]
        texts = [
            [
                f"**{escape_markdown(cell.text)}**" if cell.bold else escape_markdown(cell.text)
                for cell in row
            ]
            for row in self.rows
        ]
        lines = [[escape_markdown(column) for column in self.columns], rules, *texts]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        if not self.rows:
            table = "*No results yet.*"
        return f"{table}\n\n{escape_markdown(self.note)}" if self.note else table

    def html(self) -> str:
        """Render as an HTML ``<table>``, numbers in cells of class ``n``."""

        def line(tag: str, texts: list[str]) -> str:
            cells = [
                f"<{tag}>{text}</{tag}>"
                if index < self.left
                else f'<{tag} class="n">{text}</{tag}>'
                for index, text in enumerate(texts)
            ]
            return f"<tr>{''.join(cells)}</tr>"

        def text(cell: Cell) -> str:
            escaped = html.escape(cell.text)
            return f"<strong>{escaped}</strong>" if cell.bold else escaped

        head = line("th", [html.escape(column) for column in self.columns])
        body = "\n".join(line("td", [text(cell) for cell in row]) for row in self.rows)
        return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def escape_markdown(text: str) -> str:
    """Escape, for Markdown, what would end a cell, open a tag or be taken for emphasis."""
    for character in "\\|*_`[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
