"""Several processes on one port, as an operator has them."""

import errno
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import PIPE

import pytest

from serving.addresses import joined
from serving.client import Client
from serving.config import ServerConfig
from serving.errors import InvalidArgument, Unavailable
from serving.server import AT_ONCE
from serving.workers import serve
from tests.conftest import COMMITTED
from tests.serving.observe.asking import page
from tests.serving.process import SERVE, WORKER, children, serving, wait_until
from tests.serving.test_listening import needs_ipv6


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    """The workers; Python's own tracker of resources is a child, too."""
    return children(process.pid, WORKER)


def test_both_answer_and_calls_under_way_finish_at_the_end() -> None:
    with serving(COMMITTED, "--workers", "2") as (process, address):
        assert len(workers_of(process)) == 2
        clients = [Client(address) for _ in range(8)]  # a connection each
        with ThreadPoolExecutor(8) as pool:
            first = [pool.submit(c.generate, n=5, seed=1) for c in clients]
            assert len({tuple(s.text for s in f.result(30).samples) for f in first}) == 1
            calls = [pool.submit(c.generate, n=1000) for c in clients]
            time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert all(len(call.result(30).samples) == 1000 for call in calls)
        for client in clients:
            client.close()
        assert process.wait(30) == 0


def test_when_one_dies_all_end_and_the_status_tells() -> None:
    with serving(COMMITTED, "--workers", "2") as (process, _):
        workers = workers_of(process)
        os.kill(workers[0], signal.SIGKILL)
        assert process.wait(30) != 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_do_not_outlive_a_parent_that_was_killed() -> None:
    with serving(COMMITTED, "--workers", "2") as (process, _):
        workers = workers_of(process)
        process.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_that_another_program_has_is_named(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*SERVE, "--listen", f"localhost:{port}", "--workers", workers],
            capture_output=True,
            text=True,
            timeout=100,
        )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: cannot listen on localhost:{port}: 127.0.0.1:{port}: ")
    assert (done.returncode, done.stdout) == (1, "")


def test_both_are_reached_at_every_address_of_the_host() -> None:
    needs_ipv6()
    with serving(COMMITTED, "--workers", "2", listen="localhost:0") as (_, address):
        port = address.rpartition(":")[2]
        for host in ("127.0.0.1", "::1"):
            with Client(joined(host, int(port))) as client:
                assert client.generate().samples


def test_a_process_that_cannot_be_started_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[BaseProcess] = []
    start = SpawnProcess.start

    def start_one(self: SpawnProcess) -> None:
        if started:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        start(self)
        started.append(self)

    monkeypatch.setattr(SpawnProcess, "start", start_one)
    before = signal.getsignal(signal.SIGHUP)
    try:
        with pytest.raises(Unavailable, match=r"^cannot start 2 workers: Resource temporarily"):
            serve(ServerConfig(COMMITTED, "127.0.0.1:0"), 2, lambda names, address: None)
    finally:
        signal.signal(signal.SIGHUP, before)
    started[0].join(60)
    assert started[0].exitcode is not None


def test_a_unix_socket_is_for_one_process(tmp_path: Path) -> None:
    config = ServerConfig(COMMITTED, f"unix:{tmp_path}/socket")
    with pytest.raises(InvalidArgument, match="workers: must be 1 with a Unix socket"):
        serve(config, 2, lambda names, address: None)


def test_each_of_them_tells_its_own_metrics() -> None:
    flags = ["--repository", str(COMMITTED), "--listen", "127.0.0.1:0", "--workers", "2"]
    command = [*SERVE, *flags, "--metrics-listen", "127.0.0.1:0"]
    with (
        subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        assert " on 127.0.0.1:" in process.stdout.readline()
        told = [process.stderr.readline() for _ in range(2)]
        found = [re.search(r"metrics on http://(\S+)/metrics pid=(\d+)", line) for line in told]
        assert all(found)
        assert len({match.groups() for match in found if match}) == 2
        assert [page(match[1], "/readyz")[0] for match in found if match] == [200, 200]


def test_a_signal_to_all_of_them_at_once_is_one_to_stop(tmp_path: Path) -> None:
    """As whoever stops a service sends it; each worker has it twice then, its parent passing it on."""
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        serving(COMMITTED, "--workers", "2", stderr=stderr) as (process, address),
        Client(address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(lambda: sum(len(part.samples) for part in client.stream(n=10_000)))
        time.sleep(0.2)
        for pid in (*workers_of(process), process.pid, *workers_of(process)):
            os.kill(pid, signal.SIGTERM)
        assert call.result(30) == 10_000
        assert process.wait(30) == 0
    assert "at once" not in log.read_text()


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ("--workers", "2", "--lame-duck", "60")
    with log.open("w") as stderr, serving(COMMITTED, *flags, stderr=stderr) as (process, _):
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == AT_ONCE
