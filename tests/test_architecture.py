"""Who may import whom: read from the sources, so that it holds on every path through them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nfrl

ROOT = Path(nfrl.__file__).parent

# Each may import the ones before it, and itself.
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
    "acting",
    "collect",
    "evaluation",
    "training",
    "analysis",
    "launch",
    "reports",
    "experiment",
    "cli",
)
# Where a user's own package stands: it may import everything but the command line, and the core
# never imports it.
PLUGINS = "benchmarks"
FOR_ALL = ("errors", "files", "progress")
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
# What runs in a simulator's processes, or must start quickly.
WITHOUT_JAX = ("environments", "collect", "evaluation", "task", "reports")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(name: str, *, at_import_only: bool = False) -> set[str]:
    """Return the full names of the modules that a module imports, anywhere in it.

    ``from nfrl.a import b`` counts as ``nfrl.a.b`` where that is a module. With
    ``at_import_only`` those in functions and under ``TYPE_CHECKING`` are left out.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if at_import_only:
                return
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if at_import_only:
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

    visit(ast.parse(MODULES[name].read_text(), str(MODULES[name])))
    return found


def part(name: str) -> str:
    """Return the part of the package that a module belongs to: its first level, "" for the root."""
    return f"{name}.".split(".")[1]


def top(name: str) -> str:
    return name.split(".")[0]


def modules_of(*parts: str) -> list[str]:
    found = [name for name in MODULES if part(name) in parts]
    assert found, f"no module in {parts}"
    return found


def with_parents(name: str) -> list[str]:
    """Return a module and the packages that importing it imports."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def reached(name: str, *, at_import_only: bool) -> set[str]:
    """Return every module, ours and others', that a module's imports lead to."""
    seen: set[str] = set()
    ahead = with_parents(name)
    while ahead:
        module = ahead.pop()
        if module not in seen:
            seen.add(module)
            if module in MODULES:
                for imported in imports(module, at_import_only=at_import_only):
                    ahead += with_parents(imported)
    return seen


def test_every_part_has_its_place():
    assert {part(name) for name in MODULES} <= {"", *ORDER, *FOR_ALL}


@pytest.mark.parametrize("name", MODULES)
def test_imports_only_point_backwards(name):
    own = part(name)
    before = ORDER[: ORDER.index(own) + 1] if own in ORDER else ()
    allowed = {"", *FOR_ALL, *before}
    ours = {part(imported) for imported in imports(name) if top(imported) == "nfrl"}
    assert ours <= allowed


@pytest.mark.parametrize(
    ("parts", "forbidden"),
    [
        (("networks",), {"flows"}),
        (("flows",), {"data", "agents"}),
        (("data",), {"networks", "flows", "agents"}),
        (("agents",), {"collect", "tasks", "evaluation"}),
    ],
)
def test_the_mathematics_knows_nothing_of_the_rest(parts, forbidden):
    for name in modules_of(*parts):
        ours = {part(imported) for imported in imports(name) if top(imported) == "nfrl"}
        assert not ours & forbidden, name


def test_flows_and_agents_know_neither_simulators_nor_clocks():
    for name in modules_of("networks", "flows", "agents"):
        assert not {top(i) for i in imports(name)} & (SIMULATORS | {"time", "datetime"}), name


@pytest.mark.parametrize("name", modules_of(*WITHOUT_JAX))
def test_simulators_and_reports_never_reach_jax(name):
    """Neither themselves, at any depth, nor through what they import."""
    assert not {top(imported) for imported in reached(name, at_import_only=False)} & JAX


def test_nothing_is_pickled():
    """Loading a pickle runs code."""
    for name, path in MODULES.items():
        assert not {top(i) for i in imports(name)} & {"pickle", "cloudpickle", "dill", "joblib"}
        for node in ast.walk(ast.parse(path.read_text())):
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
