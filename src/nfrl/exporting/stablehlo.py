"""StableHLO: JAX's own portable format, for JAX, IREE and XLA's other front ends."""

from pathlib import Path

import jax
import jax.export

from nfrl.exporting.functions import Function
from nfrl.files import write_bytes

PLATFORMS = ("cpu", "cuda")
"""What each file is compiled for when it is loaded."""


class StableHLO:
    """Writes NAME.stablehlo for each function: what ``jax.export.deserialize`` reads."""

    describes = (
        "One StableHLO file for each function, serialised by jax.export, for CPUs and for CUDA. "
        "jax.export.deserialize reads it."
    )

    def write(self, functions: dict[str, Function], folder: Path) -> None:
        """Write the files; see :class:`nfrl.exporting.exporter.Exporter`."""
        import flatbuffers  # noqa: F401  (what jax.export serialises with)

        for name, function in functions.items():
            shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in function.inputs]
            exported = jax.export.export(jax.jit(function.call), platforms=PLATFORMS)(*shapes)
            content = bytes(exported.serialize())
            write_bytes(folder / f"{name}.stablehlo", content)


EXPORTER = StableHLO()
