"""The unfinished part of a data set: shards of finished episodes, kept until all are there.

``PATH.parts/`` holds ``plan.json``, which says what is being made, and a ``train-00012.npz`` or
``val-00003.npz`` per shard. A shard appears complete or not at all, and depends on nothing but the
plan and its number; so whatever is there after a kill can be used, and nothing else need be redone.
"""

import contextlib
import dataclasses
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import nfrl
from nfrl import registry
from nfrl.collect.expert_policy import find_expert
from nfrl.collect.recipe import REVISION, Recipe
from nfrl.data.formats import ogbench
from nfrl.environments.episode import Episode
from nfrl.errors import UserError
from nfrl.files import held as hold
from nfrl.files import write_atomically, write_json

# Rows in a shard, roughly: a few seconds of one worker's time, lost at most when it is killed.
SHARD_ROWS = 2002


@dataclasses.dataclass(frozen=True)
class Shard:
    """A run of consecutive episodes of one split."""

    split: str
    index: int
    episodes: range

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.split}-{self.index:05d}.npz"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be made, and where.

    Attributes:
        recipe: The data set.
        path: The training file; the validation file stands beside it.
        episodes: Training episodes; validation has a tenth, at least one.
        steps: Rows per episode; at most so many, where episodes end by themselves.
        seed: What the data depend on, besides the above.
    """

    recipe: Recipe
    path: Path
    episodes: int
    steps: int
    seed: int

    @property
    def folder(self) -> Path:
        """Where the shards are kept."""
        return self.path.with_name(f"{self.path.name}.parts")

    def target(self, split: str) -> Path:
        """The finished file of a split."""
        return self.path if split == "train" else ogbench.validation_path(self.path)

    def count(self, split: str) -> int:
        """Episodes in a split."""
        return self.episodes if split == "train" else max(1, self.episodes // 10)

    def shards(self, split: str) -> list[Shard]:
        """Divide a split's episodes, in an order and a manner that hang on the steps alone."""
        size, count = max(1, SHARD_ROWS // self.steps), self.count(split)
        return [
            Shard(split, index, range(first, min(first + size, count)))
            for index, first in enumerate(range(0, count, size))
        ]

    def identity(self) -> dict[str, Any]:
        """What a file made by this plan is: its provenance says the same, or it is another."""
        return {
            "name": self.recipe.name,
            "seed": self.seed,
            "steps": self.steps,
            "episodes": self.episodes,
            "revision": REVISION,
            **self._experts(),
        }

    def _experts(self) -> dict[str, Any]:
        """The weights that the data hang on, where they hang on any."""
        names = self.recipe.experts
        return (
            {"experts": {name: ogbench.sha256(find_expert(name)) for name in names}}
            if names
            else {}
        )

    def is_made(self, split: str) -> bool:
        """Whether the finished file of a split is there, and made by such a plan."""
        found = ogbench.provenance(self.target(split)) or {}
        expected = self.identity() | {"split": split, "episodes": self.count(split)}
        return self.target(split).is_file() and found | expected == found


def versions(recipe: Recipe) -> dict[str, str]:
    """The versions of everything that a data set's bytes may depend on.

    Raises:
        UserError: One of them is not installed.
    """
    packages = (*recipe.packages, "gymnasium", "numpy")
    try:
        found = {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise UserError(
            f"making {recipe.name} needs {error.name}: pip install {error.name} (for the data sets "
            "that nfrl brings: pip install 'nfrl[imitation]')"
        ) from error
    return {"nfrl": nfrl.__version__} | found


def is_begun(plan: Plan) -> bool:
    """Whether there are parts that this very plan can go on from."""
    return _read_json(plan.folder / "plan.json") == _begun(plan)


@contextlib.contextmanager
def held(plan: Plan, *, force: bool) -> Iterator[None]:
    """Hold the folder of parts, alone, and make it the plan's.

    Args:
        plan: What is to be made.
        force: Throw away parts of another plan.

    Raises:
        UserError: The parts are of another plan, or another process is at work on them.
    """
    with hold(plan.folder, f"another process is making {plan.folder}; wait for it"):
        found = _read_json(plan.folder / "plan.json")
        if found is not None and found != _begun(plan):
            if not force:
                raise UserError(
                    f"{plan.folder} holds parts of {_difference(found, _begun(plan))}; use --force "
                    "to throw them away, or another path"
                )
            for part in plan.folder.glob("*.npz"):
                part.unlink()
        write_json(plan.folder / "plan.json", _begun(plan))
        yield


def missing(plan: Plan, splits: list[str]) -> list[Shard]:
    """List the shards that are still to be collected; damaged ones are among them."""
    shards = [shard for split in splits for shard in plan.shards(split)]
    return [shard for shard in shards if not _is_sound(plan.folder / shard.name)]


def write_shard(path: Path, episodes: list[Episode]) -> None:
    """Write a shard, atomically."""
    arrays = {key: np.concatenate([each[key] for each in episodes]) for key in episodes[0]}
    # mypy cannot know that no key is called allow_pickle.
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def merge(plan: Plan, split: str) -> None:
    """Join a split's shards into its file, holding one array of one shard at a time.

    The bytes are those that ``np.savez`` would write for the whole. The provenance is written
    after the file, so that a file with provenance is a finished one.
    """
    shards = [plan.folder / shard.name for shard in plan.shards(split)]
    rows = sum(_rows(shard) for shard in shards)
    target = plan.target(split)
    # While the new file takes the old one's place, the old one's description must not stand.
    ogbench.provenance_path(target).unlink(missing_ok=True)
    write_atomically(target, lambda file: _join(file, shards, rows))
    write_json(
        ogbench.provenance_path(target),
        {
            "origin": "made by nfrl",
            **plan.identity(),
            "split": split,
            "episodes": plan.count(split),
            "transitions": rows - plan.count(split),
            "environment": plan.recipe.environment,
            **_description(plan.recipe, target),
            "versions": versions(plan.recipe),
            "sha256": ogbench.sha256(target),
        },
    )


def remove(plan: Plan) -> None:
    """Remove the parts, once everything is merged."""
    shutil.rmtree(plan.folder, ignore_errors=True)


def _join(file: BinaryIO, shards: list[Path], rows: int) -> None:
    with np.load(shards[0]) as first:
        layout = {key: (first[key].dtype, first[key].shape[1:]) for key in first.files}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for key, (dtype, shape) in layout.items():
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (rows, *shape),
            }
            # Opened by name, a member has no date of its own: the bytes are the same every time.
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for shard in shards:
                    with np.load(shard) as arrays:
                        member.write(np.ascontiguousarray(arrays[key]).data.cast("B"))


def _description(recipe: Recipe, target: Path) -> dict[str, Any]:
    if recipe.describe is None:
        return {}
    with np.load(target) as arrays:
        return {"modes": registry.load_reference(recipe.describe)(arrays)}


def _rows(shard: Path) -> int:
    with np.load(shard) as arrays:
        return len(arrays["terminals"])


def _begun(plan: Plan) -> dict[str, Any]:
    return plan.identity() | {"versions": versions(plan.recipe)}


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    parts = [
        f"{key} {found.get(key)} instead of {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    return f"another data set ({'; '.join(parts)})"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _is_sound(path: Path) -> bool:
    """Whether a shard is there and its checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False
