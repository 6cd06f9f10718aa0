"""The README is short, its examples run as they stand, and its commands can be parsed."""

import re
import shlex
from pathlib import Path

import pytest

from nfrl.cli.main import COMMANDS
from nfrl.cli.train import plan

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINES = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("nfrl ")
]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    assert all(abs(names[name]).max() < 1e6 for name in ("actions", "action") if name in names)


def test_both_front_doors_are_named():
    assert "make demo" in TEXT
    assert "make test" in TEXT


def test_every_command_shown_exists():
    assert {line.split()[1] for line in LINES} <= set(COMMANDS)


# What needs data, packages or files of the reader's is run by the tests of the pages.
OWN = ("--data", "--config", "my_pkg")


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in LINES
        if line.startswith("nfrl train") and not any(word in line for word in OWN)
    ],
)
def test_training_that_is_shown_can_be_planned(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan(shlex.split(line, comments=True)[2:])
    assert planned.folders[0].path.is_relative_to("runs")
    assert planned.steps > 0


def test_it_is_read_in_two_minutes():
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    assert len(prose.split()) <= 900
