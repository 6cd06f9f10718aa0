"""Who may import whom: read from the sources, so that it holds on every path through them."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nfrl

ROOT = Path(nfrl.__file__).parent

# The rooms: each may import the ones before it, and itself.
ORDER = (
    "spec",
    "registry",
    "networks",
    "flows",
    "data",
    "task",
    "interfaces",
    "environments",
    "agents",
    "runs",
    "exporting",
    "acting",
    "collect",
    "evaluation",
    "training",
    "analysis",
    "launch",
    "tuning",
    "reports",
    "sharing",
    "presets",
    "experiment",
    "api",
    "cli",
)
# Where a user's own package stands: it may import everything but the command line, and the core
# never imports it.
PLUGINS = "benchmarks"
FOR_ALL = ("errors", "files", "reading", "progress")
JAX = {"jax", "jaxlib", "equinox", "optax", "flowjax", "paramax"}
SIMULATORS = {
    "gymnasium",
    "gym_pusht",
    "pymunk",
    "gymnasium_robotics",
    "mujoco",
    "dm_control",
    "ogbench",
}
# What runs in a simulator's processes, or must start quickly: rooms, or modules of a room.
WITHOUT_JAX = (
    *("nfrl", "nfrl.errors", "nfrl.files", "nfrl.reading", "nfrl.progress", "nfrl.spec"),
    *(
        "nfrl.registry",
        "nfrl.task",
        "nfrl.environments",
        "nfrl.collect",
        "nfrl.evaluation",
        "nfrl.reports",
    ),
    *("nfrl.runs.records", "nfrl.runs.folder", "nfrl.runs.results", "nfrl.launch", "nfrl.tuning"),
    *("nfrl.runs.tracking", "nfrl.runs.trackers", "nfrl.interfaces.tracker"),
    *("nfrl.data.load", "nfrl.data.formats", "nfrl.data.trajectories"),
)
# The one door from data on the disk to data on the device.
DOOR = ("nfrl.data.trajectories", "to_dataset")
# What asks an agent's capabilities, and never its type.
ASKS_CAPABILITIES = ("training", "acting", "evaluation", "presets", "experiment")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(), str(MODULES[name]))


@functools.cache
def imports(name: str, *, at_import_only: bool = False, but_the_door: bool = False) -> set[str]:
    """Return the full names of the modules that a module imports, anywhere in it.

    ``from nfrl.a import b`` counts as ``nfrl.a.b`` where that is a module. With
    ``at_import_only`` those in functions and under ``TYPE_CHECKING`` are left out; with
    ``but_the_door`` those of the ``DOOR``, and what only a type checker reads.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if at_import_only:
                return
            case ast.FunctionDef(name=function) if but_the_door and (name, function) == DOOR:
                return
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if at_import_only or but_the_door:
                return
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"{name}: imports are absolute"
                for alias in names:
                    full = f"{module}.{alias.name}"
                    found.add(full if full in MODULES else str(module))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree_of(name))
    return found


def part(name: str) -> str:
    """Return the part of the package that a module belongs to: its first level, "" for the root."""
    return f"{name}.".split(".")[1]


def top(name: str) -> str:
    return name.split(".")[0]


def modules_of(*parts: str) -> list[str]:
    assert set(parts) <= {part(name) for name in MODULES}, f"no modules in one of {parts}"
    return [name for name in MODULES if part(name) in parts]


def modules_under(*places: str) -> list[str]:
    """Return the modules of these names, and those in the packages of these names."""
    found = {
        place: [name for name in MODULES if name == place or name.startswith(f"{place}.")]
        if place != "nfrl"
        else ["nfrl"]
        for place in places
    }
    assert all(found.values()), f"no modules in {[p for p, names in found.items() if not names]}"
    return [name for names in found.values() for name in names]


