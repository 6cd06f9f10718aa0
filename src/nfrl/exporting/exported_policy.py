"""A policy that ``nfrl export`` wrote, ready to act: this file, NumPy and one further package.

    from exported_policy import ExportedPolicy

    policy = ExportedPolicy("the/folder")
    action = policy(observation)            # or policy(observation, goal)
    policy.reset()                          # the next episode

It stands alone, so that a robot needs neither nfrl nor JAX. What it needs is safetensors for
``numpy``, ONNX Runtime for ``onnx``, and JAX for ``stablehlo``. No code of the folder is run, and
nothing is unpickled.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

DESCRIPTION = "export.json"
SCHEMA = 1
PARTS = (
    *("format", "functions", "observation", "history", "predicted", "executed", "draws"),
    *("goals", "goal_columns"),
)
LARGEST = 4_000_000_000
"""Bytes of a file."""
Run = Callable[[Mapping[str, Any]], np.ndarray]
"""A function of the policy: of arrays by name to an array."""


class ExportedPolicy:
    """What acts in one environment, called once a step.

    It remembers what must be: the latest observations, and the actions of the chunk in hand.

    Args:
        folder: What ``nfrl export`` wrote.
        seed: Of the random numbers that an action is made of.
        threads: Of ONNX Runtime. One is the fastest for one action at a time.

    Attributes:
        description: The contents of export.json.
        functions: ``act``, and where the policy has them ``log_prob`` and ``q``: each a function
            of a mapping of arrays by name.
    """

    def __init__(self, folder: Path | str, *, seed: int = 0, threads: int = 1):
        self.folder = Path(folder)
        self.description = _read(self.folder / DESCRIPTION)
        kind = self.description["format"]
        if kind not in LOADERS:
            raise ValueError(f"{self.folder} is of the format {kind}, which this file cannot read")
        try:
            self.functions: dict[str, Run] = LOADERS[kind](self.folder, self.description, threads)
        except (ImportError, _Damaged):
            raise
        except Exception as error:  # Each library raises errors of its own.
            raise _Damaged(
                f"{self.folder}: a file of {kind} is missing or damaged: {error}"
            ) from error
        self._generator = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Begin the next episode: forget what was planned and seen."""
        self._seen: list[np.ndarray] = []
        self._pending: list[np.ndarray] = []

    def __call__(self, observation: Any, goal: Any = None) -> np.ndarray:
        """Return the next action: (action,) float32, in the units that README.md tells.

        Args:
            observation: A vector, or a mapping of arrays.
            goal: Of a policy that seeks goals: as wide as an observation, or the columns alone
                that decide success.

        Raises:
            ValueError: A shape is wrong, a value is not finite, or the goal is missing.
        """
        state = self._flat(observation)
        history = self.description["history"]
        if history is not None:
            self._seen = [*(self._seen or [state] * history)[1:], state]
        if not self._pending:
            seen = state if history is None else np.stack(self._seen)
            given = {"observation": seen, **self._goal(goal), **self._draws()}
            chunk = self.functions["act"](given)
            if self.description["predicted"] is None:
                chunk = chunk[None]
            self._pending = list(chunk[: self.description["executed"]])
        return np.array(self._pending.pop(0))

    def log_prob(self, observation: Any, action: Any, goal: Any = None) -> float:
        """Return the log-density of an action, or of a chunk, in nats and the data's units."""
        return self._value("log_prob", observation, action, goal)

    def q(self, observation: Any, action: Any, goal: Any = None) -> float:
        """Return the critic's value of an action, in units of reward."""
        return self._value("q", observation, action, goal)

    def _value(self, name: str, observation: Any, action: Any, goal: Any) -> float:
        if name not in self.functions:
            raise ValueError(f"this policy has no {name}; it has {', '.join(self.functions)}")
        shapes = {each["name"]: each["shape"] for each in self.description["functions"][name]}
        seen = np.asarray(observation, np.float32) if np.ndim(observation) == 2 else None
        if seen is None:
            state = self._flat(observation)
            history = self.description["history"]
            seen = state if history is None else np.repeat(state[None], history, axis=0)
        given = {
            "observation": _checked("the observation", seen, shapes["observation"]),
            "action": _checked("the action", action, shapes["action"]),
            **({"goal": self._goal(goal)["goal"]} if "goal" in shapes else {}),
        }
        return float(self.functions[name](given))

    def _flat(self, observation: Any) -> np.ndarray:
        layout = self.description["observation"]
        if isinstance(observation, Mapping):
            parts = []
            for each in layout:
                if each["name"] not in observation:
                    raise ValueError(f"the observation has no {each['name']!r}")
                value = _checked(each["name"], observation[each["name"]], each["shape"])
                parts.append(value.reshape(-1))
            state = np.concatenate(parts)
        else:
            width = sum(math.prod(each["shape"]) for each in layout)
            state = _checked("the observation", observation, [width])
        if not np.isfinite(state).all():
            raise ValueError("the observation has a value that is not finite")
        return state

    def _goal(self, goal: Any) -> dict[str, np.ndarray]:
        if not self.description["goals"]:
            return {}
        if goal is None:
            raise ValueError("this policy seeks goals: call it with (observation, goal)")
        columns = self.description["goal_columns"]
        if columns and np.shape(goal) == (len(columns),):
            width = sum(math.prod(each["shape"]) for each in self.description["observation"])
            whole = np.zeros(width, np.float32)
            whole[columns] = goal
            return {"goal": whole}
        return {"goal": self._flat(goal)}

    def _draws(self) -> dict[str, np.ndarray]:
        found = {}
        for name, draw in self.description["draws"].items():
            shape = tuple(draw["shape"])
            if draw["distribution"] == "normal":
                found[name] = self._generator.standard_normal(shape, np.float32)
            else:
                found[name] = self._generator.random(shape, np.float32)
        return found


