"""Disks that are full, that fail, and that are torn away in the middle of a write.

Every kind of write of every job is met by each of them in turn. The error names the file and the
cure in one line; and when the disk is sound again, the same command goes on to the same bytes.
"""

import ctypes
import functools
import os
import shutil
from pathlib import Path

from faults import jobs
from faults.case import Case
from faults.failing_disk import ERRORS, TORN, FailingDisk, kind_of
from faults.jobs import Job
from faults.processes import Answer, call
from faults.shared import (
    assert_same,
    contents,
    evaluated_run,
    point_data,
    trained_run,
    training_words,
)

# What is said: the cause, and the cure.
_SAID = {
    "ENOSPC": ("disk is full", "make room"),
    "EIO": ("could not write", "whether the disk is sound"),
    "EACCES": ("no permission", "another place"),
}
ROOM = (0, 8, 32, 128, 512)
"""Kilobytes of a real disk that are free, one after the other."""
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000  # of unshare
_PRIVATE_BELOW = 0x4000 | 0x40000  # of mount: MS_REC, MS_PRIVATE


def _run() -> list[str]:
    words = training_words(point_data())
    return [*words, "--record", "runs/records.jsonl", "--runs", "runs"]


def _evaluate() -> list[str]:
    return ["eval", "run", "--episodes", "1", "--workers", "1"]


def _tracked() -> list[str]:
    return [*training_words(point_data()), "--runs", "runs", "--track", "tensorboard"]


def _make_data() -> list[str]:
    sizes = ("--episodes", "4", "--steps", "50", "--workers", "1")
    return ["data", "make", jobs.POINT, *sizes, "--path", "data/point.npz"]


def _append() -> None:
    from nfrl.runs.records import append_record, read_result

    record = read_result(trained_run())
    append_record(Path("results/records.jsonl"), record)


def _save(seed: int = 1) -> None:
    import nfrl

    policy = nfrl.load_policy(trained_run(), step=10 if seed else 20)
    policy.save("policy")


EXPORT = Job(
    "an export", lambda: ["export", str(trained_run()), "--to", "numpy", "--output", "out"]
)
JOBS = (
    Job("a run", _run, runs=(jobs.SEED,)),
    Job("an evaluation", _evaluate, prepare=lambda: shutil.copytree(evaluated_run(), "run")),
    Job("a data set", _make_data),
    Job("joined data", lambda: ["data", "join", "out", str(point_data())]),
    Job("a record", work=_append),
    Job("a saved policy", work=_save, prepare=lambda: call(lambda: _save(0)).succeeded()),
    EXPORT,
    Job("a report", lambda: ["report", str(trained_run()), "--out", "out"]),
    Job("a push", lambda: ["push", str(trained_run()), "me/it", "--dry-run", "out"]),
)
TRACKED = Job("a tracker", _tracked, runs=(jobs.SEED,))


def cases(seed: int) -> list[Case]:
    """Return the cases: each job with each way of failing, and a real disk that is full."""
    found = []
    for job in JOBS:
        for how in (*ERRORS, TORN):
            run = functools.partial(_met_by, job, how)
            short = (job.name, how) in {("a record", "ENOSPC"), ("a saved policy", TORN)}
            found.append(Case(job.name, how, run, short=short, seconds=900.0))
        run = functools.partial(_on_a_small_disk, job)
        found.append(Case(job.name, "a real disk of few bytes", run, seconds=300.0))
    found += [
        Case("a tracker", how, functools.partial(_tracked_on, how), seconds=600.0) for how in ERRORS
    ]
    return found


def _met_by(job: Job, how: str, folder: Path) -> str:
    """Let every kind of write of a job fail in one way, one after the other; then let it be done.

    It goes on each time from where it was left. Where it is done before it meets the write, it
    begins anew.
    """
    undisturbed, _ = job.done()
    expected = contents(undisturbed)
    kinds = _that_fail(_operations(job, folder), how)
    assert kinds
    place = _enter(job, folder / "place")
    for kind in kinds:
        before = contents(place)
        answer = _with_failing_disk(job, place, kind, how)
        if answer.status == 0:
            assert_same(place, undisturbed)
            place = _enter(job, place)
            before = contents(place)
            answer = _with_failing_disk(job, place, kind, how)
        _assert_said(answer, how, kind)
        after = contents(place)
        for name, digest in before.items():
            parts = Path(name).parts
            if parts[-1] == "metrics.jsonl" or any(part.startswith(".") for part in parts):
                continue  # what follows a checkpoint is trained again; halves are taken away
            good = (digest, expected.get(name))
            assert after.get(name) in good, f"{name} is lost: {kind}: {answer.text}"
    job.go_on(log=folder / "again.log").wait().succeeded()
    assert_same(place, undisturbed)
    os.chdir(folder)
    return f"{len(kinds)} writes: {', '.join(kinds)}"


