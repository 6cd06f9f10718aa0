"""Do data depend on the processor?  python scripts/same_bytes.py cube-single-play-v0 pusht

Makes three episodes of each data set as on other processors: without the fused products of the C
library's functions, with NumPy's plain loops, and with the products of an older processor in BLAS.
Prints a part of each file's hash.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROCESSORS = {
    "this one": {},
    "libm without FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"},
    "NumPy's plain loops": {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX"},
    "BLAS of Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        for processor, variables in PROCESSORS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "data.npz"
                command = ["nfrl", "data", "make", name, "--path", str(path)]
                subprocess.run(
                    [*command, "--episodes", "3", "--workers", "1"],
                    env=os.environ | variables,
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{name}, {processor}: {digest[:12]}")
