"""A server that is signalled before it has begun, and outputs that nobody reads."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.startup import make_nonblocking
from tests.conftest import COMMITTED
from tests.serving.process import SERVE, WORKER, children, wait_until

SIGNALLED = """
import os, signal, sys
from serving.__main__ import main

class Signalling:
    def find_spec(self, name, *where):
        if name == module:
            os.kill(os.getpid(), number)
            print("goes on", flush=True)

module, number = sys.argv[1], int(sys.argv[2])
sys.argv[1:] = ["serve", "--repository", "nowhere"]
sys.meta_path.insert(0, Signalling())
main()
"""
"""Has a signal come in the middle of an import."""


@pytest.mark.parametrize("module", ["click", "grpc", "numpy"])
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGTERM, 0, ""), (signal.SIGINT, 0, ""), (signal.SIGHUP, 2, "goes on\n")],
)
def test_a_signal_while_a_server_is_imported_ends_it_well_or_is_ignored(
    module: str, number: int, status: int, said: str
) -> None:
    command = [sys.executable, "-c", SIGNALLED, module, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (status, said)
    assert "Traceback" not in done.stderr
    assert ("nowhere is no folder of models" in done.stderr) == (number == signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_that_are_signalled_while_they_are_imported_end_well(number: int) -> None:
    """By a terminal, which signals all of them."""
    flags = ["--repository", str(COMMITTED), "--listen", "127.0.0.1:0", "--workers", "2"]
    with subprocess.Popen(
        [*SERVE, *flags], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until(lambda: bool(children(process.pid, WORKER)))
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in told


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    """Where descriptors are collected that are closed at the end."""
    found: list[int] = []
    yield found
    for descriptor in found:
        os.close(descriptor)


def fill(descriptor: int) -> None:
    """Write and write."""
    while os.write(descriptor, b"x" * 4096):
        pass


def test_a_full_pipe_is_not_waited_for_but_by_those_who_share_it(descriptors: list[int]) -> None:
    ours, theirs = os.pipe()
    shared = os.dup(theirs)
    descriptors += [ours, theirs, shared]
    make_nonblocking(theirs)
    with pytest.raises(BlockingIOError):
        fill(theirs)
    assert os.get_blocking(shared)


def test_a_full_socket_is_not_waited_for() -> None:
    """As systemd gives it to services."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        make_nonblocking(theirs.fileno())
        with pytest.raises(BlockingIOError):
            fill(theirs.fileno())


def test_a_file_stays_as_it_was_opened(tmp_path: Path) -> None:
    """Two outputs that are one file go on at one place in it."""
    with (tmp_path / "log").open("wb", buffering=0) as file:
        other = os.dup(file.fileno())
        make_nonblocking(other)
        os.write(other, b"one")
        file.write(b"two")
        os.close(other)
    assert (tmp_path / "log").read_bytes() == b"onetwo"


def test_a_terminal_stays_as_it_is_for_others(descriptors: list[int]) -> None:
    ours, theirs = os.openpty()
    shared = os.dup(theirs)
    descriptors += [ours, theirs, shared]
    make_nonblocking(theirs)
    assert stat.S_ISCHR(os.fstat(theirs).st_mode)
    assert (os.get_blocking(theirs), os.get_blocking(shared)) == (False, True)


def test_an_output_that_is_closed_stays_so(descriptors: list[int]) -> None:
    ours, theirs = os.pipe()
    os.close(theirs)
    descriptors.append(ours)
    make_nonblocking(theirs)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(theirs)
