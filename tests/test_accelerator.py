"""The script for a loan of an accelerator: it keeps to its time, and brings back what it has."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "accelerator.py"
SMALL = (
    "--agent",
    "gcbc",
    "--preset",
    "laptop",
    "--batch-sizes",
    "8",
    "16",
    "--seeds",
    "1",
    "--steps",
    "2",
)


@pytest.fixture(scope="module")
def script():
    found = importlib.util.spec_from_file_location("accelerator", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_all_is_measured_and_drawn(script, tmp_path):
    words = ("--out", str(tmp_path), *SMALL, "--settings", "no Triton")
    assert script.main(words) == 0
    record = json.loads((tmp_path / "accelerator.json").read_text())
    assert record["fastest"] == "no Triton"
    assert record["scale"]["xla_flags"] == record["settings"]["no Triton"]
    assert [point["batch_size"] for point in record["scale"]["points"]] == [8, 16]
    assert record["train"]["agents"]["gcbc"]["steps_per_second"] > 0
    assert {"device", "versions", "commit"} <= set(record)
    assert (tmp_path / "accelerator.png").is_file()


def test_the_fastest_setting_is_that_of_most_updates(script):
    slow, fast = ({"points": [{"updates_per_second": rate}, {}]} for rate in (1.0, 2.0))
    assert script.fastest_of({"failed": None, "slow": slow, "fast": fast}) == "fast"
    assert script.fastest_of({"failed": None}) is None


def test_what_has_no_time_left_is_not_begun_and_what_fails_is_told(
    script, tmp_path, monkeypatch, capfd
):
    assert script.main(("--out", str(tmp_path), *SMALL, "--seconds", "1")) > 0
    assert not list(tmp_path.glob("*.txt"))
    assert "not measured: train" in capfd.readouterr().err
    monkeypatch.setitem(script.SETTINGS, "default", "--xla_no_such_flag=1")
    assert script.main(("--out", str(tmp_path), *SMALL, "--settings", "default")) == 2
    assert "scale-default.txt" in capfd.readouterr().err
    assert json.loads((tmp_path / "accelerator.json").read_text())["train"] is None
