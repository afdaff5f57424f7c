"""Every address of a host name is bound, with one port, or an error names the one that is not."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving import listening
from serving.errors import Unavailable
from serving.listening import claimed, listen, reserved

Bind = Callable[[str], Any]


@contextmanager
def _listening(address: str) -> Any:
    with ExitStack() as stack:
        yield [stack.enter_context(one) for one in listen("listen", address)]


@contextmanager
def _claimed(address: str) -> Any:
    with claimed("listen", address, is_shared=False) as found:
        yield found


@contextmanager
def _reserved(address: str) -> Any:
    with reserved("listen", address) as port:
        yield port


WAYS = pytest.mark.parametrize("bind", [_listening, _claimed, _reserved])


def needs_ipv6() -> None:
    """Skip the test where the machine has no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let `name` have these addresses; skips the test where the machine has no IPv6."""
    if "::1" in hosts:
        needs_ipv6()
    getaddrinfo = socket.getaddrinfo

    def resolve(host: str, *how: Any, **more: Any) -> list[Any]:
        names = hosts if host == "name" else [host]
        return [info for name in names for info in getaddrinfo(name, *how, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_free_port_is_the_same_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1", "::1")
    with _listening("name:0") as found:
        names = [one.getsockname()[:2] for one in found]
        assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2", "::1"]
        assert len({port for _, port in names}) == 1
        for name in names:
            socket.create_connection(name).close()
    with _claimed("name:0") as addresses:
        (port,) = {address.rpartition(":")[2] for address in addresses}
        assert addresses == [f"127.0.0.1:{port}", f"127.0.0.2:{port}", f"[::1]:{port}"]


@WAYS
@pytest.mark.parametrize("owner", ["127.0.0.1", "127.0.0.2", "::1"])
@pytest.mark.parametrize("option", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_the_address_that_is_taken_is_named(
    bind: Bind, owner: str, option: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2", "::1")
    with socket.socket(socket.AF_INET6 if ":" in owner else socket.AF_INET) as taken:
        if option:
            taken.setsockopt(socket.SOL_SOCKET, option, 1)
        taken.bind((owner, 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = f"[{owner}]:{port}" if ":" in owner else f"{owner}:{port}"
        with pytest.raises(Unavailable) as caught, bind(f"name:{port}"):
            pass
    assert str(caught.value) == (
        f"cannot listen on name:{port}: {shown}: Address already in use; "
        "choose another with --listen"
    )
    with bind(f"name:{port}"):  # so the others were set free
        pass


@pytest.mark.parametrize("bind", [_claimed, _reserved])
@pytest.mark.parametrize("owner", ["127.0.0.1", "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", "[0:0::0]", "[::ffff:0.0.0.0]"])
def test_a_wildcard_is_every_address_of_both_protocols(
    bind: Bind, owner: str, address: str
) -> None:
    """As gRPC has it, which is otherwise content with one of them."""
    needs_ipv6()
    family = socket.AF_INET6 if ":" in owner else socket.AF_INET
    with socket.create_server((owner, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="in use"), bind(f"{address}:{port}"):
            pass


@WAYS
def test_connections_that_have_ended_are_not_in_the_way(bind: Bind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # first, so that it waits
            assert client.recv(1) == b""
    with bind(f"127.0.0.1:{port}"):
        pass


def test_only_sockets_that_share_it_get_a_reserved_port() -> None:
    with reserved("listen", "127.0.0.1:0") as port:
        for bind in (_listening, _claimed, _reserved):
            with pytest.raises(Unavailable, match="in use"), bind(f"127.0.0.1:{port}"):
                pass
        for _ in range(2):
            with claimed("listen", f"127.0.0.1:{port}", is_shared=True) as found:
                assert found == [f"127.0.0.1:{port}"]


def test_another_free_port_is_tried_where_one_is_taken_on_a_later_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    bound = listening._bind_one
    refused: list[Any] = []

    def flaky(address: Any, options: Any) -> socket.socket:
        if address[0] == "127.0.0.2" and len(refused) < 2:
            refused.append(address)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bound(address, options)

    monkeypatch.setattr(listening, "_bind_one", flaky)
    with _listening("name:0") as found:
        assert len({one.getsockname()[1] for one in found}) == 1
    assert len(refused) == 2


def test_addresses_of_a_protocol_that_the_machine_lacks_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound = listening._bind_one

    def without_ipv6(address: Any, options: Any) -> socket.socket:
        if ":" in address[0]:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return bound(address, options)

    monkeypatch.setattr(listening, "_bind_one", without_ipv6)
    with _claimed("[::]:0") as found:
        assert found[0].startswith("0.0.0.0:")
    with pytest.raises(Unavailable, match=r"^cannot listen on \[::1\]:0: Cannot assign"):
        listen("listen", "[::1]:0")
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    with _listening("name:0") as found:
        assert [one.getsockname()[0] for one in found] == ["127.0.0.1"]


def test_a_name_that_does_not_resolve_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="is not a host name; choose another with --metrics-lis"):
        listen("metrics_listen", f"{'x' * 64}:1")

    def fail(*arguments: Any, **how: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Unavailable, match=r"^cannot listen on no:1: no does not resolve: Name"):
        listen("listen", "no:1")


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(Unavailable, match=r"203\.0\.113\.1:1: Cannot assign requested"):
        listen("listen", "203.0.113.1:1")


def test_a_socket_that_nobody_listens_on_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("a b")
    assert stat.S_ISSOCK(os.stat("a b").st_mode)
    with _claimed("unix:a%20b") as found:
        assert found == ["unix:a%20b"]
        assert not Path("a b").exists()


def test_a_socket_that_somebody_listens_on_is_left(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as live, ExitStack() as stack:
        live.bind(str(path))
        live.listen(0)
        for _ in range(4):  # connections wait until there are too many, too
            with (
                pytest.raises(Unavailable, match=f"cannot listen on unix:{path}: "),
                _claimed(f"unix:{path}"),
            ):
                pass
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            status = waiting.connect_ex(str(path))
        assert status == errno.EAGAIN
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "pipe", "link", "datagram"])
def test_a_path_with_anything_else_is_left(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "path"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        match kind:
            case "file":
                path.write_text("kept")
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "link":
                path.symlink_to("nowhere")
            case "datagram":
                other.bind(str(path))
        with pytest.raises(Unavailable, match="--listen"), _claimed(f"unix:{path}"):
            pass
    assert os.path.lexists(path)


def test_a_path_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match="missing/socket: No such file or directory; choose"),
        _claimed(f"unix:{tmp_path}/missing/socket"),
    ):
        pass
