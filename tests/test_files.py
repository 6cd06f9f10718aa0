"""Files: whole or absent, together or not at all, and one process at a time."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nfrl import files
from nfrl.errors import UserError

WAIT = """
import sys, time
from pathlib import Path
from nfrl import files
with {holding}:
    print("held", flush=True)
    time.sleep(100)
"""


def holder(holding: str) -> subprocess.Popen:
    """Start a process that holds something until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT.format(holding=holding)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def test_files_are_written_together_or_not_at_all(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        files.write_bytes(path, b"before")

    def full(file):
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(UserError, match=r"disk is full: could not write .*other; make room"):
        files.write_together({one: lambda file: file.write(b"after"), other: full})
    assert one.read_bytes() == other.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}
    files.write_together(
        {path: lambda file, path=path: file.write(path.name.encode()) for path in (one, other)}
    )
    assert (one.read_bytes(), other.read_bytes()) == (b"one", b"other")


@pytest.mark.parametrize(
    ("number", "cause", "cure"),
    [
        (errno.ENOSPC, "disk is full", "make room"),
        (errno.EACCES, "no permission", "another place"),
        (errno.EROFS, "no permission", "another place"),
        (errno.EIO, "could not write", "disk is sound"),
    ],
)
def test_what_the_system_refuses_is_said_with_its_cure(number, cause, cure, tmp_path):
    said = files.not_written(tmp_path / "it.json", OSError(number, os.strerror(number)))
    assert cause in said
    assert cure in said
    assert "it.json" in said


def test_what_a_kill_left_is_taken_away_and_what_is_written_is_not(tmp_path):
    path = tmp_path / "it"
    abandoned, foreign = tmp_path / ".it.ab12.tmp", tmp_path / ".it2.ab12.tmp"
    for each in (abandoned, foreign):
        each.write_bytes(b"half")
    # Another process writes the same file at this moment.
    writer = holder(f"files._open_alone(Path({str(tmp_path)!r}, '.it.cd34.tmp'))")
    try:
        files.write_bytes(path, b"whole")
        found = {each.name for each in tmp_path.iterdir()}
        assert found == {"it", ".it2.ab12.tmp", ".it.cd34.tmp"}
    finally:
        kill(writer)
    files.write_bytes(path, b"whole")
    assert {each.name for each in tmp_path.iterdir()} == {"it", ".it2.ab12.tmp"}


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path):
    folder = tmp_path / "runs" / "seed-0"
    process = holder(f"files.held(Path({str(folder)!r}), 'busy')")
    with pytest.raises(UserError, match=r"^it is taken$"), files.held(folder, "it is taken"):
        pass
    kill(process)
    with files.held(folder, "it is taken"):
        (folder / "kept").touch()
    assert [each.name for each in folder.iterdir()] == ["kept"]
    with files.held(tmp_path / "other" / "seed-1", "it is taken"):
        pass
    assert not (tmp_path / "other").exists(), "an empty folder was left"


def test_a_folder_taken_for_abandoned_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    """Another process sweeps between the making of the file and its lock."""
    lock, swept = files._lock, []

    def late(file):
        if not swept:
            swept.append(Path(file.name).parent)
            shutil.rmtree(swept[0])
        return lock(file)

    monkeypatch.setattr(files, "_lock", late)
    with files.temporary_folder("nfrl-x-", str(tmp_path)) as place:
        assert (place / ".lock").is_file()
        assert place != swept[0]
    assert not list(tmp_path.iterdir())


def test_temporary_folders_of_the_dead_are_taken_away(tmp_path):
    living = holder(f"files.temporary_folder('nfrl-x-', {str(tmp_path)!r})")
    dead = holder(f"files.temporary_folder('nfrl-x-', {str(tmp_path)!r})")
    kill(dead)
    other = tmp_path / "nfrl-y-1"
    other.mkdir()
    assert len(list(tmp_path.iterdir())) == 3
    try:
        with files.temporary_folder("nfrl-x-", str(tmp_path)) as place:
            assert len(list(tmp_path.iterdir())) == 3, "the dead one's is gone, and this is new"
        assert not place.exists()
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        kill(living)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"could not write .*file/inner"):
        files.make_folder(Path(file, "inner"))


def test_where_there_are_no_locks_nothing_of_others_is_taken_away(tmp_path, monkeypatch):
    """No one can tell the dead from the living there."""
    other, folder = tmp_path / ".it.ab12.tmp", tmp_path / "nfrl-x-1"
    folder.mkdir()
    for file in (other, folder / ".lock"):
        file.touch()
    monkeypatch.setattr(files, "_lock", lambda file: None)
    files.write_bytes(tmp_path / "it", b"whole")
    with files.temporary_folder("nfrl-x-", str(tmp_path)), files.held(tmp_path / "run", "busy"):
        pass
    assert other.exists()
    assert folder.exists()
