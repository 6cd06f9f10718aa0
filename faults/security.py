"""Security: no code of others runs, no secret is written down, no name breaks out of a page."""

import ast
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from faults.case import Case
from faults.processes import Command, call, nfrl
from faults.shared import point_data, trained_run, training_words

TESTS = Path(__file__).parents[1] / "tests"
SECRET = "s3cr3t-0f-th3-fault-suit3"
SECRETS = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD")
HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>`|\n# [x](javascript:alert(3))"


def cases(seed: int) -> list[Case]:
    """Return the cases."""
    found = [
        Case("our source", f"has no {name}", functools.partial(_source, finds), short=True)
        for name, finds in _SOURCE.items()
    ]
    found += [
        Case("a shared policy", f"names {name}", functools.partial(_shared_policy, change))
        for name, change in _FOREIGN.items()
    ]
    found.append(Case("a shared policy", "whose code is allowed", _allowed))
    found.append(Case("a saved policy", "with a pickle in place of weights", _pickled))
    found.append(Case("secrets", "in what a run writes", _secrets_of_a_run))
    found.append(Case("secrets", "in a tracker's error", _secrets_of_an_error))
    found += [
        Case("a report", f"of a hostile {field}", functools.partial(_report, field))
        for field in _NAMES
    ]
    found.append(Case("a model card", "of a hostile record", _card))
    return found


# Our source


def _calls(tree: ast.AST, *names: str) -> Iterator[ast.AST]:
    """Find calls by what is called, or by its last part: ``yaml.load``, ``extractall``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in names or called.rpartition(".")[2] in names:
                yield node


def _bare(tree: ast.AST, *names: str) -> Iterator[ast.AST]:
    """Find calls of functions of Python's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def _unsafe_yaml(tree: ast.AST) -> Iterator[ast.AST]:
    """Find what reads YAML with a loader that makes more than plain values."""
    safe = {"yaml.SafeLoader"}
    safe |= {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} <= safe
    }
    yield from _calls(tree, "unsafe_load", "full_load")
    for each in _calls(tree, "yaml.load"):
        assert isinstance(each, ast.Call)
        loaders = [*each.args[1:], *(keyword.value for keyword in each.keywords)]
        if not loaders or any(ast.unparse(loader) not in safe for loader in loaders):
            yield each


def _imports(tree: ast.AST, *names: str) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(module.partition(".")[0] in names for module in modules):
            yield node


def _keywords(tree: ast.AST, name: str, value: object) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == name:
            given = node.value
            if not isinstance(given, ast.Constant) or given.value == value:
                yield node.value


Finds = Callable[[ast.AST], Iterator[ast.AST]]
_SOURCE: dict[str, Finds] = {
    "pickle": lambda tree: _imports(tree, "pickle", "cloudpickle", "dill", "shelve", "marshal"),
    "eval and exec": lambda tree: _bare(tree, "eval", "exec", "__import__"),
    "arrays of objects": lambda tree: _keywords(tree, "allow_pickle", True),
    "unsafe YAML": _unsafe_yaml,
    "shell": lambda tree: _keywords(tree, "shell", True),
    "os.system": lambda tree: _calls(tree, "os.system", "os.popen"),
    "archives unpacked": lambda tree: _calls(tree, "extractall", "unpack_archive"),
}


def _source(finds: Finds, folder: Path) -> None:
    import nfrl as package

    root = Path(package.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        for node in finds(ast.parse(path.read_text()))
    ]
    assert not found, found


# Policies of others


def _foreign_agent(value: dict[str, Any]) -> None:
    value["agent"] = "evil:Config"


def _foreign_flow(value: dict[str, Any]) -> None:
    value["agent"], value["config"] = "nf-gcbc", {"flow": {"name": "evil:Config"}}


def _ours_by_a_detour(value: dict[str, Any]) -> None:
    value["agent"] = "nfrl.agents.gcbc:jax.config.update"


def _builtin(value: dict[str, Any]) -> None:
    value["agent"] = "builtins:eval"


_FOREIGN = {
    "an agent of its own": _foreign_agent,
    "a flow of its own": _foreign_flow,
    "a module of ours for what is not ours": _ours_by_a_detour,
    "a function of Python's": _builtin,
}


def _load_from_hub(
    folder: Path, change: Callable[[dict[str, Any]], None], allow: tuple[str, ...] = ()
) -> Any:
    """Share a policy that was changed, and load it in a place where its module can be imported."""
    run = trained_run()
    nfrl("push", str(run), "me/it", "--dry-run", "sent").succeeded()
    files = {each.name: each.read_bytes() for each in Path("sent").iterdir()}
    described = json.loads(files["policy.json"])
    change(described)
    files["policy.json"] = json.dumps(described).encode()
    Path("evil.py").write_text("open('ran', 'w').close()\nConfig = None\n")
    address = folder / "address"

    def serve() -> int:
        sys.path.insert(0, str(TESTS))
        from hub import Hub, serving

        hub = Hub()
        hub.commit("me/it", files)
        with serving(hub) as where:
            address.write_text(where)
            time.sleep(100)
        return 0

    def load() -> None:
        from huggingface_hub import constants

        import nfrl as package

        sys.path.insert(0, str(folder))
        constants.ENDPOINT = os.environ["HF_ENDPOINT"]
        package.load_policy("hf:me/it", allow=allow)

    server = Command(log=folder / "server.log", work=serve)
    try:
        while not address.exists() or not address.read_text():
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.01)
        os.environ["HF_ENDPOINT"] = address.read_text()
        return call(load)
    finally:
        server.kill()


def _shared_policy(change: Callable[[dict[str, Any]], None], folder: Path) -> str:
    error = _load_from_hub(folder, change).error
    assert not Path("ran").exists(), "its code ran"
    assert "hf:me/it" in error, error
    return error


def _allowed(folder: Path) -> str:
    """What the case above finds is found: with the module allowed, its code does run."""
    answer = _load_from_hub(folder, _foreign_agent, allow=("evil",))
    assert Path("ran").exists(), answer.text
    return "it ran"


def _pickled(folder: Path) -> str:
    """A pickle is no weights; to look at it does not run it."""
    import pickle

    import nfrl as package

    class Evil:
        def __reduce__(self) -> Any:
            return (open, ("ran", "w"))

    run = trained_run()
    call(lambda: package.load_policy(run).save("policy")).succeeded()
    Path("policy/policy.safetensors").write_bytes(pickle.dumps(Evil()))
    error = call(lambda: package.load_policy("policy")).error
    assert not Path("ran").exists(), "the pickle ran"
    return error


# Secrets


def _secrets_of_a_run(folder: Path) -> str:
    os.environ |= dict.fromkeys(SECRETS, SECRET)
    words = [*training_words(point_data()), "--runs", "runs"]
    nfrl(*words, "--track", "tensorboard", "mlflow", "--record", "records.jsonl").succeeded()
    (run,) = [str(each.parent) for each in Path("runs").rglob("config.json")]
    nfrl("export", run, "--to", "numpy").succeeded()
    nfrl("push", run, "me/it", "--dry-run", "sent").succeeded()
    nfrl("report", run, "--out", "report").succeeded()
    files = [each for each in folder.rglob("*") if each.is_file()]
    told = [str(each) for each in files if SECRET.encode() in each.read_bytes()]
    assert not told, told
    assert len(files) > 20
    return f"{len(files)} files"


class Leaking:
    """A tracker whose error tells the secret."""

    def __init__(self) -> None:
        raise RuntimeError(f"401: no such key {SECRET}")

    def start(self, run: Any, resume: Any) -> Any:
        """Never called."""

    metrics = image = video = finish = start


def _secrets_of_an_error(folder: Path) -> str:
    os.environ["WANDB_API_KEY"] = SECRET
    words = [*training_words(point_data()), "--runs", "runs"]
    answer = nfrl(*words, "--track", "faults.security:Leaking").succeeded()
    assert "no such key" in answer.text, answer.text
    assert SECRET not in answer.text
    return next(line for line in answer.text.splitlines() if "no such key" in line)


# Pages

_NAMES = ("task", "agent", "preset", "variant", "commit", "device", "date", "measure")


def _report(field: str, folder: Path) -> str:
    """A record's text is text in the page: it adds no element and no attribute."""
    plain = _page(folder / "plain", {})
    hostile = _page(folder / "hostile", {field: HOSTILE})
    if isinstance(hostile, str):
        return hostile
    assert hostile <= plain, hostile - plain
    return "in the page as text"


class _Elements(HTMLParser):
    """The kinds of elements and attributes of a page, and where links lead that run code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag,))
        for name, value in attrs:
            self.found.add((tag, name))
            if (value or "").strip().lower().startswith("javascript:"):
                self.found.add((tag, name, "javascript:"))


def _page(place: Path, changes: dict[str, Any]) -> set[tuple[str, ...]] | str:
    """Report a record with other values; return the page's elements, or how it was refused."""
    place.mkdir()
    record = json.loads((trained_run() / "result.json").read_text())
    record |= {"score": 0.5, "scores": [0.5], "episodes": 2, **changes}
    (place / "records.jsonl").write_text(json.dumps(record) + "\n")
    answer = nfrl("report", str(place / "records.jsonl"), "--out", str(place / "out"))
    if answer.status:
        return answer.error
    elements = _Elements()
    elements.feed((place / "out" / "report.html").read_text())
    table = (place / "out" / "report.md").read_text()
    assert "<script" not in table, table
    assert "<img src=x" not in table, table
    return elements.found


def _card(folder: Path) -> str:
    import shutil

    import yaml

    run = folder / "runs" / "task" / "agent" / "seed-0"
    shutil.copytree(trained_run(), run)
    record = json.loads((run / "result.json").read_text())
    record |= {"variant": HOSTILE, "commit": HOSTILE, "device": HOSTILE}
    (run / "result.json").write_text(json.dumps(record))
    nfrl("push", str(run), "me/it", "--dry-run", "sent").succeeded()
    _, head, text = Path("sent/README.md").read_text().split("---\n", 2)
    assert set(yaml.safe_load(head)) <= {
        *("library_name", "tags", "pipeline_tag", "license", "model-index", "datasets")
    }, head
    assert "<script" not in text, text
    assert "<img" not in text, text
    return "in the card as text"
