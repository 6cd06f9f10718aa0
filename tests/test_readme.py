"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(example):
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