def _with_failing_disk(job: Job, place: Path, kind: str, how: str) -> Answer:
    disk = FailingDisk(place, place.with_name("ledger.log"), kind, how)
    return job.go_on(log=place.with_name("output.log"), before=disk.install).wait()


def _tracked_on(how: str, folder: Path) -> str:
    """Let every kind of write of a tracker fail: it is warned of once, and the run goes on."""
    undisturbed, _ = TRACKED.done()
    kinds = _that_fail(_operations(TRACKED, folder), how)
    kinds = [kind for kind in kinds if "track" in kind or "tfevents" in kind]
    assert len(kinds) >= 3, kinds
    for kind in kinds:
        place = _enter(TRACKED, folder / "place")
        answer = _with_failing_disk(TRACKED, place, kind, how).succeeded()
        warned = [line for line in answer.text.splitlines() if line.startswith("tracking: ")]
        assert len(warned) == 1, (kind, answer.text)
        found, expected = contents(place / jobs.SEED), contents(undisturbed / jobs.SEED)
        for name in ("metrics.jsonl", "result.json", "checkpoints/step-00000020.safetensors"):
            assert found[name] == expected[name], name
    os.chdir(folder)
    return f"{len(kinds)} writes: {', '.join(kinds)}"


def _enter(job: Job, place: Path) -> Path:
    """Make a folder for a job, in place of the one before, and go there."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    os.chdir(place)
    job.prepare()
    return place


def _operations(job: Job, folder: Path) -> list[str]:
    """Return the kinds of what a job does to files of its folder, in their order."""
    place = _enter(job, folder / "counted")
    _with_failing_disk(job, place, "", "").succeeded()
    os.chdir(folder)
    lines = (folder / "ledger.log").read_text().splitlines()
    return list(dict.fromkeys(map(kind_of, lines)))


def _that_fail(kinds: list[str], how: str) -> list[str]:
    able = {
        "ENOSPC": ("open", "write", "fsync", "mkdir"),
        "EIO": ("open", "write", "fsync", "replace", "rename", "mkdir"),
        "EACCES": ("open", "replace", "rename", "mkdir"),
        TORN: ("write", "replace", "rename"),
    }[how]
    return [kind for kind in kinds if kind.startswith(able)]


def _assert_said(answer: Answer, how: str, kind: str) -> None:
    where = f"{kind} ({how}): {answer.text[-1500:]}"
    if how == TORN:
        assert answer.status == 137, where
        return
    try:
        error = answer.error
    except AssertionError as failed:
        raise AssertionError(where) from failed
    cause, cure = _SAID[how]
    assert cause in error, where
    assert cure in error, where
    # A temporary file is called by the name that it was to take; a folder's by what is in it.
    name = kind.partition(" ")[2].rpartition("/")[2].strip(".").split(".")[0]
    assert name.split("#")[0] in error, where


def _on_a_small_disk(job: Job, folder: Path) -> str:
    """Give a job a disk with ever more room, until it is done."""
    undisturbed, _ = job.done()
    place = folder / "disk"
    place.mkdir()
    _mount(place)
    os.chdir(place)
    job.prepare()
    filler = folder / "disk" / "filler.log"
    full = 0
    for room in (*ROOM, None):
        filler.unlink(missing_ok=True)
        free = shutil.disk_usage(place).free
        if room is not None:
            filler.write_bytes(bytes(max(free - room * 1024, 0)))
        answer = job.go_on(log=folder / "output.log").wait()
        if room is not None and answer.status:
            full += 1
            assert "disk is full" in answer.error, answer.text
            assert "make room" in answer.error, answer.text
        else:
            answer.succeeded()
            break
    assert full
    filler.unlink(missing_ok=True)
    assert_same(place, undisturbed)
    os.chdir(folder)
    return f"full {full} times"


def _mount(place: Path) -> None:
    """Mount a disk in memory that this process and those below it alone see."""
    system = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if system.unshare(_NEW_MOUNTS | (_NEW_USERS if user else 0)):
        raise AssertionError("this system lets no one mount a disk of their own")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    system.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE_BELOW), None)
    if system.mount(b"tmpfs", os.fsencode(place), b"tmpfs", ctypes.c_ulong(0), b"size=4m"):
        raise AssertionError(f"no disk could be mounted: {os.strerror(ctypes.get_errno())}")
