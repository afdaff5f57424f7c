"""`makemore serve` as a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVE = [sys.executable, "-m", "serving", "serve"]


@contextmanager
def serving(
    repository: Path, *flags: str, command: Sequence[str] = SERVE
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process and its address."""
    command = [*command, "--repository", str(repository), "--listen", "127.0.0.1:0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r" on (\S+:\d+)$", process.stdout.readline().strip())
            assert found is not None
            yield process, found[1]
        finally:
            process.kill()
