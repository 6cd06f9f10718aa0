"""Locomotion experts, run in NumPy: what collects data knows nothing of JAX.

An expert is a file ``NAME.safetensors`` (a policy's weights) and ``NAME.json`` beside it (who made
it, and how well it does). Those that were trained here come with the package; others are trained by
``nfrl collect expert NAME --install`` and lie in the folder of data sets, under ``experts``.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from nfrl.data.formats import ogbench
from nfrl.environments.locomotion import body
from nfrl.errors import UserError
from nfrl.reading import check_file, foreign, read_json

SHIPPED = Path(__file__).with_name("experts")


class ExpertPolicy:
    """The mode of a tanh-Gaussian policy: tanh of the first half of a ReLU network's output.

    Args:
        weights: Per layer (inputs, outputs) float32, as `nfrl.networks.layers.Linear` stores them.
        biases: Per layer (outputs,) float32.
    """

    def __init__(self, weights: list[NDArray], biases: list[NDArray]):
        *self._hidden, (weight, bias) = zip(weights, biases, strict=True)
        self.action_dim = len(bias) // 2
        self.observation_dim = weights[0].shape[0]
        # The other half is the standard deviation, and an expert shows its best.
        self._last = np.ascontiguousarray(weight[:, : self.action_dim]), bias[: self.action_dim]

    def __call__(self, observation: NDArray) -> NDArray[np.float32]:
        """Return the action (a,) in [-1, 1] for an observation (d,)."""
        x = observation.astype(np.float32)
        for weight, bias in self._hidden:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self._last
        return np.tanh(x @ weight + bias)


def expert_folder() -> Path:
    """Give the folder where experts lie that were trained on this machine."""
    return ogbench.dataset_directory() / "experts"


def find_expert(name: str) -> Path:
    """Find an expert's weights: one trained on this machine, else the one that was shipped.

    Args:
        name: "ant", "ant-ball" or "humanoid"; or of a file of your own among the experts.

    Raises:
        UserError: There is no such expert, or nobody has trained it yet.
    """
    for path in _places(name):
        if path.is_file():
            return path
    body(name)  # Of a name that nothing here trains, the nearest are given.
    raise UserError(
        f"these data need the {name} expert, which is not there yet; train it: "
        f"nfrl collect expert {name} --install"
    )


def is_there(name: str) -> bool:
    """Whether an expert has been trained here, or was shipped."""
    return any(path.is_file() for path in _places(name))


def _places(name: str) -> list[Path]:
    return [folder / f"{name}.safetensors" for folder in (expert_folder(), SHIPPED)]


def load_expert(name: str) -> ExpertPolicy:
    """Load an expert by its name; see `find_expert` for the errors."""
    return read_expert(find_expert(name))


def read_expert(path: Path) -> ExpertPolicy:
    """Read an expert's file.

    Raises:
        UserError: It is missing or cut short, or holds something else.
    """
    check_file(path)
    with foreign(path, "safetensors"), safe_open(path, framework="numpy") as file:
        layers = len(list(file.keys())) // 2
        # Those of the large experts that come with the package are stored in half precision.
        weights, biases = (
            [file.get_tensor(f"{i}.{part}").astype(np.float32) for i in range(layers)]
            for part in ("weight", "bias")
        )
    _check_layers(path, weights, biases)
    return ExpertPolicy(weights, biases)


def read_record(path: Path) -> dict[str, Any]:
    """Read what is written beside an expert's weights: its training and its score."""
    return read_json(path.with_suffix(".json"))


def _check_layers(path: Path, weights: list[NDArray], biases: list[NDArray]) -> None:
    """Refuse what is no network: layers that do not fit one another, numbers that are none."""
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        fits = weight.ndim == 2 and bias.shape == weight.shape[1:] and weight.size
        if not fits or (i and len(weight) != len(biases[i - 1])):
            raise UserError(f"{path}: not an expert's weights: {i}.weight is {weight.shape}")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise UserError(f"{path}: not an expert's weights: {i} has values that are not finite")
    if not weights or len(biases[-1]) % 2:
        raise UserError(f"{path}: not an expert's weights: the last layer is not of two halves")
