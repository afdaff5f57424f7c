"""Compiles the engine's innermost loops as the package is built, if there is a C compiler."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "serving/engine/*.c"
MADE = "serving/engine/kernels.compiled"
# No contraction: a fused multiply-add would give other bits than numpy.
FLAGS = (
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
)


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """A wheel with them is for the platform that they were compiled on, any other for all."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See BuildHookInterface; `version` says whether the wheel is an editable one."""
        sources = sorted(Path(self.root).glob(SOURCES))
        try:
            compile_kernels(sources, Path(self.root, MADE))
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"the loops in C are not compiled, numpy will do: {error}")
            return
        build_data["artifacts"].append(MADE)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_kernels(sources: Sequence[Path], made: Path) -> None:
    """Compile source files, which the library then knows by their digest.

    Raises:
        OSError: there is no compiler.
        subprocess.CalledProcessError: it has failed.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or "gcc"]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    beside = made.with_name(f"{made.name}.{os.getpid()}")  # a server may have the old one open
    flags = [*FLAGS, f'-DSOURCE_DIGEST="{digest}"']
    command = [*compiler, *flags, "-o", str(beside), *map(str, sources), "-lm"]
    try:
        subprocess.run(command, check=True)
        beside.replace(made)
    finally:
        beside.unlink(missing_ok=True)
