"""Addresses as people write them: host:port, [host]:port, unix:path, and the targets of gRPC's name syntax.

A server listens on host:port or unix:path. A client's target may also be ipv4:host:port,host:port,
ipv6:[host]:port, dns:///host:port or dns://authority/host:port. As in gRPC, schemes may have capital letters,
and what follows a scheme may be percent-encoded.
"""

import os
import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import unquote

from serving.errors import InvalidArgument
from serving.quoting import quoted

EXAMPLE = "127.0.0.1:50051"
MAX_PORT = 65535
MAX_UNIX_PATH = 107
"""Bytes that the path of a Unix socket may have."""

_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:\[\]/]+))(?::([^\s:\[\]/]*))?", re.ASCII
)
_PORT = re.compile(r"0*(\d{1,5})", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9-]*", re.ASCII)
_TARGET = re.compile(
    r"(?:(dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds|google-c2p):(?://([^/?#]*))?)?"
    r"([^?#]*)(?:[?#].*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_UNIX = ("unix", "unix-abstract")
_LISTS = ("ipv4", "ipv6")
_NAMES = ("", "dns", "passthrough")


class _Target(NamedTuple):
    """A client's target in gRPC's name syntax."""

    scheme: str
    authority: str
    path: str

    @classmethod
    def parse(cls, text: str) -> "_Target":
        match = _TARGET.fullmatch(text)
        assert match is not None  # the expression matches every text
        return cls((match[1] or "").lower(), unquote(match[2] or ""), unquote(match[3]))

    @property
    def endpoints(self) -> Iterator[tuple[str, str | None]]:
        """Host and port of each address; raises ValueError for what gRPC cannot split into them."""
        path = self.path.removeprefix("/") if self.scheme else self.path
        for part in path.split(",") if self.scheme in _LISTS else [path]:
            yield _endpoint(part)


def is_loopback(address: str) -> bool:
    """Tell whether all traffic to an address stays on this machine, where nobody else can read it."""
    return _is_here(address, lambda ip: ip.is_loopback)


def is_local(address: str) -> bool:
    """Tell whether a client's target is this machine: loopback, or 0.0.0.0 or [::], which lead there too."""
    return _is_here(address, lambda ip: ip.is_loopback or ip.is_unspecified)


def check_target(field: str, address: str) -> None:
    """Refuse a client's target with an impossible port, which gRPC would take modulo 65,536."""
    target = _Target.parse(address)
    if target.scheme == "unix":
        _check_unix_path(field, address, target.path)
    if target.scheme not in (*_LISTS, *_NAMES):
        return
    try:
        endpoints = [
            *target.endpoints,
            *([_endpoint(target.authority)] if target.authority else []),
        ]
    except ValueError:
        raise _not_an_address(field, address) from None
    for _, port in endpoints:
        if port is None or (target.scheme in _NAMES and _SERVICE.fullmatch(port)):
            continue
        if not 0 < _number(port) <= MAX_PORT:
            raise InvalidArgument(
                field,
                f"{quoted(address)} has the port {quoted(port)}, which is not from 1 to 65535",
            )


def split(field: str, address: str) -> tuple[str, int]:
    """Host, without brackets, and port of an address that is no path; raises InvalidArgument."""
    try:
        host, text = _endpoint(address)
    except ValueError:
        raise _not_an_address(field, address) from None
    port = _number(text or "")
    if not 0 <= port <= MAX_PORT:
        raise _not_an_address(field, address)
    return host, port


def joined(host: str, port: int) -> str:
    """The address again."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_port(address: str, port: int) -> str:
    """An address that a server listens on, with the port that is bound; a Unix socket has none."""
    is_unix = _Target.parse(address).scheme == "unix"
    return address if is_unix else f"{address.rpartition(':')[0]}:{port}"


def check_listen(field: str, address: str) -> None:
    """Raise InvalidArgument unless a server can listen there: on host:port or unix:path."""
    if unix_path(field, address) is None:
        split(field, address)


def unix_path(field: str, address: str) -> str | None:
    """The path of the Unix socket that an address names; None for host:port. Raises InvalidArgument."""
    target = _Target.parse(address)
    if target.scheme != "unix":
        return None
    if target.authority or "?" in address or "#" in address:
        raise InvalidArgument(
            field, f"{quoted(address)} is not unix:path, such as unix:/run/a.sock"
        )
    _check_unix_path(field, address, target.path)
    return target.path


def _endpoint(text: str) -> tuple[str, str | None]:
    """Host and port of host:port, a bare host or a bare IPv6 address; raises ValueError for others."""
    if match := _ADDRESS.fullmatch(text):
        return match[1] or match[2], match[3]
    return str(IPv6Address(text)), None


def _number(port: str) -> int:
    """The number of a port; -1 for what is none."""
    match = _PORT.fullmatch(port)
    return int(match[1]) if match else -1


def _is_here(address: str, is_fine: Callable[[IPv4Address | IPv6Address], bool]) -> bool:
    """Tell whether an address is a Unix socket, or each of its hosts is `localhost` or a fine IP address."""
    target = _Target.parse(address)
    if target.scheme in _UNIX:
        return True
    if target.scheme not in (*_LISTS, *_NAMES):
        return False
    try:
        hosts = [host for host, _ in target.endpoints]
    except ValueError:
        return False
    # An authority is a name server, which may say of a name whatever it likes.
    names = () if target.authority else ("localhost", "localhost.")
    return all(host.lower() in names or ((ip := _ip(host)) and is_fine(ip)) for host in hosts)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is, as IPv4 if it is mapped to IPv6; None for a name."""
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _check_unix_path(field: str, address: str, path: str) -> None:
    size = len(os.fsencode(path))
    if not 0 < size <= MAX_UNIX_PATH or "\0" in path:
        raise InvalidArgument(
            field, f"{quoted(address)} must have a path of 1 to {MAX_UNIX_PATH} bytes, not {size}"
        )


def _not_an_address(field: str, address: str) -> InvalidArgument:
    return InvalidArgument(field, f"{quoted(address)} is not host:port, such as {EXAMPLE}")
