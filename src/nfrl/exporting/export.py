"""Writing a policy for other programs: its functions, a reader, a README, and a check of it all."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nfrl import __version__
from nfrl.errors import UserError
from nfrl.exporting import exported_policy, readme
from nfrl.exporting.draws import draw_all
from nfrl.exporting.exported_policy import DESCRIPTION, SCHEMA, ExportedPolicy
from nfrl.exporting.exporter import Exporter
from nfrl.exporting.functions import Function, Functions, functions_of
from nfrl.files import held, make_folder, not_written, write_bytes, write_json
from nfrl.interfaces.agent import Agent
from nfrl.registry import find
from nfrl.spec import ActionSpec, Spec

CHECKED = 32
"""Random inputs that each function is checked with."""
TOLERANCE = 1e-3
"""The largest difference that is rounding: in parts of an action's range, and of 1 + |value|."""


def export(agent: Agent, spec: Spec, name: str, path: Path | str, to: str) -> dict[str, float]:
    """Write an agent's policy to a folder, for programs without nfrl.

    The files of our own formats are read back and compared with the agent on random inputs before
    they get their place. An earlier export in that place is replaced.

    Args:
        agent: The agent.
        spec: What it observes and does.
        name: What to call its algorithm.
        path: The folder.
        to: The format: ``onnx``, ``stablehlo``, ``numpy``, or one that a package announces.

    Returns:
        The largest difference from the agent, for each function.

    Raises:
        UserError: The folder holds something else, the policy does something that the format has
            not, or the files do not act as the agent does.
    """
    path = Path(path).expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not is_export(path):
        raise UserError(f"{path} holds something else than an export: choose another folder")
    exporter: Exporter = find("exporters", to)
    functions = functions_of(agent, spec)
    workshop = path.with_name(f".{path.name}.tmp")
    made, before = workshop / "made", workshop / "before"
    with held(workshop, f"another process is writing {path}; wait for it"):
        try:
            _put_back(before, path)  # by an export that was killed
            shutil.rmtree(made, ignore_errors=True)
            make_folder(made)
            exporter.write(functions.by_name, made)
            write_json(made / DESCRIPTION, _describe(agent, spec, name, to, functions))
            own = Path(exported_policy.__file__).read_bytes()
            write_bytes(made / "exported_policy.py", own)
            # What exported_policy.py cannot read is another package's to check.
            readable = to in exported_policy.LOADERS
            differences = _check(made, functions, spec.action) if readable else {}
            text = readme.write(name, to, exporter.describes, functions, differences)
            write_bytes(made / "README.md", text.encode())
            if path.exists():
                path.rename(before)
            made.rename(path)
        except OSError as error:
            raise UserError(not_written(path, error)) from error
        finally:
            _put_back(before, path)
            shutil.rmtree(workshop, ignore_errors=True)
    return differences


def _put_back(before: Path, path: Path) -> None:
    """Give the earlier export its name again, where no new one took it; else take it away."""
    if before.exists() and not path.exists():
        before.rename(path)
    shutil.rmtree(before, ignore_errors=True)


def is_export(path: Path) -> bool:
    """Whether a folder holds an exported policy."""
    return (path / DESCRIPTION).is_file()


def _describe(
    agent: Agent, spec: Spec, name: str, to: str, functions: Functions
) -> Mapping[str, Any]:
    can = agent.capabilities
    return {
        "schema": SCHEMA,
        "format": to,
        "agent": name,
        "nfrl": __version__,
        "observation": [
            {"name": each, "shape": list(array.shape)} for each, array in spec.observation.items()
        ],
        "action": {"low": list(spec.action.low), "high": list(spec.action.high)},
        "goals": can.goals,
        "goal_columns": list(spec.goal_columns),
        "history": can.history,
        "predicted": can.predicted,
        "executed": can.executed,
        "draws": {name: dataclasses.asdict(draw) for name, draw in functions.draws.items()},
        "functions": {
            name: [{"name": each.name, "shape": list(each.shape)} for each in function.inputs]
            for name, function in functions.by_name.items()
        },
    }


def _check(folder: Path, functions: Functions, action: ActionSpec) -> dict[str, float]:
    """Return the largest difference between the files and the agent, for each function."""
    generator = np.random.default_rng(0)
    files = ExportedPolicy(folder).functions
    found = {}
    for name, function in functions.by_name.items():
        compiled = jax.jit(function.call)
        differences, worst = [0.0], 0.0
        for _ in range(CHECKED):
            given = _random_inputs(function, functions, action, generator)
            right = np.asarray(compiled(*given.values()))
            theirs = files[name](given)
            finite = np.isfinite(right)
            # Infinite in the same places is equal; anywhere else it is as wrong as can be.
            same = np.array_equal(finite, np.isfinite(theirs))
            wrong = (
                np.where(finite, np.abs(theirs - right), 0.0)
                if same
                else np.full_like(right, np.inf)
            )
            scale = _spans(action) if name == "act" else 1 + np.abs(right)
            differences.append(float(wrong.max()))
            worst = max(worst, float((wrong / np.where(np.isfinite(scale), scale, 1)).max()))
        if not worst <= TOLERANCE:
            raise UserError(
                f"the exported {name} differs from the agent's by {max(differences):.3g}: nothing "
                "was kept; please report it"
            )
        found[name] = max(differences)
    return found


def _spans(action: ActionSpec) -> np.ndarray:
    spans = np.asarray(action.high) - np.asarray(action.low)
    return np.where(spans > 0, spans, 1.0)


def _random_inputs(
    function: Function, functions: Functions, action: ActionSpec, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    given = {}
    for port in function.inputs:
        if port.name in functions.draws:
            (given[port.name],) = draw_all([functions.draws[port.name]], generator)
        elif port.name == "action":
            values = generator.uniform(action.low, action.high, port.shape)
            given[port.name] = values.astype(np.float32)
        else:
            given[port.name] = generator.standard_normal(port.shape, np.float32)
    return given
