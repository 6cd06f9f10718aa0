"""Policies to and from the hub, held against a small hub on this machine."""

import dataclasses
import importlib
import io
import json
import pickle
import re
import shlex
import shutil
import socket
import struct
import sys
import types
import zipfile
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import jax
import jax.random as jr
import numpy as np
import pages
import pytest
import yaml
from hub import TOKEN, Hub, serving

import nfrl
from nfrl import registry
from nfrl.acting.policy import Policy
from nfrl.agents import Chunk, GCBCConfig, NFBCConfig, configs
from nfrl.cli.main import main
from nfrl.errors import UserError
from nfrl.runs.records import Record, parse_record, read_result
from nfrl.sharing import address, card, load, push
from nfrl.sharing.hub import check_folder
from nfrl.sharing.places import without_places

REPO = "ada/pusht"
PAGE = pages.page("sharing.md")
OBSERVATION = np.zeros(2, np.float32)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Programs that run briefly are not worth optimising."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run, its record made up where there is nothing to act in."""
    place = tmp_path_factory.mktemp("home-of-jane")
    rng = np.random.default_rng(0)
    np.savez(
        place / "pushes.npz",
        observations=rng.normal(size=(200, 2)).astype(np.float32),
        actions=rng.uniform(-1, 1, (200, 2)).astype(np.float32),
        terminals=np.arange(200) % 50 == 49,
    )
    words = [
        "train",
        "gaussian-bc",
        "--data",
        str(place / "pushes.npz"),
        "--runs",
        str(place / "runs"),
    ]
    words += ["--steps", "3", "--training.batch-size", "8", "--training.validation-batches", "1"]
    words += ["--agent.hidden", "8", "--workers", "1"]
    assert main(words) == 0
    (config,) = place.glob("runs/*/*/*/config.json")
    record = json.loads((config.parent / "result.json").read_text())
    record |= {"score": 0.7148, "scores": [0.8, 0.6296], "interval": [0.6148, 0.8067]}
    record |= {"episodes": 25, "measure": "share of the mark covered", "mean_return": 12.5}
    record |= {"return_interval": [11.25, 13.75], "returns": [12.0, 13.0]}
    record["dataset"]["origin"] = f"made from {place}/pushes.npz, and ~/other/file.npz"
    record["extra"] = {f"{place}/key": [str(Path.home() / "secret" / "x.npz")]}
    (config.parent / "result.json").write_text(json.dumps(record))
    return config.parent


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, where one is logged in, and a cache of one's own."""
    hub = Hub()
    with serving(hub) as where:
        monkeypatch.setenv("HF_ENDPOINT", where)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    """What is sent of the run."""
    folder = tmp_path_factory.mktemp("sent")
    found = push.write(folder, nfrl.load_policy(run), REPO, read_result(run), licence="mit")
    return {name: path.read_bytes() for name, path in found.items()}


def fetched(hub):
    """Return the names of the files of models that were asked for."""
    assert all("/resolve/" in path or path in hub.blobs for _, path in hub.asked)
    return {path.rpartition("/")[2] for _, path in hub.asked if path not in hub.blobs}


def refused(hub, files, **changes):
    """Return what loading a repository with some other files says, on one line."""
    hub.commit(REPO, {**files, **{k.replace("__", "."): v for k, v in changes.items()}})
    imported = []

    def import_module(name):
        imported.append(name)
        return importlib.import_module(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "importlib", types.SimpleNamespace(import_module=import_module))
        with pytest.raises(UserError) as caught:
            nfrl.load_policy(f"hf:{REPO}")
    assert all(name.startswith(load.OWN) for name in imported)
    said = str(caught.value)
    assert "\n" not in said
    assert said.isprintable()
    assert len(said) < 800
    return said


def described(files, **changes):
    """Return policy.json with other values."""
    value = json.loads(files["policy.json"])
    return json.dumps({**value, **changes}).encode()


