"""What MkDocs is told beyond mkdocs.yml: pages made at build time, and links that hold there.

The pages in docs/ are read on GitHub as they stand. The site fills in what is made from the code.
"""

import contextlib
import io
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "docs" / "notebooks"
COMMANDS_MARK = "<!-- made by the site: every command -->"
TABLES_MARK = "<!-- made by the site: every table -->"

# What `--help` is asked of. A command that is not here is asked alone.
ACTIONS = {
    "data": ("make", "check"),
    "collect": ("expert ant", "score ant"),
    "train": ("", "nf-gcbc cube-single-play-v0"),
    "suite": ("", "run", "run --launcher ray", "run --launcher slurm", "status"),
    "bench": ("train", "sample", "deploy", "explore", "data", "modes", "flows"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        name = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, name, content=notebook_page(path)))
    return files


def notebook_page(path: Path) -> str:
    """Return a notebook's text and code as Markdown."""
    cells = nbformat.read(path, as_version=4).cells
    parts = [
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in cells
    ]
    title, *rest = parts
    note = f"This page is the notebook [{path.name}]({path.name}), without its outputs."
    return "\n\n".join([title, note, *rest]) + "\n"


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Fill in what is made from code and records, and turn links that lead out of docs/."""
    if COMMANDS_MARK in markdown:
        markdown = markdown.replace(COMMANDS_MARK, commands_page())
    if TABLES_MARK in markdown:
        markdown = markdown.replace(TABLES_MARK, tables_page(ROOT / "results"))
    return with_links(with_wide_lists(markdown), page.file.src_uri, config.repo_url)


def with_wide_lists(markdown: str) -> str:
    """Return a page with lists as Python-Markdown asks, which GitHub does not.

    What belongs to an item stands four columns in. A numbered item that follows such text comes
    after an empty line.
    """

    def wide(part: str) -> str:
        part = re.sub(r"^(?:   (?=\S)|  (?=[-*] ))", "    ", part, flags=re.MULTILINE)
        return re.sub(r"^(    \S.*\n)(?=\d+\. )", r"\1\n", part, flags=re.MULTILINE)

    return _outside_code(markdown, wide)


_LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\(([^)\s:]+?)(#[^)\s]*)?\)")


def with_links(markdown: str, source: str, repository: str | None) -> str:
    """Return a page whose links hold on the site.

    A link out of docs/ leads to the repository if it has an address, and is plain text otherwise.
    A link to a notebook leads to its page.

    Args:
        markdown: The page.
        source: Its path in docs/.
        repository: The repository's address.
    """

    def turned(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), target))
        if not place.startswith("docs/"):
            return f"[{text}]({repository}/blob/main/{place}{anchor})" if repository else text
        if target.endswith(".ipynb") and not source.startswith("notebooks/"):
            return f"[{text}]({target.removesuffix('.ipynb')}.md{anchor})"
        return found[0]

    return _outside_code(markdown, lambda part: _LINK.sub(turned, part))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(```.*?```)", markdown, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


# A docstring's references, as Sphinx writes them, are code.
_ROLE = re.compile(r":(?:func|class|meth|mod|attr):<code>~?(.*?)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show references in docstrings as code."""
    return _ROLE.sub(r"<code>\1</code>", html)


def tables_page(folder: Path) -> str:
    """Return the tables of every file of records in a folder."""
    from nfrl.reports.tables import all_tables, find_task
    from nfrl.runs.records import load_records

    parts = []
    for path in sorted(folder.glob("*.jsonl")):
        parts.append(f"## {path.name}")
        for table in all_tables(load_records([path]), find_task):
            if table.rows:
                parts += [f"### {table.title}", table.markdown()]
    return "\n\n".join(parts)


def commands_page() -> str:
    """Return every command's help, as it is printed."""
    from nfrl.cli.main import COMMANDS

    parts = []
    for command, purpose in COMMANDS.items():
        parts += [f"## nfrl {command}", f"{purpose[0].upper()}{purpose[1:]}."]
        for action in ACTIONS.get(command, ("",)):
            words = [command, *action.split()]
            if action:
                parts.append(f"### nfrl {' '.join(words)}")
            parts.append(f"```text\n{help_of(words)}\n```")
    return "\n\n".join(parts)


def help_of(words: list[str]) -> str:
    """Return what a command prints for ``--help``."""
    from nfrl.cli.main import main

    asked = [*words, "--help"]
    with _printed() as printed:
        try:
            status = main(asked)
        except SystemExit as end:
            status = end.code
    text = printed.getvalue()
    if status not in (0, None) or "usage: nfrl" not in text:
        raise RuntimeError(f"nfrl {' '.join(asked)}: status {status}\n{text}")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@contextlib.contextmanager
def _printed() -> Iterator[io.StringIO]:
    """Catch what is printed, a hundred columns wide and without colours."""
    before = dict(os.environ)
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    stream = io.StringIO()
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(sys.stdout):
            yield stream
    finally:
        os.environ.clear()
        os.environ.update(before)