class _Damaged(ValueError):
    """Files that are none of an exported policy."""


def _read(path: Path) -> dict[str, Any]:
    found = _json(path)
    if found.get("schema") != SCHEMA:
        raise _Damaged(f"{path} is not of schema {SCHEMA}, which this file reads")
    if lacking := [name for name in PARTS if name not in found]:
        raise _Damaged(f"{path} does not describe an exported policy: it has no {lacking[0]!r}")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _Damaged(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise _Damaged(f"{path} does not hold a JSON object")
    return found


def _file(path: Path) -> Path:
    """Return a path, if there is a file, and no pipe or folder, that is not out of all measure."""
    if not path.is_file():
        raise _Damaged(f"{path}: there is no such file")
    if path.stat().st_size > LARGEST:
        raise _Damaged(f"{path} has {path.stat().st_size} bytes, too many for what it is")
    return path


def _checked(what: str, value: Any, shape: list[int]) -> np.ndarray:
    array = np.asarray(value, np.float32)
    if list(array.shape) != list(shape):
        raise ValueError(f"{what} has shape {array.shape}; this policy's have {tuple(shape)}")
    return array


# --- ONNX Runtime -----------------------------------------------------------------------------


def _load_onnx(folder: Path, description: dict[str, Any], threads: int) -> dict[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3  # errors alone

    def load(name: str) -> Run:
        session = onnxruntime.InferenceSession(
            str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        wanted = {each.name for each in session.get_inputs()}
        return lambda given: session.run(None, {k: v for k, v in given.items() if k in wanted})[0]

    return {name: load(name) for name in description["functions"]}


# --- StableHLO ---------------------------------------------------------------------------------


def _load_stablehlo(folder: Path, description: dict[str, Any], threads: int) -> dict[str, Run]:
    import jax
    import jax.export

    def load(name: str) -> Run:
        exported = jax.export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes()))
        called = jax.jit(exported.call)
        order = [each["name"] for each in description["functions"][name]]
        return lambda given: np.asarray(called(*(given[each] for each in order)))

    return {name: load(name) for name in description["functions"]}


# --- NumPy -------------------------------------------------------------------------------------


def _load_numpy(folder: Path, description: dict[str, Any], threads: int) -> dict[str, Run]:
    from safetensors.numpy import load_file

    source, file = _file(folder / "weights.safetensors"), folder / "programs.json"
    try:
        weights = load_file(source)
    except Exception as error:
        raise _Damaged(f"{source} is damaged: {error}") from error
    programs = _json(file)

    def load(name: str) -> Run:
        try:
            program = programs[name]
            run = _compiled(program, weights)
            order = [each["name"] for each in program["inputs"]]
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise _Damaged(f"{file} is damaged, or of another policy: {error!r}") from error

        def call(given: Mapping[str, Any]) -> np.ndarray:
            try:
                (result,) = run([np.asarray(given[each]) for each in order])
            except Exception as error:
                raise _Damaged(f"{file}: {name} cannot be carried out: {error!r}") from error
            return np.asarray(result)

        return call

    return {name: load(name) for name in description["functions"]}


def _compiled(program: dict[str, Any], known: Mapping[str, Any]) -> Callable[..., list[Any]]:
    """Look every operation up once; what is left of a call is a list of NumPy functions."""
    steps = [_step(each, known) for each in program["operations"]]
    inputs = [each["name"] for each in program["inputs"]]
    outputs = [each["name"] for each in program["outputs"]]
    names_used = {name for each in program["operations"] for name in each["inputs"]}
    constants = {name: known[name] for name in names_used if name in known}

    def run(given: list[Any], around: Mapping[str, Any] = MappingProxyType({})) -> list[Any]:
        values: dict[str, Any] = {**constants, **around}
        values.update(zip(inputs, given, strict=True))
        with np.errstate(all="ignore"):
            for function, names, results in steps:
                found = function([values[name] for name in names], values)
                values.update(zip(results, found, strict=True))
        return [values[name] for name in outputs]

    return run


Carry = Callable[[list[Any], Mapping[str, Any]], Sequence[Any]]
"""An operation as a function of its inputs, and of all values that a loop's body may use."""


def _step(
    operation: dict[str, Any], known: Mapping[str, Any]
) -> tuple[Carry, list[str], list[str]]:
    kind, names, results = operation["kind"], operation["inputs"], operation["outputs"]
    if kind == "Scan":
        return _loop(operation, known), names, results
    if kind not in _NUMPY:
        raise ValueError(f"the program has an operation {kind}, which this file cannot carry out")
    function: Any = _NUMPY[kind](operation["attributes"])
    if len(results) > 1:
        return lambda given, values: function(*given), names, results
    return lambda given, values: (function(*given),), names, results


def _loop(operation: dict[str, Any], known: Mapping[str, Any]) -> Carry:
    carried, length = operation["attributes"]["carried"], operation["attributes"]["length"]
    body = _compiled(operation["body"], known)

    def run(inputs: list[Any], values: Mapping[str, Any]) -> list[Any]:
        carry, rows = inputs[:carried], inputs[carried:]
        stacked: list[list[Any]] = []
        for i in range(length):
            found = body([*carry, *(each[i] for each in rows)], values)
            carry = found[:carried]
            stacked.append(found[carried:])
        columns = [np.stack([turn[i] for turn in stacked]) for i in range(len(stacked[0]))]
        return [*carry, *columns]

    return run


def _fixed(function: Any) -> Callable[[dict[str, Any]], Any]:
    """A NumPy function that is an operation without attributes."""
    return lambda attributes: function


def _over(function: Callable[..., Any], name: str = "axis") -> Callable[[dict[str, Any]], Any]:
    """A NumPy function along an axis, or along some."""

    def of(attributes: dict[str, Any]) -> Callable[..., Any]:
        axis = attributes[name] if name == "axis" else tuple(attributes[name])
        return lambda x: function(x, axis=axis)

    return of


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


def _slice(attributes: dict[str, Any]) -> Callable[..., Any]:
    before = (slice(None),) * attributes["axis"]
    return lambda x: x[(*before, slice(attributes["begin"], attributes["end"]))]


def _top(attributes: dict[str, Any]) -> Callable[..., Any]:
    count = attributes["count"]

    def top(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(-x if attributes["largest"] else x, axis=-1, kind="stable")
        order = order[..., :count].astype(np.int32)
        return np.take_along_axis(x, order, -1), order

    return top


def _pad(attributes: dict[str, Any]) -> Callable[..., Any]:
    widths = list(zip(attributes["begins"], attributes["ends"], strict=True))
    return lambda x: np.pad(x, widths, constant_values=attributes["value"])


def _convolve(attributes: dict[str, Any]) -> Callable[..., Any]:
    strides = attributes["strides"]

    def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        spatial = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], spatial)
        windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]
        over = [1, *range(x.ndim, windows.ndim)]
        product = np.tensordot(windows, kernel, (over, [1, *range(2, kernel.ndim)]))
        return np.moveaxis(product, -1, 1)

    return convolve