def with_parents(name: str) -> list[str]:
    """Return a module and the packages that importing it imports."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def reached(name: str, **which: bool) -> set[str]:
    """Return every module, ours and others', that a module's imports lead to."""
    seen: set[str] = set()
    ahead = with_parents(name)
    while ahead:
        module = ahead.pop()
        if module not in seen:
            seen.add(module)
            if module in MODULES:
                for imported in imports(module, **which):
                    ahead += with_parents(imported)
    return seen


def test_every_room_has_its_place():
    assert {part(name) for name in MODULES} == {"", *ORDER, *FOR_ALL, PLUGINS}


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) != PLUGINS])
def test_imports_only_point_backwards(name):
    """And nowhere, not even in a function, does the core import what stands as a user's package."""
    own = part(name)
    before = ORDER[: ORDER.index(own) + 1] if own in ORDER else ()
    allowed = {"", *FOR_ALL, *before}
    ours = {part(imported) for imported in imports(name) if top(imported) == "nfrl"}
    assert ours <= allowed


@pytest.mark.parametrize("name", modules_of(PLUGINS))
def test_plugins_import_all_but_the_command_line(name):
    ours = {part(imported) for imported in imports(name) if top(imported) == "nfrl"}
    assert ours <= {"", *FOR_ALL, *ORDER, PLUGINS} - {"cli"}


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) != PLUGINS])
def test_the_core_names_no_plugin_either(name):
    """Not as ``package.module:name`` or to importlib: what there is, the registry is told."""
    texts = [node.value for node in ast.walk(tree_of(name)) if isinstance(node, ast.Constant)]
    named = [text for text in texts if isinstance(text, str) and f"nfrl.{PLUGINS}" in text]
    assert not named


@pytest.mark.parametrize("name", modules_of(*ASKS_CAPABILITIES))
def test_no_agent_is_asked_for_its_type(name):
    """What it needs and can do it declares; see nfrl.interfaces.agent.Capabilities."""
    for node in ast.walk(tree_of(name)):
        match node:
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, ast.Name(id="str")]):
                continue
            case ast.Call(
                func=ast.Name(id="isinstance" | "issubclass" | "hasattr" | "getattr" | "type"),
                args=[asked, *_],
            ):
                words = re.split(r"[^a-zA-Z]+", ast.unparse(asked).replace("_", " "))
                assert not {"agent", "agents", "explorer"} & set(words), ast.unparse(node)
            case ast.MatchClass(cls=cls):
                assert "nfrl.agents" not in ast.unparse(cls), ast.unparse(node)


@pytest.mark.parametrize(
    ("parts", "forbidden"),
    [
        (("networks",), {"flows"}),
        (("flows",), {"data", "agents"}),
        (("data",), {"networks", "flows", "agents"}),
        (("agents",), {"collect", "task", "environments", "evaluation"}),
    ],
)
def test_the_mathematics_knows_nothing_of_the_rest(parts, forbidden):
    for name in modules_of(*parts):
        ours = {part(imported) for imported in imports(name) if top(imported) == "nfrl"}
        assert not ours & forbidden, name


def test_flows_and_agents_know_neither_simulators_nor_clocks():
    for name in modules_of("networks", "flows", "agents"):
        assert not {top(i) for i in imports(name)} & (SIMULATORS | {"time", "datetime"}), name


@pytest.mark.parametrize("name", modules_under(*WITHOUT_JAX))
def test_simulators_data_and_reports_never_reach_jax(name):
    """Neither themselves, at any depth, nor through what they import, in functions too."""
    assert not {top(imported) for imported in reached(name, but_the_door=True)} & JAX


def test_the_door_to_the_device_is_where_it_is_said_to_be():
    module, _ = DOOR
    assert imports(module) - imports(module, but_the_door=True) == {
        "nfrl.data.dataset",
        "nfrl.data.streamed",
    }


def test_nothing_is_pickled():
    """Loading a pickle runs code."""
    for name in MODULES:
        assert not {top(i) for i in imports(name)} & {"pickle", "cloudpickle", "dill", "joblib"}
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", name


def test_the_package_itself_imports_nothing_heavy():
    assert not {top(i) for i in reached("nfrl", at_import_only=True)} & (JAX | SIMULATORS)


def test_the_command_line_starts_without_jax_and_mujoco():
    code = (
        "import sys, nfrl.cli.main; "
        "print(*sorted({'jax', 'mujoco', 'gymnasium', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
