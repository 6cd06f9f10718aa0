"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

from nfrl.cli.main import main

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def after_the_demo(point_file, tmp_path_factory):
    """A folder where a run of the demo's name, a much shorter one, has been made."""
    place = tmp_path_factory.mktemp("demo")
    task, where = "pointmaze-medium-navigate-v0", ("--runs", str(place / "runs/demo"))
    small = ("--agent.blocks", "1", "--steps", "20", "--training.checkpoint-every", "20")
    small += ("--training.chunk", "10", "--training.batch-size", "16", "--episodes", "0")
    assert main(["train", "nf-gcbc", task, "--dataset", str(point_file), *where, *small]) == 0
    return place


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(example, after_the_demo, monkeypatch):
    monkeypatch.chdir(after_the_demo)
    names: dict = {}
    exec(example, names)
    assert all(
        bool((abs(value) < 1e6).all())
        for name, value in names.items()
        if name in ("actions", "log_prob", "action")
    )


def test_both_front_doors_are_named():
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text


def test_every_command_shown_exists():
    from nfrl.cli.main import COMMANDS

    shown = re.findall(r"^nfrl (\w+)", README.read_text(), re.MULTILINE)
    assert set(shown) <= set(COMMANDS)
