"""The fault suite: its short cases hold, and it notices a promise that is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("kills", "disks", "inputs", "security", "load", "numbers")
BROKEN = """
from pathlib import Path
from faults.case import Case
from faults.processes import fork, nfrl


def error(folder):
    raise AssertionError("as the test wants")


def orphan(folder):
    import subprocess
    subprocess.Popen(["sleep", "100"])


def temporary(folder):
    import tempfile
    tempfile.mkstemp()


def slow(folder):
    import time
    time.sleep(100)


def greedy(folder):
    block = bytearray(700_000_000)
    block[::4096] = b"x" * len(block[::4096])


def crash(folder):
    import os
    os.kill(os.getpid(), 11)


def traceback(folder):
    return nfrl("data", "check", 3).error


def fine(folder):
    return "fine"


def cases(seed):
    return [
        Case("broken", each.__name__, each, seconds=8.0, megabytes=450.0)
        for each in (error, orphan, temporary, slow, greedy, crash, traceback, fine)
    ]
"""


def run(*words: str, code: str = "from faults.__main__ import main; main()") -> list[dict]:
    """Run the suite in a fresh process, as ``make faults`` does; return its cases."""
    out = Path(words[words.index("--out") + 1])
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert out.exists(), done.stdout + done.stderr
    return [
        case for part in json.loads(out.read_text())["parts"].values() for case in part["cases"]
    ]


def test_the_short_cases_hold(tmp_path):
    cases = run("--short", "--jobs", "1", "--out", str(tmp_path / "faults.json"))
    failed = [case for case in cases if not case["passed"]]
    assert not failed, "\n".join(
        f"{case['kind']}, {case['name']}: {case['said']}" for case in failed
    )
    assert {case["part"] for case in cases} == set(PARTS)


def test_a_broken_promise_is_noticed(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import broken; "
        "sys.modules['faults.inputs'] = broken; from faults.__main__ import main; main()"
    )
    out = str(tmp_path / "faults.json")
    cases = run("inputs", "--jobs", "2", "--out", out, code=code)
    kept = {case["name"]: case["passed"] for case in cases}
    assert kept == {
        **dict.fromkeys(("error", "orphan", "temporary", "slow", "greedy", "crash"), False),
        **{"traceback": False, "fine": True},
    }
