"""``nfrl export RUN``: write a policy for programs without nfrl."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from nfrl.experiment.load import load_policy
from nfrl.sharing.address import is_address


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write a policy as files that other programs run: ONNX, StableHLO, or NumPy alone.

    The folder gets the policy's functions, a README of what goes in and comes out, and
    exported_policy.py, which acts from them without nfrl and without JAX. Before that, the files
    are read back and compared with the agent on random inputs.
    """

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, that of a saved policy, or hf:user/name on the Hugging Face hub."""
    to: str = "onnx"
    """The format: onnx, stablehlo or numpy, or one that an installed package announces."""
    output: Path | None = None
    """The folder to write; by default RUN/export-FORMAT, or export-FORMAT for one on the hub."""
    step: int | None = None
    """The checkpoint's step, of a run; by default the latest."""


def run(arguments: Sequence[str]) -> None:
    """Parse the words after ``nfrl export`` and do it."""
    options = tyro.cli(ExportOptions, args=list(arguments), prog="nfrl export")
    policy = load_policy(options.run, step=options.step)
    place = Path() if is_address(options.run) else Path(options.run).expanduser()
    output = options.output or place / f"export-{options.to}"
    differences = policy.export(output, to=options.to)
    size = sum(each.stat().st_size for each in output.rglob("*") if each.is_file())
    print(f"{output}: {', '.join(differences) or 'written'} ({size / 1e6:.1f} MB)")
    for name, difference in differences.items():
        print(
            f"  {name}: the largest difference from the agent on random inputs is {difference:.2g}"
        )
    print(f"  {output / 'README.md'} says how to use it")
