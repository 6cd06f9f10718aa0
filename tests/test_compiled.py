"""Compiled programs are kept between commands."""

import os

import pytest

from nfrl.cli import compiled

CACHE = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(CACHE, raising=False)
    for name in compiled._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    for name in (CACHE, *compiled._SETTINGS):  # what the call itself set
        os.environ.pop(name, None)


def test_programs_are_kept_where_caches_are(home):
    compiled.keep_compiled_programs()
    folder = compiled.cache_folder()
    assert folder.is_dir()
    assert folder.is_relative_to(home)
    assert os.environ[CACHE] == str(folder)


def test_a_folder_of_the_users_own_stays(home, monkeypatch):
    monkeypatch.setenv(CACHE, "elsewhere")
    compiled.keep_compiled_programs()
    assert os.environ[CACHE] == "elsewhere"
    assert not list(home.iterdir())


def test_a_node_of_another_kind_keeps_its_own(home, monkeypatch):
    """A launcher hands its variables on, this one among them."""
    compiled.keep_compiled_programs()
    of_the_launcher = os.environ[CACHE]
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    compiled.keep_compiled_programs()
    assert os.environ[CACHE] == str(compiled.cache_folder()) != of_the_launcher


def test_a_home_that_cannot_be_written_to_is_no_error(home):
    (home / "nfrl").write_text("a file where the folder should be")
    compiled.keep_compiled_programs()
    assert CACHE not in os.environ


def test_the_oldest_programs_go_first(tmp_path):
    for age in range(5):
        path = tmp_path / str(age)
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    compiled._prune(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_another_processor_has_another_folder(home, monkeypatch):
    here = compiled.cache_folder()
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    assert compiled.cache_folder() != here
