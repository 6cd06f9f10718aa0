"""Policies that come with packages, and watching them."""

import dataclasses
import json
import types

import imageio.v3 as imageio
import jax
import jax.random as jr
import matplotlib as mpl
import numpy as np
import pytest

import nfrl
from nfrl import registry
from nfrl.acting import zoo
from nfrl.acting.policy import Policy
from nfrl.agents import GCBCConfig
from nfrl.cli.main import main
from nfrl.errors import UserError
from nfrl.evaluation import window
from nfrl.runs.records import parse_record
from nfrl.spec import Spec
from nfrl.task import find_task

MAZE = "pointmaze-medium-navigate-v0"
SPEC = dataclasses.replace(Spec.vectors(2, 2), goal_columns=(0, 1))


@pytest.fixture(scope="module")
def policy():
    config = GCBCConfig(hidden=(64, 64))
    return Policy(config.build(jr.key(0), SPEC, 10), config, "gcbc", SPEC, steps=10)


@pytest.fixture
def announced(policy, tmp_path, monkeypatch):
    """A package with a zoo that has a policy for the maze."""
    policy.save(tmp_path / MAZE)
    package = types.ModuleType("a_zoo")
    package.__path__ = [str(tmp_path)]
    others = registry.entries
    monkeypatch.setattr(
        registry,
        "entries",
        lambda kind: iter([("mine", package)]) if kind == "zoo" else others(kind),
    )
    return tmp_path


def test_a_policy_in_half_precision_takes_half_the_space_and_acts_nearly_the_same(policy, tmp_path):
    sizes, actions = [], []
    for half in (False, True):
        path = policy.save(tmp_path / str(half), half=half)
        sizes.append((path / "policy.safetensors").stat().st_size)
        again = nfrl.load_policy(path)
        leaves = jax.tree.leaves(again.agent.policy)
        assert {leaf.dtype for leaf in leaves if hasattr(leaf, "dtype")} == {np.dtype("float32")}
        actions.append(again([0.5, 1.0], [3.0, -2.0]))
    assert sizes[1] < 0.75 * sizes[0]  # names and shapes take room, too
    np.testing.assert_allclose(actions[1], actions[0], atol=5e-3)
    assert not np.array_equal(actions[1], actions[0])


def test_the_zoo_is_found_by_name(announced):
    assert zoo.names() == [MAZE]
    assert nfrl.load_policy(f"zoo:{MAZE}").spec == SPEC
    with pytest.raises(UserError, match=f"did you mean {MAZE}"):
        nfrl.load_policy("zoo:pointmaze-medium-navigate")


def test_playing_writes_a_video_where_there_is_no_display(announced, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(window, "has_display", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert main(["play", MAZE, "--goals", "2", "1", "--output", "a.gif"]) == 0
    assert f"gcbc on {MAZE}: a.gif" in capsys.readouterr().out
    pictures = imageio.imread("a.gif", index=None)
    assert pictures.shape[1:3] == (200, 400)  # two goals, side by side
    assert len(pictures) > 5  # a picture that is like the one before takes no place of its own
    assert (pictures[0] != pictures[-1]).any()


def test_playing_opens_a_window_where_there_is_one(announced, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(window, "has_display", lambda: True)
    monkeypatch.setattr(
        window, "show", lambda pictures, title, rate: shown.append((next(pictures), title)) or 1
    )
    assert main(["play", MAZE, "--goals", "3"]) == 0
    ((picture, title),) = shown
    assert picture.shape == (200, 200, 3)
    assert title == f"gcbc on {MAZE}"


def test_a_window_shows_pictures_until_it_is_closed(monkeypatch):
    mpl.use("agg")
    import matplotlib.pyplot as plt

    shown = []

    def pause(seconds):
        (image,) = plt.gcf().axes[0].images
        shown.append(int(np.asarray(image.get_array())[0, 0, 0]))
        if len(shown) == 3:
            plt.close()

    monkeypatch.setattr(plt, "pause", pause)
    pictures = (np.full((20, 30, 3), i, np.uint8) for i in range(10))
    assert window.show(pictures, "three", rate=100.0) == 3
    assert shown == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pointmaze-medium-navigat-v0",), "is not a run folder"),
        ((MAZE, "--goals", "6"), "has goals 1 to 5, and no goal 6"),
        ((MAZE, "--env", "cube-single-play-v0", "--goals", "1"), "observations of 28 numbers"),
    ],
)
def test_wrong_words_are_one_line(announced, words, message, capsys, monkeypatch):
    monkeypatch.setattr(window, "has_display", lambda: False)
    assert main(["play", *words]) == 2
    error = capsys.readouterr().err
    (line,) = (each for each in error.splitlines() if each.startswith("nfrl:"))
    assert message in line
    assert "Traceback" not in error


@pytest.mark.parametrize("name", zoo.names())
def test_what_is_installed_is_what_its_record_says(name):
    folder = zoo.find(name)
    record = parse_record((folder / zoo.RECORD).read_text(), name)
    saved = json.loads((folder / "policy.json").read_text())
    assert (record.task, record.agent) == (name, saved["agent"])
    assert record.config["agent"] == saved["config"]
    assert sum(each.stat().st_size for each in folder.iterdir()) < 1_300_000
    task, policy = find_task(name), nfrl.load_policy(folder)
    assert task.goals == len(record.scores)
    action = policy(np.zeros(policy.spec.observation_dim), np.zeros(policy.spec.observation_dim))
    assert np.isfinite(action).all()
