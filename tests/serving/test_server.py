"""A server as a process: it starts, tells where, drains, and says what it cannot do."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.client import Client
from serving.config import ServerConfig
from serving.errors import InvalidArgument, NotFound, Unavailable
from serving.testing import running
from tests.conftest import COMMITTED

SERVE = [sys.executable, "-m", "serving", "serve"]


@contextmanager
def serving(repository: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process and its address."""
    command = [*SERVE, "--repository", str(repository), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r" on (\S+:\d+)$", process.stdout.readline().strip())
            assert found is not None
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_under_way_finish_and_ends_with_status_0(number: int) -> None:
    with serving(COMMITTED) as (process, address):
        with Client(address) as client, ThreadPoolExecutor(1) as pool:
            client.generate()
            call = pool.submit(client.generate, n=1000)
            time.sleep(0.02)
            process.send_signal(number)
            assert len(call.result(30).samples) == 1000
        assert process.wait(30) == 0


def test_two_servers_do_not_share_a_port(repository: Path) -> None:
    with (
        running(ServerConfig(repository, "127.0.0.1:0")) as server,
        pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{server.port}"),
        running(ServerConfig(repository, f"127.0.0.1:{server.port}")),
    ):
        pass


def test_a_server_without_a_model_does_not_start(tmp_path: Path) -> None:
    before = threading.active_count()
    with (
        pytest.raises(NotFound, match="has no model that can be served"),
        running(ServerConfig(tmp_path, "127.0.0.1:0")),
    ):
        pass
    assert threading.active_count() <= before


def test_the_command_names_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        in_use = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments, reason in (
            (["--repository", str(tmp_path / "missing")], "missing is no folder of models"),
            (["--repository", str(COMMITTED), "--listen", in_use], "the port is in use"),
            (["--listen", "nowhere"], "'nowhere' is not host:port"),
        ):
            done = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, timeout=60)
            assert done.returncode in (1, 2)
            assert reason in done.stderr.splitlines()[-1]
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:65536"),
        ("listen", ":50051"),
        ("max_rows", 1),
        ("threads", 0),
        ("grace", -1.0),
    ],
)
def test_a_configuration_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ServerConfig(Path(), **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
