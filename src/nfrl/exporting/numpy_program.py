"""NumPy: a list of operations as JSON and the weights as safetensors; no JAX, no runtime."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from nfrl.exporting.functions import Function
from nfrl.exporting.fusion import fuse
from nfrl.exporting.program import Program, lower
from nfrl.files import write_bytes

PROGRAMS, WEIGHTS = "programs.json", "weights.safetensors"


class NumpyProgram:
    """Writes programs.json and weights.safetensors, for all functions together."""

    describes = (
        "A list of operations as JSON, and the weights as safetensors. NumPy carries them out: "
        "exported_policy.py, beside this file, has the code."
    )

    def write(self, functions: dict[str, Function], folder: Path) -> None:
        """Write the files; see :class:`nfrl.exporting.exporter.Exporter`."""
        from safetensors.numpy import save

        programs: dict[str, Any] = {}
        weights: dict[str, Any] = {}
        names: dict[Any, str] = {}
        for name, function in functions.items():
            program = fuse(lower(function.call, function.inputs, [function.output]))
            # Functions share most weights, which are then written once.
            renamed = {}
            for old, value in program.constants.items():
                key = (value.tobytes(), value.shape, value.dtype.str)
                names.setdefault(key, f"w{len(names)}")
                renamed[old] = names[key]
                weights[names[key]] = value
            programs[name] = _to_json(program, renamed)
        text = json.dumps(programs, separators=(",", ":"))
        write_bytes(folder / PROGRAMS, text.encode())
        write_bytes(folder / WEIGHTS, save(weights))


EXPORTER = NumpyProgram()


def _to_json(program: Program, renamed: dict[str, str]) -> dict[str, Any]:
    return {
        "inputs": [dataclasses.asdict(each) for each in program.inputs],
        "outputs": [dataclasses.asdict(each) for each in program.outputs],
        "operations": [
            {
                "kind": each.kind,
                "inputs": [renamed.get(name, name) for name in each.inputs],
                "outputs": list(each.outputs),
                "attributes": each.attributes,
                **({"body": _to_json(each.body, renamed)} if each.body else {}),
            }
            for each in program.operations
        ],
    }
