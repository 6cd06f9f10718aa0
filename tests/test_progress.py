"""Progress where there is no terminal: plain lines."""

from nfrl import progress


def test_lines_say_how_far_it_is_and_how_long_it_takes(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress("cube", 3, "episodes", done=1) as update:
        update(2, "10 steps/s")
        update(3)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("cube: 2/3 episodes, 10 steps/s, ")
    assert last == "cube: 3/3 episodes, 0 s left"


def test_lines_are_few(capsys):
    with progress.progress("cube", 100, "episodes") as update:
        for done in range(100):
            update(done)
    assert capsys.readouterr().err == ""


def test_the_end_is_told_once(capsys):
    with progress.progress("cube", 2, "episodes") as update:
        for figures in ("a", "a", "b", "b"):
            update(2, figures)
    assert capsys.readouterr().err.splitlines() == [
        "cube: 2/2 episodes, a, 0 s left",
        "cube: 2/2 episodes, b, 0 s left",
    ]


def test_silence_on_request(capsys):
    with progress.progress("cube", 1, "episodes", show=False) as update:
        update(1)
    assert capsys.readouterr().err == ""


def test_nothing_is_foretold_before_anything_is_done(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress("work", 10, "steps") as update:
        update(0)
        update(5)
    first, second = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert "left" in second