def _layer_norm(attributes: dict[str, Any]) -> Callable[..., Any]:
    epsilon = np.float32(attributes["epsilon"])

    def normalise(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        return centred / np.sqrt(variance + epsilon) * scale + shift

    return normalise


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    quotient = np.divide(x, y)
    whole = np.issubdtype(np.result_type(x, y), np.integer)
    return np.trunc(quotient).astype(np.result_type(x, y)) if whole else quotient


_NUMPY: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        name: _fixed(function)
        for name, function in {
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Div": _divide,
            "Neg": np.negative,
            "Max": np.maximum,
            "Min": np.minimum,
            "Pow": np.power,
            "Abs": np.abs,
            "Sign": np.sign,
            "Floor": np.floor,
            "Ceil": np.ceil,
            "Exp": np.exp,
            "Log": np.log,
            "Sqrt": np.sqrt,
            "Reciprocal": np.reciprocal,
            "Tanh": np.tanh,
            "Sin": np.sin,
            "Cos": np.cos,
            "Erf": np.vectorize(math.erf, otypes=[np.float32]),
            "Sigmoid": _sigmoid,
            "Equal": np.equal,
            "Less": np.less,
            "LessOrEqual": np.less_equal,
            "Greater": np.greater,
            "GreaterOrEqual": np.greater_equal,
            "And": np.logical_and,
            "Or": np.logical_or,
            "Not": np.logical_not,
            "Where": np.where,
            "MatMul": np.matmul,
            "Identity": lambda x: x,
        }.items()
    },
    "LeakyRelu": lambda a: lambda x: np.where(x >= 0, x, np.float32(a["alpha"]) * x),
    "LayerNormalization": _layer_norm,
    "ReduceSum": _over(np.sum, "axes"),
    "ReduceMax": _over(np.max, "axes"),
    "ReduceMin": _over(np.min, "axes"),
    "ReduceProd": _over(np.prod, "axes"),
    "ArgMax": _over(np.argmax),
    "ArgMin": _over(np.argmin),
    "CumSum": _over(np.cumsum),
    "Mod": lambda a: np.fmod,
    "Cast": lambda a: lambda x: np.asarray(x).astype(a["to"]),
    "Reshape": lambda a: lambda x: np.reshape(x, a["shape"]),
    "Expand": lambda a: lambda x: np.broadcast_to(x, a["shape"]),
    "Transpose": lambda a: lambda x: np.transpose(x, a["perm"]),
    "Concat": lambda a: lambda *xs: np.concatenate(xs, axis=a["axis"]),
    "Slice": _slice,
    "Pad": _pad,
    "Gather": lambda a: lambda x, i: np.take(x, i, axis=a["axis"]),
    "GatherElements": lambda a: lambda x, i: np.take_along_axis(x, i, axis=a["axis"]),
    "TopK": _top,
    "Einsum": lambda a: lambda x, y: np.einsum(a["equation"], x, y),
    "Conv": _convolve,
}

LOADERS: dict[str, Callable[[Path, dict[str, Any], int], dict[str, Run]]] = {
    "onnx": _load_onnx,
    "stablehlo": _load_stablehlo,
    "numpy": _load_numpy,
}
