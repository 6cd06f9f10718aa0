"""Checkpoints: an agent's arrays in a safetensors file, which holds numbers and no code."""

import functools
import hashlib
import json
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import numpy, safe_open

from nfrl.errors import UserError
from nfrl.files import write_atomically
from nfrl.reading import check_file, one_line

Tree = TypeVar("Tree")

ABOUT = "nfrl"
"""The entry of a file's header that holds the step, and a digest of each array."""
NAME = re.compile(r"step-(\d+)\.safetensors")


def save(path: Path, tree: object, *, step: int) -> None:
    """Write every array of a pytree under its path in the tree, atomically.

    Args:
        path: The file to write.
        tree: Any pytree; what is not an array is left out.
        step: The gradient step it belongs to.

    Raises:
        UserError: The disk is full; what stood there before is untouched.
    """
    data = to_bytes(tree, step=step)
    write_atomically(path, lambda file: file.write(data))


def to_bytes(tree: object, *, step: int) -> bytes:
    """Return what :func:`save` writes; equal trees have equal bytes."""
    arrays = _arrays(tree)
    about = {"step": step, "digests": {name: _digest(array) for name, array in arrays.items()}}
    # One entry: safetensors writes several in any order.
    return numpy.save(arrays, metadata={ABOUT: json.dumps(about)})


def save_only(folder: Path, tree: object, *, step: int) -> None:
    """Write a folder's checkpoint, and only then forget those before it: for large ones."""
    save(path_of(folder, step), tree, step=step)
    for path in list(steps_in(folder).values())[:-1]:
        path.unlink()


def outline(build: Callable[[], Tree]) -> Tree:
    """Return what a function builds with shapes in place of arrays: what :func:`load` takes.

    To find shapes alone takes no time. But a function in the tree may hold arrays of its own, as
    those of flowjax's autoregressive flows do. No checkpoint has them, so then all is built.

    Args:
        build: A function of nothing, without side effects.
    """
    like = eqx.filter_eval_shape(build)
    return build() if _holds_tracers(like) else like


def _holds_tracers(tree: object) -> bool:
    """Whether some function in a tree holds an array whose number was never computed."""
    pending, seen = [tree], set()
    while pending:
        value = pending.pop()
        if isinstance(value, jax.core.Tracer):
            return True
        if id(value) not in seen:
            seen.add(id(value))
            pending += _held_by(value)
    return False


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, type | types.ModuleType):
        return ()
    held: list[Any] = list(getattr(value, "__dict__", {}).values())
    if isinstance(value, types.FunctionType):
        held += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        held += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    elif isinstance(value, types.MethodType):
        held += [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        held += [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        held += value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        held += value
    return held


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def load(path: Path, like: Tree, *, cure: str = "delete it to go on from the one before") -> Tree:
    """Read a checkpoint into a pytree of the same structure.

    Args:
        path: A file that :func:`save` wrote.
        like: A pytree with arrays, or their shapes (``jax.ShapeDtypeStruct``), in every place.
            It may be a part of what was saved, under the same paths.
        cure: What to do about a damaged file.

    Returns:
        The pytree with its arrays replaced.

    Raises:
        UserError: The file is missing or cut short, or holds another network's arrays.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such checkpoint")
    check_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            known = set(file.keys())
            wanted = _array_paths(like)
            missing = [name for name, _ in wanted if name not in known]
            if missing:
                raise UserError(f"{path}: no array {missing[0]!r}: the checkpoint of another agent")
            arrays = [file.get_tensor(name) for name, _ in wanted]
            digests = _digests(file.metadata() or {})
    except UserError:
        raise
    except Exception as error:  # The library raises what it likes at what nothing ever wrote.
        raise UserError(f"{path}: not a whole checkpoint ({one_line(error)}); {cure}") from error
    for i, ((name, leaf), array) in enumerate(zip(wanted, arrays, strict=True)):
        if digests.get(name) not in (None, _digest(array)):
            raise UserError(f"{path}: damaged: array {name!r} is not what was written; {cure}")
        if array.dtype == np.float16 and leaf.dtype == np.float32:
            array = arrays[i] = array.astype(np.float32)  # stored in half precision
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise UserError(
                f"{path}: array {name!r} is {array.dtype}{list(array.shape)}, but this "
                f"configuration needs {leaf.dtype}{list(leaf.shape)}"
            )
    leaves = iter(arrays)
    return jax.tree.map(lambda leaf: jnp.asarray(next(leaves)) if _is_array(leaf) else leaf, like)


def steps_in(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by their step, the latest last."""
    found = ((NAME.fullmatch(path.name), path) for path in folder.glob("*.safetensors"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def path_of(folder: Path, step: int) -> Path:
    """Return the path of a folder's checkpoint at a step."""
    return folder / f"step-{step:08d}.safetensors"


def _digest(array: np.ndarray) -> str:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)  # also of bfloat16
    return hashlib.blake2b(content.data, digest_size=8).hexdigest()


def _digests(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return each array's digest; none of a file of before there were any."""
    if ABOUT not in metadata:
        return {}
    return dict(json.loads(metadata[ABOUT])["digests"])


def _is_array(leaf: object) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, (np.ndarray, jax.ShapeDtypeStruct))


def _array_paths(tree: object) -> list[tuple[str, jax.Array]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves if _is_array(leaf)]


def _arrays(tree: object) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf, order="C") for name, leaf in _array_paths(tree)}
