"""ONNX: a file for each function, that ONNX Runtime and others carry out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfrl.exporting.functions import Function
from nfrl.exporting.fusion import fuse
from nfrl.exporting.program import Operation, Port, Program, lower
from nfrl.files import write_bytes

OPSET = 17
"""The least version of ONNX's operations that has all of them: what older runtimes know, too."""


class OnnxFiles:
    """Writes NAME.onnx for each function."""

    describes = (
        "One ONNX file for each function. ONNX Runtime carries them out, on a CPU and without JAX."
    )

    def write(self, functions: dict[str, Function], folder: Path) -> None:
        """Write the files; see :class:`nfrl.exporting.exporter.Exporter`."""
        for name, function in functions.items():
            program = fuse(lower(function.call, function.inputs, [function.output]))
            content = model(name, program).SerializeToString()
            write_bytes(folder / f"{name}.onnx", content)


EXPORTER = OnnxFiles()


def model(name: str, program: Program) -> Any:
    """Write a program as an ONNX model."""
    import onnx
    from onnx import helper, numpy_helper

    graph = _Graph(set(program.constants))
    nodes = graph.nodes(program.operations)
    constants = {**program.constants, **graph.constants}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(
        nodes,
        name,
        [_info(each) for each in program.inputs],
        [_info(each) for each in program.outputs],
        tensors,
    )
    found = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nfrl", ir_version=8
    )
    onnx.checker.check_model(found)
    return found


def _info(port: Port) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(port.name, _type(port.dtype), list(port.shape))


def _type(dtype: str) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class _Graph:
    """ONNX's nodes of operations, and the constants that they take for attributes."""

    def __init__(self, taken: set[str]):
        self.constants: dict[str, np.ndarray] = {}
        self._taken = taken

    def nodes(self, operations: Sequence[Operation]) -> list[Any]:
        return [node for each in operations for node in self._nodes(each)]

    def _constant(self, values: Any) -> str:
        array = np.asarray(values, np.int64)
        name = "c_" + "_".join(map(str, array.reshape(-1))) + f"_{array.ndim}"
        self.constants[name] = array
        return name

    def _nodes(self, operation: Operation) -> list[Any]:
        from onnx import helper

        kind, inputs, outputs = operation.kind, list(operation.inputs), list(operation.outputs)
        of = operation.attributes

        def node(*more: str, **attributes: Any) -> list[Any]:
            return [helper.make_node(kind, [*inputs, *more], outputs, **attributes)]

        match kind:
            case "Reshape" | "Expand":
                return node(self._constant(of["shape"]))
            case "Slice":
                ends = (self._constant([of[each]]) for each in ("begin", "end", "axis"))
                return node(*ends)
            case "Pad":
                value = f"pad_{of['value']!r}"
                self.constants[value] = np.asarray(of["value"], np.float32)
                return node(self._constant([*of["begins"], *of["ends"]]), value)
            case "ReduceSum":
                return node(self._constant(of["axes"]), keepdims=0)
            case "ReduceMax" | "ReduceMin" | "ReduceProd":
                return node(axes=of["axes"], keepdims=0)
            case "CumSum":
                return node(self._constant(of["axis"]))
            case "Cast":
                return node(to=_type(of["to"]))
            case "ArgMax" | "ArgMin":
                found = f"{outputs[0]}_long"
                first = helper.make_node(kind, inputs, [found], axis=of["axis"], keepdims=0)
                return [first, helper.make_node("Cast", [found], outputs, to=_type("int32"))]
            case "TopK":
                found = f"{outputs[1]}_long"
                first = helper.make_node(
                    kind,
                    [*inputs, self._constant([of["count"]])],
                    [outputs[0], found],
                    axis=-1,
                    largest=int(of["largest"]),
                    sorted=1,
                )
                return [first, helper.make_node("Cast", [found], [outputs[1]], to=_type("int32"))]
            case "Conv":
                return node(strides=of["strides"])
            case "Scan":
                return self._loop(operation)
            case "LayerNormalization":
                return node(axis=-1, epsilon=of["epsilon"])
        return node(**of)

    def _loop(self, operation: Operation) -> list[Any]:
        from onnx import helper

        body, carried = operation.body, operation.attributes["carried"]
        assert body is not None
        within = helper.make_graph(
            self.nodes(body.operations),
            f"{operation.outputs[0]}_body",
            [_info(each) for each in body.inputs],
            [_info(each) for each in body.outputs],
        )
        return [
            helper.make_node(
                "Scan",
                operation.inputs,
                operation.outputs,
                body=within,
                num_scan_inputs=len(operation.inputs) - carried,
            )
        ]
