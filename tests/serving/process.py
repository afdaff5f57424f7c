"""`makemore serve` as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SERVE = [sys.executable, "-m", "serving", "serve"]
ENGINES = ("serving.apart.main", "tests.fault.planted")
WORKER = "spawn_main"
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
    listen: str = "127.0.0.1:0",
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process and its address."""
    command = [*command, "--repository", str(repository), "--listen", listen, *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r" on (\S+:\S+)$", process.stdout.readline().strip())
            assert found is not None
            yield process, found[1]
        finally:
            process.kill()


def children(pid: int, *programs: str) -> list[int]:
    """The processes that a process has started with one of these in their command lines."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in found}
    return [child for child, line in lines.items() if any(name in line for name in programs)]


def engines_of(pid: int) -> int:
    """The process of a server's engines, once it is there."""
    wait_until(lambda: bool(children(pid, *ENGINES)))
    return children(pid, *ENGINES)[0]


def state_of(stat: Path) -> str:
    """The state of a process or thread by its file of /proc; X once it is gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_running(pid: int) -> bool:
    """Whether a process has not ended, waited for or not."""
    return state_of(Path(f"/proc/{pid}/stat")) not in "ZX"


def halt(pid: int) -> None:
    """Stop a process by SIGSTOP, which its threads obey one after another."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    wait_until(lambda: all(state_of(thread / "stat") == "T" for thread in threads.iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until it holds, for as long as a busy machine may need."""
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.01)
