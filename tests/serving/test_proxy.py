"""Which proxy grpc asks, and that an error names it."""

import select
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from serving.client import Client
from serving.errors import DeadlineExceeded, NoServer, ServingError
from serving.proxy import EXEMPTION_VARIABLES, PROXY_VARIABLES, proxy_of

OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
SERVER = "server.example:50051"


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, *EXEMPTION_VARIABLES):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)


@pytest.fixture
def proxy() -> Iterator[socket.socket]:
    with listening() as server:
        yield server


@pytest.fixture
def target() -> Iterator[socket.socket]:
    with listening() as server:
        yield server


def is_asked(proxy: socket.socket, target: socket.socket, address: str) -> bool:
    """Whether grpc connects to the proxy instead of the target."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        call: Any = channel.unary_unary("/any/method")
        call.future(b"", timeout=30)
        ready, _, _ = select.select([proxy, target], [], [], 30)
        assert len(ready) == 1
        return ready == [proxy]


USED = [
    ({"grpc_proxy": "http://{}"}, True),
    ({"https_proxy": "http://{}"}, True),
    ({"http_proxy": "http://{}"}, True),
    ({"http_proxy": "http://user:secret@{}"}, True),
    ({"http_proxy": "http://{}/path"}, True),
    ({"grpc_proxy": "http://{}", "https_proxy": "http://x:1", "http_proxy": "http://x:1"}, True),
    ({"https_proxy": "http://{}", "http_proxy": "http://x:1"}, True),
    ({"grpc_proxy": "", "http_proxy": "http://{}"}, False),
    ({"https_proxy": "https://{}", "http_proxy": "http://{}"}, False),
    ({"http_proxy": "{}"}, False),
    ({"http_proxy": "//{}"}, False),
    ({"HTTP_PROXY": "http://{}", "GRPC_PROXY": "http://{}"}, False),
    ({"all_proxy": "http://{}"}, False),
    ({"http_proxy": "http://{}", "no_proxy": "example.org"}, True),
    ({"http_proxy": "http://{}", "no_proxy": "example.org, 127.0.0.1"}, False),
    ({"http_proxy": "http://{}", "no_proxy": "0.0.1,"}, False),
    ({"http_proxy": "http://{}", "no_proxy": "*"}, True),
    ({"http_proxy": "http://{}", "no_proxy": ""}, True),
    ({"http_proxy": "http://{}", "no_proxy": "127.0.0.0/8"}, False),
    ({"http_proxy": "http://{}", "no_proxy": "127.1.0.0/16"}, True),
    ({"http_proxy": "http://{}", "NO_PROXY": "127.0.0.1"}, True),
    ({"http_proxy": "http://{}", "no_proxy": "127.0.0.1", "no_grpc_proxy": ""}, True),
    ({"http_proxy": "http://{}", "no_grpc_proxy": "127.0.0.1"}, False),
]


@pytest.mark.parametrize(("environment", "expected"), USED)
def test_the_proxy_that_is_named_is_the_one_that_grpc_asks(
    environment: dict[str, str],
    expected: bool,
    proxy: socket.socket,
    target: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = f"127.0.0.1:{port_of(proxy)}"
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(where))
    address = f"127.0.0.1:{port_of(target)}"
    assert is_asked(proxy, target, address) is expected
    variable = next((name for name in PROXY_VARIABLES if name in environment), "")
    assert proxy_of(address) == (f"{where} ({variable})" if expected else "")


@pytest.mark.parametrize("exempt", [True, False])
@pytest.mark.parametrize("form", ["{}", "ipv4:{}", "dns:{}", "dns:///{}", "ipv4:%31{}"])
def test_an_exemption_holds_for_every_form_of_an_address(
    form: str,
    exempt: bool,
    proxy: socket.socket,
    target: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port_of(proxy)}")
    monkeypatch.setenv("no_proxy", "127.0.0.1" if exempt else "127.0.0.2")
    numeric = f"127.0.0.1:{port_of(target)}"
    address = form.format(numeric[1:] if "%31" in form else numeric)
    assert is_asked(proxy, target, address) is not exempt
    assert bool(proxy_of(address)) is not exempt


@pytest.mark.parametrize(
    ("address", "exemptions"),
    [
        ("[2001:db8::1]:50051", "2001:db8::/32"),
        ("[2001:db8::1]:50051", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:50051", "2001:db8::1"),
        ("Server.Example.org:50051", "example.ORG"),
        ("unix:/run/makemore.sock", "nothing"),
        ("vsock:2:50051", "nothing"),
    ],
)
def test_an_exempt_address_has_no_proxy(
    address: str, exemptions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", exemptions)
    assert proxy_of(address) == ""
    assert proxy_of("10.0.0.1:50051") == "127.0.0.1:1 (http_proxy)"


LOCAL = [
    "127.0.0.1:{}",
    "localhost:{}",
    "LOCALHOST:{}",
    "ipv4:127.0.0.1:{}",
    "ipv4:127.0.0.1:{0},127.0.0.1:{0}",
    "dns:localhost:{}",
    "dns:///localhost:{}",
    "dns:///127.0.0.1:{}",
    "0.0.0.0:{}",
]


@pytest.mark.parametrize("form", LOCAL)
def test_no_proxy_at_all_is_asked_for_this_machine(
    form: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY", "127.0.0.1:1")
    monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
    with Client(form.format(address.rpartition(":")[2])) as client:
        assert client.generate().samples
        assert client.health() == "SERVING"


def test_the_second_kind_of_proxy_is_one_that_grpc_knows(
    proxy: socket.socket, target: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY", f"127.0.0.1:{port_of(proxy)}")
    monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
    assert is_asked(proxy, target, f"127.0.0.1:{port_of(target)}")


def test_an_error_names_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1")
    with Client(SERVER) as client:
        for ask in (client.generate, client.health, lambda: list(client.stream())):
            with pytest.raises(
                NoServer, match=rf"at {SERVER} through the proxy 127\.0\.0\.1:1 \(http_proxy\): "
            ) as caught:
                ask()
            assert "secret" not in str(caught.value)


def test_an_error_names_a_proxy_whose_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.invalid:3128")
    with (
        Client(SERVER) as client,
        pytest.raises(
            ServingError, match=r"the proxy proxy\.invalid:3128 \(https_proxy\)"
        ) as caught,
    ):
        client.generate()
    assert "secret" not in str(caught.value)


def test_an_error_names_a_proxy_that_says_nothing(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{port_of(proxy)}")
    with (
        Client(SERVER, timeout=0.5) as client,
        pytest.raises(DeadlineExceeded, match=r"the proxy 127\.0\.0\.1:\d+ \(grpc_proxy\)"),
    ):
        client.generate()


def test_an_error_says_nothing_of_a_proxy_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:2")
    with Client("127.0.0.1:1") as client, pytest.raises(NoServer) as caught:
        client.generate()
    assert "proxy" not in str(caught.value)
