import subprocess
import sys

import pytest

from serving.api.health import NOT_SERVING
from serving.client import Client
from serving.config import ServerConfig
from serving.errors import InvalidArgument, NoServer, ServingError, Unavailable
from serving.testing import running
from tests.conftest import COMMITTED


def test_no_server_is_told_as_such() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(NoServer, match="no server answers at"):
        client.generate()


def test_a_proxy_is_not_asked_for_this_machine(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Client(address) as client:
        assert client.generate().samples


def test_a_server_that_is_there_but_not_serving_is_told_as_such() -> None:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        server._health.set("", NOT_SERVING)
        with (
            Client(f"127.0.0.1:{server.port}", timeout=20) as client,
            pytest.raises(Unavailable, match="is not serving; try again"),
        ):
            client.generate()


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf")])
def test_a_timeout_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout: must be"):
        Client("127.0.0.1:1", timeout)


def test_a_value_that_no_field_can_hold_is_an_invalid_argument() -> None:
    with Client("127.0.0.1:1") as client:
        for asked in ({"n": 2**31}, {"seed": -1}, {"prefix": "\ud800"}):
            with pytest.raises(InvalidArgument):
                client.generate(**asked)


def test_every_error_of_a_call_is_one_of_ours(client: Client) -> None:
    with pytest.raises(ServingError):
        client.generate(model="\n" * 70_000)


def test_the_client_needs_neither_onnxruntime_nor_numpy() -> None:
    program = (
        "import sys, serving.client; "
        "sys.exit(bool({'numpy', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
