"""`makemore health`: its exit status is all that a container's health check sees."""

import socket
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from serving.api.health import NOT_SERVING
from serving.cli import main
from serving.config import ServerConfig
from serving.testing import running
from tests.conftest import COMMITTED


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The committed model's server."""
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("service", ["", "models/names", "makemore.v1.GenerationService"])
def test_a_server_that_serves_is_status_0(address: str, service: str) -> None:
    result = CliRunner().invoke(main, ["health", "--address", address, "--service", service])
    assert (result.exit_code, result.output) == (0, "SERVING\n")


def test_a_server_that_drains_is_status_1() -> None:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        server._health.set("", NOT_SERVING)
        result = CliRunner().invoke(main, ["health", "--address", f"127.0.0.1:{server.port}"])
    assert (result.exit_code, result.output) == (1, "NOT_SERVING\n")


def test_a_service_that_the_server_does_not_know_is_status_1(address: str) -> None:
    result = CliRunner().invoke(main, ["health", "--address", address, "--service", "models/x"])
    assert result.exit_code == 1
    assert "does not know 'models/x'" in result.output


def test_no_server_is_status_1() -> None:
    result = CliRunner().invoke(main, ["health", "--address", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no server answers at 127.0.0.1:1" in result.output


def test_a_server_that_hangs_is_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(main, ["health", "--address", address, "--timeout", "0.2"])
    assert result.exit_code == 1
