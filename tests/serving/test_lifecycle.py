"""The end of a server that was told to stop comes, whatever hangs."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving.client import Client
from serving.server import AT_ONCE, FAILED
from tests.conftest import COMMITTED
from tests.serving.certificates import Authority
from tests.serving.graphs import manifest, model_bytes, publish
from tests.serving.process import (
    SERVE,
    WORKER,
    children,
    engines_of,
    halt,
    is_running,
    serving,
    wait_until,
)

NO_GRACE = ("--lame-duck", "0", "--grace", "0")

BLOCKED = """
import asyncio, sys, threading
from pathlib import Path
from serving import server
from serving.config import ServerConfig

def announce(made):
    print("serving", flush=True)
    threading.Event().wait()

server.LAST_SECONDS = float(sys.argv[2])
config = ServerConfig(Path(sys.argv[1]), "127.0.0.1:0", lame_duck=0, grace=0)
asyncio.run(server.run_and_leave(config, announce))
"""
"""A server whose event loop is blocked from the moment on when it serves."""


@pytest.mark.parametrize(
    ("signals", "seconds", "status"),
    [
        ([signal.SIGTERM], 0.1, FAILED),
        ([signal.SIGHUP, signal.SIGINT], 0.1, FAILED),
        ([signal.SIGTERM, signal.SIGINT], 1000, AT_ONCE),
    ],
)
def test_an_event_loop_that_is_blocked_holds_up_no_signal(
    signals: list[int], seconds: float, status: int
) -> None:
    command = [sys.executable, "-c", BLOCKED, str(COMMITTED), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
            for number in signals:
                process.send_signal(number)
            assert process.wait(60) == status
        finally:
            process.kill()


def test_a_process_of_engines_that_is_stopped_does_not_hold_up_the_end() -> None:
    with serving(COMMITTED, *NO_GRACE, "--watchdog", "0") as (process, _):
        engines = engines_of(process.pid)
        halt(engines)
        process.terminate()
        assert process.wait(60) == FAILED
        wait_until(lambda: not is_running(engines))


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_process_of_engines_ends_with_a_server_that_is_killed(is_stopped: bool) -> None:
    with serving(COMMITTED) as (process, _):
        engines = engines_of(process.pid)
        if is_stopped:
            halt(engines)
        process.kill()
        wait_until(lambda: not is_running(engines))


def test_a_worker_that_is_stopped_does_not_hold_up_the_end() -> None:
    with serving(COMMITTED, *NO_GRACE, "--workers", "2") as (process, _):
        workers = children(process.pid, WORKER)
        halt(workers[0])
        process.terminate()
        assert process.wait(60) == FAILED
        wait_until(lambda: not any(map(is_running, workers)))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A repository that takes a while to load."""
    for number in range(40):
        publish(tmp_path, model_bytes(manifest(f"m{number}")), f"m{number}")
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "flags",
    [
        ("--engines", "process"),
        ("--engines", "thread"),
        ("--workers", "2", "--engines", "process"),
    ],
)
def test_a_server_that_is_stopped_while_models_load_ends_without_a_traceback(
    many: Path, flags: tuple[str, ...], number: int
) -> None:
    command = [*SERVE, "--repository", str(many), "--listen", "127.0.0.1:0", *flags]
    command += ["--metrics-listen", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        assert "metrics on" in told  # before the models are loaded
        process.send_signal(number)
        told += process.stderr.read()
        assert process.wait(60) == 0
    assert "stopping: calls under way" in told
    assert "Traceback" not in told


def test_a_signal_to_reload_while_models_load_does_no_harm_and_is_obeyed(many: Path) -> None:
    flags = ["--reload-interval", "0", "--metrics-listen", "127.0.0.1:0"]
    command = [*SERVE, "--repository", str(many), "--listen", "127.0.0.1:0", *flags]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        assert "metrics on" in process.stderr.readline()
        publish(many, model_bytes(manifest("a")), "a")  # whose name was passed already
        process.send_signal(signal.SIGHUP)
        line = process.stdout.readline()
        assert " on 127.0.0.1:" in line
        with Client(line.split()[-1]) as client:
            wait_until(lambda: "models/a@1" in [model.name for model in client.list_models()])
        process.terminate()
        assert process.wait(30) == 0


def free_port() -> int:
    """A port that nobody has, nor the next one, probably."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def full() -> Iterator[int]:
    """A pipe that nobody reads and that is soon full."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    yield theirs
    os.close(ours)
    os.close(theirs)


def test_strangers_who_fail_to_connect_with_tls_do_not_stop_a_server_that_nobody_reads(
    full: int, tmp_path: Path
) -> None:
    """The gRPC library logs each of them itself."""
    pair = Authority(tmp_path).issue("localhost")
    flags = ["--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key), *NO_GRACE]
    environment = {**os.environ, "GRPC_VERBOSITY": "INFO"}
    with (
        open(os.dup(full), "w") as stderr,
        serving(COMMITTED, *flags, stderr=stderr, environment=environment) as (process, address),
    ):
        host, port = address.split(":")
        for _ in range(200):
            with socket.create_connection((host, int(port)), timeout=60) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while stranger.recv(4096):  # until the server hangs up
                    pass
        process.terminate()
        assert process.wait(60) == 0
