"""The pages of the docs as tests use them: their files are written, their code is run."""

import contextlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from nfrl import registry

DOCS = Path(__file__).parents[1] / "docs"
SOURCES = DOCS.parent / "src"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return a page's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def write_files(text: str, folder: Path) -> list[Path]:
    """Write the files that a page shows, each after its name: `my_lab/envs.py`:"""
    written = []
    for name, body in re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```", text, re.M | re.S):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
        written.append(path)
    return written


def announce(text: str, folder: Path) -> None:
    """Do what pip does with a page's pyproject.toml: write the entry points of the package."""
    project = next(
        found["project"] for found in map(tomllib.loads, blocks(text, "toml")) if "project" in found
    )
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Have a folder's packages imported, with what they announce, and forget them afterwards."""

    def forget() -> None:
        registry._announced.cache_clear()
        registry.mappings.cache_clear()

    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(folder))
    forget()
    try:
        yield
    finally:
        sys.path[:] = path
        packages = {entry.name for entry in folder.iterdir() if entry.is_dir()}
        for name in set(sys.modules) - before:
            if name.split(".")[0] in packages:
                del sys.modules[name]
        forget()
