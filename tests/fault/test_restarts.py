"""Replicas that are restarted one after another while they are asked: no call is lost."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serving.client import Client
from serving.errors import ServingError
from serving.server import FAILED
from serving.service_config import SERVICE_CONFIG
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import LEAST
from tests.serving.process import SERVE, engines_of, planted, serving, wait_until

CALLERS = 8
ESTABLISHED = "01"
"""The state in /proc/net/tcp of a connection that is open at both ends."""


class Callers:
    """Threads that ask all replicas in turn, as the client does it that we ship.

    Args:
        target: the replicas.
        is_shared: whether all threads have one connection, whose retries are throttled together.

    Attributes:
        calls: how many have ended.
        lost: how many of them failed, by their error.
    """

    def __init__(self, target: str, is_shared: bool = False) -> None:
        self.calls = 0
        self.lost: Counter[str] = Counter()
        self._target = target
        self._is_shared = is_shared
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def _call(self, client: Client) -> None:
        while not self._stop.is_set():
            try:
                found = len(client.generate(n=1, model="names").samples)
                error = "" if found == 1 else "no sample"
            except ServingError as failure:
                error = repr(failure)
            with self._lock:
                self.calls += 1
                self.lost.update([error] if error else [])

    @contextmanager
    def asking(self) -> Iterator[None]:
        with ExitStack() as stack:
            count = 1 if self._is_shared else CALLERS
            clients = [stack.enter_context(Client(self._target, timeout=10)) for _ in range(count)]
            stack.enter_context(self._asking(clients * (CALLERS // count)))
            yield

    @contextmanager
    def _asking(self, clients: list[Client]) -> Iterator[None]:
        threads = [threading.Thread(target=self._call, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


class Replica:
    """A server on a port of its own that can be restarted."""

    def __init__(self, *flags: str, command: Sequence[str] = SERVE) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._flags = flags
        self._command = command
        self._life = ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Until it serves."""
        flags = ("--listen", self.address, *self._flags)
        self._process, _ = self._life.enter_context(
            serving(COMMITTED, *flags, command=self._command)
        )

    def stop(self) -> None:
        """Softly; it ends by itself."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0
        self._life.close()

    def is_connected(self) -> bool:
        """Whether the callers, which share their connections, have one to it."""
        here = f":{int(self.address.rpartition(':')[2]):04X}"
        tables = "".join(Path(f"/proc/net/{table}").read_text() for table in ("tcp", "tcp6"))
        rows = map(str.split, tables.splitlines())
        return any(row[1].endswith(here) and row[3] == ESTABLISHED for row in rows)

    def lose_engines(self) -> None:
        """As when memory runs out; it ends by itself."""
        assert self._process is not None
        os.kill(engines_of(self._process.pid), signal.SIGKILL)
        assert self._process.wait(30) == FAILED
        self._life.close()

    def kill(self) -> None:
        """At once."""
        self._life.close()


def restart(
    times: int,
    *flags: str,
    command: Sequence[str] = SERVE,
    end: Callable[[Replica], None] = Replica.stop,
    is_shared: bool = False,
) -> tuple[Callers, float]:
    """Restart two replicas in turn under load; the callers, and calls a second before."""
    replicas = [Replica(*flags, command=command) for _ in range(2)]
    callers = Callers("ipv4:" + ",".join(replica.address for replica in replicas), is_shared)
    with ExitStack() as stack:
        for replica in replicas:
            replica.start()
            stack.callback(replica.kill)
        stack.enter_context(callers.asking())
        time.sleep(1)
        before, begun = callers.calls, time.monotonic()
        time.sleep(2)
        rate = (callers.calls - before) / (time.monotonic() - begun)
        for number in range(times):
            end(replicas[number % 2])
            replicas[number % 2].start()
            wait_until(replicas[number % 2].is_connected)
    return callers, rate


def test_no_call_is_lost_when_replicas_are_restarted() -> None:
    callers, _ = restart(2)
    assert callers.lost == {}
    assert callers.calls > 50


@pytest.mark.parametrize("is_shared", [False, True])
def test_no_call_is_lost_when_a_process_of_engines_is_killed(is_shared: bool) -> None:
    callers, _ = restart(2, end=Replica.lose_engines, is_shared=is_shared)
    assert callers.lost == {}
    assert callers.calls > 50


@pytest.mark.fault
def test_calls_that_are_blamed_for_the_end_of_a_process_are_found() -> None:
    callers, _ = restart(6, command=planted("blaming", "serve"), end=Replica.lose_engines)
    assert any("the model failed" in error for error in callers.lost)


@pytest.mark.fault
def test_a_client_that_knows_nothing_of_health_and_retries_loses_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The detector's control: the same restarts are noticed where nothing is done about them."""
    for key in ("healthCheckConfig", "methodConfig"):
        monkeypatch.delitem(SERVICE_CONFIG, key)
    callers, _ = restart(4, "--lame-duck", "0", "--grace", "0")
    assert callers.lost


@pytest.mark.fault
def test_20_rolling_restarts_of_two_replicas_lose_no_call() -> None:
    callers, rate = restart(20)
    if rate < LEAST:
        pytest.fail(f"void: {rate:.0f} calls a second before the fault, not {LEAST}")
    assert callers.lost == {}
    assert callers.calls >= 10_000
    record(
        "restarts",
        calls_a_second_before=round(rate),
        restarts=20,
        calls=callers.calls,
        lost=callers.lost.total(),
    )


@pytest.mark.fault
def test_20_processes_of_engines_that_are_killed_lose_no_call() -> None:
    callers, rate = restart(20, end=Replica.lose_engines, is_shared=True)
    if rate < LEAST:
        pytest.fail(f"void: {rate:.0f} calls a second before the fault, not {LEAST}")
    assert callers.lost == {}
    assert callers.calls >= 10_000
    record(
        "engines_killed",
        calls_a_second_before=round(rate),
        kills=20,
        calls=callers.calls,
        lost=callers.lost.total(),
    )
