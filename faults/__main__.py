"""``python -m faults``: work through the cases, print the table, write the results."""

import argparse
import collections
import contextlib
import dataclasses
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from faults.case import Case, Outcome
from faults.processes import adopt_orphans, assert_alone, fork
from nfrl.files import write_json
from nfrl.reading import read_json
from nfrl.reports.table import Cell, Table
from nfrl.reports.tables import update_readme
from nfrl.runs.provenance import provenance

# Of a case: its folder has another name each time.
_OWN_PLACE = re.compile(r"(/[^\s'\":]*)?/nfrl-faults-\w+/\d+/(place/)?")
PARTS = ("kills", "disks", "inputs", "security", "load", "numbers")
# What commands import, once and before any fork.
_COMMANDS = ("train", "resume", "eval", "data", "export", "push", "report", "suite", "finishing")
_IMPORTED = (
    *(f"nfrl.cli.{name}" for name in _COMMANDS),
    *("nfrl.evaluation.rollout", "nfrl.environments.make", "nfrl.reports.page", "ogbench"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"by default all: {PARTS}")
    parser.add_argument("--short", action="store_true", help="the cases of make test only")
    parser.add_argument("--only", default="", help="the cases whose kind or name has this in it")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time")
    parser.add_argument("--out", type=Path, help="a JSON file; it keeps the parts not run now")
    parser.add_argument("--page", type=Path, help="a Markdown file with a place for its table")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {unknown}: there are {PARTS}")
    if options.page and (options.short or options.only or not options.out):
        parser.error("--page shows whole parts, from the file that --out names")
    with tempfile.TemporaryDirectory(prefix="nfrl-faults-") as root:
        _prepare(Path(root))
        cases = [
            (part, case)
            for part in options.parts or PARTS
            for case in importlib.import_module(f"faults.{part}").cases(options.seed)
            if (case.short or not options.short) and options.only in f"{case.kind} {case.name}"
        ]
        places = {(part, case.kind, case.name): i for i, (part, case) in enumerate(cases)}
        # What may take longest begins first, so that no processor waits for it at the end.
        cases.sort(key=lambda each: -each[1].seconds)
        begun = time.monotonic()
        outcomes = []
        for outcome in _work(cases, Path(root), options.jobs):
            outcomes.append(outcome)
            mark = "ok" if outcome.passed else "FAILED"
            print(
                f"{len(outcomes)}/{len(cases)} {mark} {outcome.part}: {outcome.kind}, "
                f"{outcome.name} ({outcome.seconds:.1f} s)",
                *([] if outcome.passed else [outcome.said]),
                flush=True,
                sep="\n",
            )
        seconds = time.monotonic() - begun
    outcomes.sort(key=lambda each: places[each.part, each.kind, each.name])
    print(_table(outcomes).markdown())
    failed = [each for each in outcomes if not each.passed]
    print(f"{len(outcomes)} cases, {len(failed)} failed, {seconds:.0f} s")
    if options.out:
        recorded = _write(options.out, outcomes, options.seed, options.jobs, seconds)
        if options.page:
            update_readme(options.page, [_table(recorded)])
    return int(bool(failed) or not outcomes)


def _prepare(root: Path) -> None:
    """Import what cases need, and keep what they compile for one another."""
    compiling = {
        "jax_compilation_cache_dir": str(root / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,
    }
    for name, value in compiling.items():  # here and in the forks; in what commands start
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    # XLA's older emitters compile in half the time.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
    os.environ |= {
        "MPLBACKEND": "agg",
        "XDG_CACHE_HOME": str(root / "cache"),
        "HF_HOME": str(root / "hub"),
        "FAULTS_SHARED": str(root / "shared"),
    }
    (root / "shared").mkdir()
    for name in _IMPORTED:
        importlib.import_module(name)
    from jax._src import xla_bridge

    assert not xla_bridge.backends_are_initialized(), "a process with a back end cannot be forked"


def _work(cases: list[tuple[str, Case]], root: Path, jobs: int) -> Iterator[Outcome]:
    waiting = collections.deque(enumerate(cases))
    running: dict[int, tuple[str, Case, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, (part, case) = waiting.popleft()
            folder = root / f"{number:04d}"
            folder.mkdir()
            process = fork(lambda case=case, folder=folder: _run(case, folder), folder / "log")
            running[process] = part, case, folder, time.monotonic()
        for process, (part, case, folder, begun) in list(running.items()):
            seconds = time.monotonic() - begun
            found, _ = os.waitpid(process, os.WNOHANG)
            if not found and seconds > case.seconds:
                os.kill(process, signal.SIGKILL)  # and, one after the other, all below it
                found, _ = os.waitpid(process, 0)
            if found:
                del running[process]
                yield _outcome(part, case, folder, seconds)
                with contextlib.suppress(OSError):
                    shutil.rmtree(folder)
        time.sleep(0.005)


def _run(case: Case, folder: Path) -> int:
    """Run a case in a process of its own: its folder, its orphans, its memory."""
    adopt_orphans()
    place, temporary = folder / "place", folder / "temporary"
    place.mkdir()
    temporary.mkdir()
    os.chdir(place)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    try:
        said = case.run(place) or ""
        assert_alone()
        left = sorted(path.name for path in temporary.iterdir())
        assert not left, f"temporary files were left behind: {left}"
        peak = max(
            resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        assert peak < case.megabytes, f"it took {peak:.0f} MB of memory"
    except Exception as error:
        traceback.print_exc()
        _tell(folder, passed=False, said=str(error))
        return 1
    _tell(folder, passed=True, said=said, megabytes=peak)
    return 0


def _tell(folder: Path, **values: object) -> None:
    (folder / "outcome.json").write_text(json.dumps(values))


def _outcome(part: str, case: Case, folder: Path, seconds: float) -> Outcome:
    try:
        told = json.loads((folder / "outcome.json").read_text())
    except OSError:
        told = {"passed": False, "said": ""}
    said = told["said"]
    if not told["passed"]:
        why = f"it took more than {case.seconds:.0f} s" if seconds > case.seconds else ""
        said = f"{why}\n{(folder / 'log').read_text(errors='replace')[-4000:]}"
    megabytes = told.get("megabytes", 0.0)
    return Outcome(part, case.kind, case.name, told["passed"], said, seconds, megabytes)


def _table(outcomes: Sequence[Outcome]) -> Table:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.part, each.kind), []).append(each)
    rows = []
    for (part, kind), those in groups.items():
        kept = sum(each.passed for each in those)
        slowest, most = (max(getattr(e, n) for e in those) for n in ("seconds", "megabytes"))
        numbers = (str(len(those)), str(kept), f"{slowest:.1f}", f"{most:.0f}")
        rows.append(tuple(map(Cell, (part, kind, *numbers))))
    columns = ("part", "met by the fault", "cases", "kept", "slowest, s", "most memory, MB")
    return Table("faults", "Faults", columns, tuple(rows), left=2)


def _write(
    path: Path, outcomes: Sequence[Outcome], seed: int, jobs: int, seconds: float
) -> list[Outcome]:
    """Write what came out, in place of what the file holds of these parts; return all it holds."""
    parts = read_json(path)["parts"] if path.exists() else {}
    for part in {each.part for each in outcomes}:
        cases = []
        for each in outcomes:
            case = dataclasses.asdict(each)
            said = _OWN_PLACE.sub("", each.said)
            case["said"] = said[:300] if each.passed else said[-1500:]
            case["seconds"], case["megabytes"] = round(each.seconds, 2), round(each.megabytes)
            cases += [case] if each.part == part else []
        together = {"together": sorted({each.part for each in outcomes})}
        how = {"seed": seed, "jobs": jobs, "seconds": round(seconds), **together}
        failed = sum(not case["passed"] for case in cases)
        parts[part] = {**provenance(), **how, "failed": failed, "cases": cases}
    parts = {part: parts[part] for part in PARTS if part in parts}
    write_json(path, {"parts": parts})
    return [Outcome(**case) for part in parts.values() for case in part["cases"]]


if __name__ == "__main__":
    sys.exit(main())
