"""Compiles the engine's innermost loops as the package is built, if there is a C compiler."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE, MADE = "serving/engine/kernels.c", "serving/engine/kernels.compiled"
# No contraction: a fused multiply-add would give other bits than numpy.
FLAGS = ("-O2", "-std=c99", "-Wall", "-Wextra", "-ffp-contract=off", "-fPIC", "-shared")


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """A wheel with them is for the platform that they were compiled on, any other for all."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See BuildHookInterface; `version` says whether the wheel is an editable one."""
        source, made = Path(self.root, SOURCE), Path(self.root, MADE)
        try:
            compile_kernels(source, made)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"{SOURCE} is not compiled, numpy will do: {error}")
            return
        build_data["artifacts"].append(MADE)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_kernels(source: Path, made: Path) -> None:
    """Compile a source file, which the library then knows by its digest.

    Raises:
        OSError: there is no compiler.
        subprocess.CalledProcessError: it has failed.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or "gcc"]
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    beside = made.with_name(f"{made.name}.{os.getpid()}")  # a server may have the old one open
    command = [*compiler, *FLAGS, f'-DSOURCE_DIGEST="{digest}"', "-o", beside, source, "-lm"]
    try:
        subprocess.run(command, check=True)
        beside.replace(made)
    finally:
        beside.unlink(missing_ok=True)
