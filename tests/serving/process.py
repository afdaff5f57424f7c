"""`makemore serve` as a process of its own."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SERVE = [sys.executable, "-m", "serving", "serve"]
RELOADING = ("--reload-interval", "0.05")


def planted(bug: str, *command: str) -> list[str]:
    """The program with a bug in it; see tests.fault.planted."""
    return [sys.executable, "-m", "tests.fault.planted", bug, *command]


@contextmanager
def serving(
    repository: Path,
    *flags: str,
    command: Sequence[str] = SERVE,
    stderr: IO[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process and its address."""
    command = [*command, "--repository", str(repository), "--listen", "127.0.0.1:0", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r" on (\S+:\d+)$", process.stdout.readline().strip())
            assert found is not None
            yield process, found[1]
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until it holds, for as long as a busy machine may need."""
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.01)
