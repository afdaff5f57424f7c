"""The environment variables of the subprocesses that a server starts."""

import os
import sys
from typing import Final

NAMES: Final = {
    *("PATH", "LANG", "TZ", "HOME", "TMPDIR", "XDG_CACHE_HOME", "SYSTEMROOT"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES"),
}
PREFIXES: Final = (
    *("LC_", "PYTHON", "MALLOC_"),
    *("ORT_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "NPY_"),
    *("CUDA_", "NVIDIA_"),
)
"""Prefixes of the variables that the interpreter, the C library, onnxruntime, numpy and CUDA read."""


def child_environment() -> dict[str, str]:
    """Return the variables that a subprocess for models needs and no others, which may hold secrets.

    PYTHONPATH is the module search path of this process.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in NAMES or name.startswith(PREFIXES)
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