# There and back


def test_the_page_from_end_to_end(hub, run, files, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs/pusht/nf-bc-laptop/seed-0")
    dry, pushed = (shlex.split(block)[1:] for block in pages.blocks(PAGE, "sh"))
    assert main(dry) == 0
    assert not hub.asked
    assert {each.name for each in (tmp_path / "look").iterdir()} == set(push.FILES)
    assert main(pushed) == 0
    printed = capsys.readouterr()
    assert "hf:ada/pusht" in printed.out
    assert TOKEN not in printed.out + printed.err
    there = hub.find(REPO, "main")[1]
    assert there == {".gitattributes": b"", **files}
    assert {path.name: path.read_bytes() for path in (tmp_path / "look").iterdir()} == files
    hub.asked.clear()
    names = {"observation": OBSERVATION}
    exec(pages.blocks(PAGE, "python")[0], names)
    again, policy = names["policy"], nfrl.load_policy(run)
    np.testing.assert_array_equal(names["action"], policy(OBSERVATION))
    planned = np.ones((policy.agent.capabilities.predicted, 2))
    assert again.log_prob(OBSERVATION, planned) == policy.log_prob(OBSERVATION, planned)
    assert (
        again.save(tmp_path / "again").joinpath("policy.safetensors").read_bytes()
        == (files["policy.safetensors"])
    )
    assert fetched(hub) == set(load.LIMITS)


def test_another_branch_and_a_saved_policy_without_a_record(hub, run, tmp_path, capsys):
    policy = nfrl.load_policy(run)
    push.push(policy, address.Address(REPO, "v1"), read_result(run))
    assert set(hub.find(REPO, "main")[1]) == {".gitattributes"}
    assert set(hub.find(REPO, "v1")[1]) == {".gitattributes", *push.FILES}
    # The record of an earlier push goes, if the next one has none.
    saved = policy.save(tmp_path / "saved")
    assert main(["push", str(saved), REPO, "--revision", "v1"]) == 0
    assert "no record" in capsys.readouterr().out
    there = hub.find(REPO, "v1")[1]
    assert push.RECORD not in there
    text = there["README.md"].decode()
    assert "No score is recorded." in text
    assert "No licence is stated." in text
    assert "license" not in front(text)
    assert "model-index" not in front(text)
    nfrl.load_policy(f"hf:{REPO}@v1")
    with pytest.raises(UserError, match="holds no policy that nfrl saved"):
        nfrl.load_policy(f"hf:{REPO}")


def test_a_dry_run_can_be_pushed_with_its_record(run, tmp_path):
    written = push.write(tmp_path / "look", nfrl.load_policy(run), REPO, read_result(run))
    found = push.record_of(tmp_path / "look")
    again = push.write(tmp_path / "more", nfrl.load_policy(tmp_path / "look"), REPO, found)
    assert {k: v.read_bytes() for k, v in again.items()} == {
        k: v.read_bytes() for k, v in written.items()
    }
    (tmp_path / "look" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"something else, thesis\.tex"):
        push.write(tmp_path / "look", nfrl.load_policy(run), REPO)


def test_private_is_private(hub, run):
    policy, where = nfrl.load_policy(run), address.Address(REPO)
    push.push(policy, where, private=True)
    assert hub.private[REPO]
    hub.private[REPO] = False
    commits = len(hub.models[REPO])
    with pytest.raises(UserError, match="public"):
        push.push(policy, where, private=True)
    assert len(hub.models[REPO]) == commits


def test_without_a_network_the_cache_serves(hub, files, monkeypatch, tmp_path):
    sha = hub.commit(REPO, files)
    first = nfrl.load_policy(f"hf:{REPO}")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    for where in (f"hf:{REPO}", f"hf:{REPO}@{sha}"):
        np.testing.assert_array_equal(nfrl.load_policy(where)(OBSERVATION), first(OBSERVATION))
        first.reset()
        first._episode = 0
    with pytest.raises(UserError, match=r"no connection to http://127.* and the cache does not"):
        nfrl.load_policy("hf:ada/other")


# The card


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_is_valid_and_says_what_the_record_says(files, run):
    text = files["README.md"].decode()
    record = json.loads(files["record.json"])
    metadata = front(text)
    assert metadata["license"] == "mit"
    assert metadata["library_name"] == "nfrl"
    assert metadata["pipeline_tag"] == "reinforcement-learning"
    # As the hub's own package reads it.
    read = huggingface_hub.ModelCard(text).data
    values = {each.metric_type: each.metric_value for each in read.eval_results}
    assert values == {"share_of_the_mark_covered": 0.7148, "mean_reward": 12.5}
    assert read.model_name == "pusht"
    for part in ("0.6148 to 0.8067", "11.25 to 13.75", record["dataset"]["sha256"], "pushes.npz"):
        assert part in text
    assert parse_record(files["record.json"].decode(), "").score == 0.7148


def test_every_number_of_the_card_is_the_records(files):
    text = files["README.md"].decode()
    known = numbers(files["record.json"].decode()) | {"95"}  # the level of the intervals
    goals = {"1", "2"}
    assert numbers(text) - known - goals == set()
    # And none of a record that has others.
    record = Record(task="t", agent="nf-bc", seed=7, steps=1234, score=None)
    bare = card.write(record, repo="a/b", agent="nf-bc", goals=True)
    assert numbers(bare) == {"7", "1234"}
    assert "policy(observation, goal)" in bare
    assert numbers(card.write(None, repo="a/b", agent="nf-bc", goals=False)) == set()


def numbers(text):
    return set(re.findall(r"(?<![\w.-])\d[\w.]*(?<!\.)", text.replace(": ", " ")))


def test_what_a_record_says_cannot_break_the_card():
    odd = 'x"\n---\n# `a` | <b> [c](http://d) '
    record = Record(task=odd, agent="nf-bc", seed=0, steps=1, score=0.5, device=odd)
    text = card.write(record, repo="a/b", agent="nf-bc", goals=False)
    assert front(text)["model-index"][0]["results"][0]["dataset"]["name"] == " ".join(odd.split())
    assert "<b>" not in text.split("---\n", 2)[2]
    assert "\n# `a`" not in text


def test_nothing_of_this_machine_is_sent(files, run):
    of_here = [str(Path.home()), str(Path.cwd()), str(run), "home-of-jane", "/tmp", "/root"]
    of_here += [name for name in (socket.gethostname(),) if len(name) > 3]
    for name, content in files.items():
        for place in of_here:
            assert place.encode() not in content, (name, place)
        assert TOKEN.encode() not in content
    record = json.loads(files["record.json"])
    assert record["dataset"]["origin"] == "made from pushes.npz, and file.npz"
    assert record["extra"] == {"key": ["x.npz"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane doe/x.npz", "x.npz"),
        ("npz:/home/jane doe/x.npz", "npz:x.npz"),
        (r"zarr:C:\jane doe\x", "zarr:x"),
        ("read file:///home/jane/x.npz twice", "read x.npz twice"),
        ("minari:D4RL/door/human-v2", "minari:D4RL/door/human-v2"),
        ("https://a.org/b/c, 1/s and/or / more", "https://a.org/b/c, 1/s and/or / more"),
    ],
)
def test_paths_become_names(text, expected):
    record = Record(task="t", agent="a", seed=0, steps=1, score=None, device=text)
    assert without_places(record).device == expected


def test_a_path_in_the_configuration_is_refused(run, tmp_path, monkeypatch):
    policy = nfrl.load_policy(run)
    monkeypatch.setattr(configs, "to_json", lambda _: {"prior": "/home/jane/prior"})
    with pytest.raises(UserError, match="holds the path /home/jane/prior"):
        push.write(tmp_path / "look", policy, REPO)


# What comes from elsewhere


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module in the working folder that leaves a trace when it is imported."""
    (tmp_path / "evil_lab").mkdir()
    (tmp_path / "evil_lab" / "__init__.py").touch()
    (tmp_path / "evil_lab" / "code.py").write_text(
        "import pathlib\npathlib.Path('imported').touch()\n"
        "from nfrl.agents import GaussianBCConfig\n"
        "class Config(GaussianBCConfig):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    with pages.importable(tmp_path):
        yield tmp_path / "imported"


@pytest.mark.parametrize("where", ["agent", "flow", "deep"])
def test_code_is_refused_before_it_is_imported(hub, files, evil, where):
    config, wrapped = configs.to_json(NFBCConfig()), configs.to_json(Chunk(GCBCConfig(), 2))
    changes = {
        "agent": {"agent": "evil_lab.code:Config"},
        "flow": {"agent": "nf-bc", "config": {**config, "flow": {"name": "evil_lab.code:Config"}}},
        "deep": {
            "agent": registry.name_of("agents", Chunk),
            "config": {**wrapped, "agent": {"name": "evil_lab.code:Config"}},
        },
    }
    assert "agent" in wrapped
    said = refused(hub, files, policy__json=described(files, **changes[where]))
    assert said.startswith(
        "hf:ada/pusht: policy.json: 'evil_lab.code:Config' is code, in evil_lab.code"
    )
    assert "allow=['evil_lab.code']" in said
    assert not evil.exists()
    assert "evil_lab" not in sys.modules


def test_code_that_is_allowed_is_imported(hub, run, files, evil):
    made = nfrl.load_policy(run)
    config = registry.find("agents", "evil_lab.code:Config")(hidden=(4,))
    agent = config.build(jr.key(0), made.spec, 3)
    policy = Policy(agent, config, "evil_lab.code:Config", made.spec, steps=3)
    where = address.Address("ada/own")
    push.push(policy, where)
    assert 'allow=["evil_lab.code"]' in hub.find("ada/own", "main")[1]["README.md"].decode()
    evil.unlink()
    for allow in ((), ("evil",), ("evil_lab.co",), "other"):
        with pytest.raises(UserError, match="is code"):
            nfrl.load_policy("hf:ada/own", allow=allow)
    for allow in ("evil_lab", ["evil_lab.code"]):
        again = nfrl.load_policy("hf:ada/own", allow=allow)
        np.testing.assert_array_equal(again(OBSERVATION), policy(OBSERVATION))
        policy._episode = policy._time = 0
    # What an allowed module has imported from elsewhere stays refused.
    with registry.references_only_to(["evil_lab"]), pytest.raises(UserError, match="in pathlib"):
        registry.load_reference("evil_lab.code:pathlib.Path")
    # A folder of one's own may refer to anything, as ever.
    nfrl.load_policy(policy.save("own"))


@pytest.mark.parametrize(
    "agent", ["os:system", "subprocess:Popen", "nfrl.agents.configs:cattrs.Converter"]
)
def test_no_module_of_others_is_reached(hub, files, agent):
    said = refused(hub, files, policy__json=described(files, agent=agent))
    assert "is code" in said or "Unsupported type" in said


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("policy.json", "{}")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (pickle.dumps(Trap()), "cannot be read"),
        (zipped(), "cannot be read"),
        (b"", "not valid JSON"),
        (b"[" * 900_000, "not valid JSON"),
        (b'{"a":' * 150_000, "not valid JSON"),
        (b"[]", "does not hold a JSON object"),
        (b'{"schema": 1}', "does not describe a policy"),
        (b'{"schema": 99}', "schema 99"),
        (b" " * 1_000_001, "the most that is taken is 1000000"),
    ],
)
def test_a_policy_json_that_is_none(hub, files, content, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(hub, files, policy__json=content)
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": ["nf-bc"]},
        {"agent": "\x1b[2J\nnf-bc"},
        {"config": [1]},
        {"config": {"flow": {"name": 3}}},
        {"config": {"hidden": [-1]}},
        {"config": {"hidden": ["a" * 100_000]}},
        {"spec": {"observation": {}, "action": {"low": [], "high": []}}},
        {"spec": {"observation": {"o": {"shape": [-3]}}, "action": {"low": [0], "high": [1]}}},
        {"spec": {"observation": {"o": {"shape": [10**30]}}, "action": {"low": [0], "high": [1]}}},
        {"steps": 1e999},
    ],
)
def test_odd_values(hub, files, changes):
    assert refused(hub, files, policy__json=described(files, **changes)).startswith("hf:ada/pusht")


def tensors(header, body=b"", size=None):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (pickle.dumps(Trap()), "not a whole checkpoint"),
        (tensors({}, size=2**60), "not a whole checkpoint"),
        (
            tensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
            "not a whole checkpoint",
        ),
        (tensors({}), "no array"),
    ],
)
def test_weights_that_are_none(hub, files, content, expected):
    assert expected in refused(hub, files, policy__safetensors=content)


@pytest.mark.parametrize("dtype", ["F64", "BF16", "F8_E4M3", "I4"])
def test_weights_of_other_shapes_and_types(hub, files, dtype):
    size = struct.unpack("<Q", files["policy.safetensors"][:8])[0]
    header = json.loads(files["policy.safetensors"][8 : 8 + size])
    header = {name: value for name, value in header.items() if name != "__metadata__"}
    width = {"F64": 8, "BF16": 2, "F8_E4M3": 1, "I4": 1}[dtype]
    other = {
        name: {"dtype": dtype, "shape": [2], "data_offsets": [2 * width * i, 2 * width * (i + 1)]}
        for i, name in enumerate(header)
    }
    body = bytes(2 * width * len(header))
    refused(hub, files, policy__safetensors=tensors(other, body))


def test_other_files_are_not_fetched(hub, files, tmp_path):
    more = {"../../escaped": b"x", "evil.py": b"1/0", "__init__.py": b"1/0", "a.pkl": b"x"}
    hub.commit(REPO, {**files, **more})
    nfrl.load_policy(f"hf:{REPO}")
    assert fetched(hub) == set(load.LIMITS)
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink()}
    assert kept == set(load.LIMITS)
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    "answers",
    [
        {"ETag": '"../../../escaped"'},
        {"X_Repo_Commit": "../../../escaped"},
        {"ETag": '"/tmp/escaped"'},
    ],
)
def test_a_server_cannot_name_files_elsewhere(hub, files, answers, tmp_path):
    hub.answers = answers
    assert "does not answer as the hub does" in refused(hub, files)
    assert not list(tmp_path.rglob("escaped*"))


def test_a_link_out_of_the_cache_is_refused(hub, files, tmp_path):
    sha = hub.commit(REPO, files)
    folder = nfrl.sharing.hub.download(address.parse(f"hf:{REPO}"), load.LIMITS)
    assert folder.name == sha
    (tmp_path / "secret").write_bytes(files["policy.json"])
    (folder / "policy.json").unlink()
    (folder / "policy.json").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"policy\.json is no file of its own, but leads elsewhere"):
        nfrl.load_policy(f"hf:{REPO}")
    # Nor is a folder a file.
    (folder / "policy.json").unlink()
    (folder / "policy.json").mkdir()
    with pytest.raises(UserError, match="leads elsewhere"):
        check_folder(folder, load.LIMITS, folder.parents[1], "x")


def test_too_large_is_said_before_it_is_fetched(hub, files, monkeypatch):
    monkeypatch.setitem(load.LIMITS, "policy.safetensors", 100)
    assert "the most that is taken is 100" in refused(hub, files)
    assert not [path for _, path in hub.asked if path in hub.blobs]


def test_too_large_is_not_sent(hub, run, monkeypatch):
    monkeypatch.setitem(load.LIMITS, "policy.safetensors", 100)
    with pytest.raises(UserError, match="may have 100"):
        push.push(nfrl.load_policy(run), address.Address(REPO))
    assert not hub.asked


# Names, and what a hub refuses


@pytest.mark.parametrize(
    "name",
    [
        *("", "pusht", "a/b/c", "/b", "a/", "../b", "a/..", "a/b..c", "a/b--c", "a b/c", "a/b\n"),
        *("é/b", "-a/b", "a/b.git", "a/" + "b" * 97, "http://a/b", "a/b?c", "a/b#c", "a/b%2e"),
        "a\\b/c",
    ],
)
def test_names_are_checked(hub, run, name):
    with pytest.raises(UserError, match="is no name on the hub"):
        nfrl.load_policy(f"hf:{name}")
    with pytest.raises(UserError, match="is no name on the hub"):
        push.write(Path("never"), None, name)
    assert not hub.asked


@pytest.mark.parametrize("revision", ["", "..", "a/../b", "/a", "a/", "a b", "-a", "a\n", "a.lock"])
def test_revisions_are_checked(hub, revision):
    with pytest.raises(UserError, match="is no branch, tag or commit"):
        nfrl.load_policy(f"hf:{REPO}@{revision}")
    assert not hub.asked


def test_addresses():
    assert str(address.parse("hf:a/b")) == "hf:a/b"
    assert address.parse("a/b@refs/pr/1") == address.Address("a/b", "refs/pr/1")
    assert not address.is_address(Path("hf:a/b"))
    with pytest.raises(UserError, match="no steps to choose from"):
        nfrl.load_policy("hf:a/b", step=3)


def test_what_the_hub_refuses_is_said_with_its_cure(hub, files, run):
    hub.commit(REPO, files)
    for where, expected in {
        "hf:ada/none": "has no model ada/none; if it is private, log in with `hf auth login`",
        f"hf:{REPO}@v9": "ada/pusht has no branch, tag or commit 'v9'",
    }.items():
        with pytest.raises(UserError, match=re.escape(expected)):
            nfrl.load_policy(where)
    for status, expected in {
        403: "your login may not read ada/pusht",
        429: "too many requests: try again later",
        503: "no connection",
    }.items():
        hub.status = status
        with pytest.raises(UserError, match=expected):
            nfrl.load_policy(f"hf:{REPO}")


def test_what_a_push_is_refused_for(hub, run, monkeypatch, capsys):
    def says(*words):
        assert main(["push", *words]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert TOKEN not in err
        return err

    assert "is no name on the hub" in says(str(run), "pusht")
    assert "is no branch" in says(str(run), REPO, "--revision", "../x")
    assert "is on the hub already" in says("hf:a/b", REPO)
    assert "is no licence" in says(str(run), REPO, "--license", "My Licence")
    assert "not a run folder" in says("nowhere", REPO)
    assert not hub.asked
    assert "may not write to others/b" in says(str(run), "others/b")
    hub.status = 413
    assert "too large" in says(str(run), REPO)
    hub.status = 0
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "does not accept your login" in says(str(run), REPO)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    assert "you are not logged in" in says(str(run), REPO)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "no connection to http://127.0.0.1:9" in says(str(run), REPO)


def test_without_the_package(monkeypatch, capsys, run):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'nfrl\[hub\]'"):
        nfrl.load_policy("hf:a/b")
    assert main(["push", str(run), REPO]) == 2
    assert "pip install 'nfrl[hub]'" in capsys.readouterr().err


def test_the_record_is_unchanged_where_it_names_no_place():
    record = Record(task="t", agent="a", seed=0, steps=1, score=0.5, interval=(0.4, 0.6))
    assert without_places(record) == record
    assert dataclasses.replace(record, device="/a/b") != without_places(record)
