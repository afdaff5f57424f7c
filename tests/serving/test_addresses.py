import pytest

from serving.addresses import check_target, is_local, is_loopback, split, unix_path
from serving.client import Client
from serving.errors import InvalidArgument


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("127.0.0.1", True),
        ("localhost:1", True),
        ("LocalHost:1", True),
        ("localhost.:1", True),
        ("localhost", True),
        ("[::1]:1", True),
        ("::1", True),
        ("[::1%lo]:1", True),
        ("[0:0:0:0:0:0:0:1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("unix:/run/makemore", True),
        ("unix:///run/makemore", True),
        ("UNIX:/run/makemore", True),
        ("unix-abstract:makemore", True),
        ("dns:localhost", True),
        ("dns:localhost:1", True),
        ("dns:/localhost:1", True),
        ("dns:///localhost:1", True),
        ("DNS:///LOCALHOST:1", True),
        ("dns:///127.0.0.1:1", True),
        ("dns:///%6cocalhost:1", True),
        ("%6cocalhost%3A1", True),
        ("dns://8.8.8.8/127.0.0.1:1", True),
        ("passthrough:///127.0.0.1:1", True),
        ("ipv4:127.0.0.2:1", True),
        ("ipv4:///127.0.0.2:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("ipv6:[::1]:1", True),
        ("ipv6:%5B::1%5D:1", True),
        ("ipv6:[::1%25lo]:1", True),
        ("ipv6:[::1]:1,[::ffff:127.0.0.1]:2", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("ipv6:[::1]:1,[fd00::2]:2", False),
        ("dns://8.8.8.8/localhost:1", False),
        ("dns:///10.0.0.1:1?localhost:1", False),
        ("dns:////localhost:1", False),
        ("127.0.0.1.example.org:1", False),
        ("localhost.example.org:1", False),
        ("localhost@example.org:1", False),
        ("http://localhost:1", False),
        ("xds:///localhost:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("10.0.0.1:1", False),
        ("[fd00::1]:1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        (":1", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:1", True),
        ("0.0.0.0:1", True),
        ("[::]:1", True),
        ("ipv4:0.0.0.0:1,127.0.0.1:1", True),
        ("0.0.0.0.example.org:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_a_target_is_local_at_the_unspecified_address_too(address: str, expected: bool) -> None:
    assert is_local(address) is expected


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "127.0.0.1:65535",
        "localhost",
        "localhost:050051",
        "localhost:http",
        "example.org",
        "[::1]",
        "::1",
        "[::1]:1",
        "dns:///example.org:1",
        "dns://8.8.8.8/example.org:1",
        "dns://8.8.8.8:53/example.org:1",
        "dns:example.org",
        "ipv4:10.0.0.1:50051,10.0.0.2:50051",
        "ipv6:[::1]:1,[::2]:2",
        "unix:/run/makemore.sock",
        "unix:makemore.sock",
        "unix-abstract:99999:99999",
        "vsock:99999:99999",
        "xds:///99999:99999",
    ],
)
def test_a_target_that_grpc_resolves_is_accepted(address: str) -> None:
    check_target("address", address)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:99999", "has the port '99999', which is not from 1 to 65535"),
        ("127.0.0.1:65536", "has the port '65536'"),
        ("127.0.0.1:0", "has the port '0'"),
        ("127.0.0.1:-1", "has the port '-1'"),
        ("127.0.0.1:+1", "has the port '+1'"),
        ("127.0.0.1:\u0663", "has the port"),
        ("127.0.0.1:" + "9" * 5000, "has the port"),
        ("127.0.0.1:", "has the port ''"),
        ("[::1]:99999", "has the port '99999'"),
        ("ipv4:10.0.0.1:1,10.0.0.2:99999", "has the port '99999'"),
        ("IPV4:///10.0.0.1:99999", "has the port '99999'"),
        ("ipv4:10.0.0.1:http", "has the port 'http'"),
        ("ipv6:%5B::1%5D:99999", "has the port '99999'"),
        ("dns:example.org:99999", "has the port '99999'"),
        ("dns:///example.org:99999", "has the port '99999'"),
        ("dns:///example.org%3A99999", "has the port '99999'"),
        ("dns:///example.org:99999?x", "has the port '99999'"),
        ("dns://8.8.8.8/example.org:99999", "has the port '99999'"),
        ("dns://8.8.8.8:99999/example.org:1", "has the port '99999'"),
        ("passthrough:///127.0.0.1:99999", "has the port '99999'"),
        ("http://127.0.0.1:50051", "is not host:port"),
        ("127.0.0.1:50051/", "is not host:port"),
        ("127.0.0.1: 50051", "is not host:port"),
        ("127.0.0.1:50051\n", "is not host:port"),
        (":50051", "is not host:port"),
        ("", "is not host:port"),
        ("unix:", "path of 1 to 107 bytes"),
        ("unix:/" + "x" * 107, "path of 1 to 107 bytes, not 108"),
    ],
)
def test_a_target_without_a_possible_port_is_refused_by_name(address: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_target("address", address)
    assert caught.value.field == "address"
    assert reason in caught.value.description
    assert "\n" not in str(caught.value)


def test_a_client_does_not_connect_to_another_port() -> None:
    """gRPC takes ports modulo 65,536."""
    with pytest.raises(
        InvalidArgument, match=r"address: '127\.0\.0\.1:99999' has the port '99999'"
    ):
        Client("127.0.0.1:99999")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:1", ("::1", 1)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_host_and_port_are_split(address: str, expected: tuple[str, int]) -> None:
    assert split("listen", address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1",
        ":1",
        "::1",
        "127.0.0.1:65536",
        "127.0.0.1:99999",
        "127.0.0.1:-1",
        "a:b:1",
        "ipv4:127.0.0.1:1",
        "dns:///localhost:1",
        "localhost:http",
        "[localhost]:1",
        "a b:1",
    ],
)
def test_what_is_not_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="is not host:port"):
        split("listen", address)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("127.0.0.1:50051", None),
        ("unix:/run/makemore.sock", "/run/makemore.sock"),
        ("unix:///run/makemore.sock", "/run/makemore.sock"),
        ("unix:makemore.sock", "makemore.sock"),
        ("unix:/run/a%20b.sock", "/run/a b.sock"),
    ],
)
def test_a_unix_socket_has_a_path(address: str, path: str | None) -> None:
    assert unix_path("listen", address) == path


@pytest.mark.parametrize(
    "address",
    ["unix:", "unix://host/path", "unix:/a?b", "unix:/a#b", "unix:a%00b", "unix:" + "ö" * 54],
)
def test_a_unix_socket_without_a_possible_path_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="unix:"):
        unix_path("listen", address)
