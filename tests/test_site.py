"""The site: its navigation, its links, what it makes of the code; and docs/start.md runs."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pages
import pytest
import yaml

from nfrl.cli.main import COMMANDS

ROOT = pages.DOCS.parent


@pytest.fixture(scope="module")
def site():
    """scripts/docs_site.py, which MkDocs loads by its path, too."""
    found = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts" / "docs_site.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def settings():
    # The tags of Python objects in mkdocs.yml are not needed here.
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!!python/", "!")
    yaml.SafeLoader.add_multi_constructor("!", lambda loader, suffix, node: None)
    return yaml.safe_load(text)


def leaves(nav):
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from leaves(entry)


def test_every_page_is_in_the_navigation_and_the_other_way_round(site):
    listed = list(leaves(settings()["nav"]))
    assert len(set(listed)) == len(listed)
    written = {path.name for path in pages.DOCS.glob("*.md")}
    made = {f"notebooks/{path.stem}.md" for path in site.NOTEBOOKS.glob("*.ipynb")}
    assert set(listed) == written | made


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        (None, "see records"),
        ("https://x.org/n", "see [records](https://x.org/n/blob/main/results)"),
    ],
)
def test_links_out_of_the_docs(site, repository, expected):
    assert site.with_links("see [records](../results)", "results.md", repository) == expected


def test_links_within_the_docs(site):
    text = "[a](goals.md#b), [c](https://d.e), ![f](pictures/g.png)\n```\n[h](../i)\n```\n"
    assert site.with_links(text, "index.md", None) == text
    turned = site.with_links("[a](notebooks/density.ipynb)", "index.md", None)
    assert turned == "[a](notebooks/density.md)"


def test_lists_in_lists(site):
    text = "1. a\n   - b\n\n   c\n2. d\n- e\n  - f\n```\n   g\n```"
    wide = "1. a\n    - b\n\n    c\n\n2. d\n- e\n    - f\n```\n   g\n```"
    assert site.with_wide_lists(text) == wide


def test_a_command_is_shown_with_its_own_help(site):
    text = site.help_of(["data", "check"])
    assert text.startswith("usage: nfrl data check")
    assert "--action-key" in text
    assert set(site.ACTIONS) <= set(COMMANDS)
    with pytest.raises(RuntimeError, match="nfrl nonsense"):
        site.help_of(["nonsense"])


def test_tables_are_made_from_records(site):
    text = site.tables_page(ROOT / "results")
    assert "## gcbc.jsonl\n\n### Scores\n\n| task |" in text
    assert "cube-single-play-v0" in text


def test_links_of_the_pages_on_github():
    for path in [*pages.DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_python_of_the_first_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(pages.blocks(pages.page("start.md"), "python"))
    small = "steps=20, encoder=(16,), condition_dim=8, flow=RealNVPConfig(1, 8), progress=False"
    assert "steps=1000" in code
    names: dict = {}
    exec("from nfrl.flows import RealNVPConfig\n" + code.replace("steps=1000", small), names)
    assert names["action"].shape == (2,)
    assert np.isfinite(names["place"]).all()
    assert Path("my-policy", "policy.json").is_file()
