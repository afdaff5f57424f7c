"""Sockets on every address that a host name resolves to, with one port, or a clear error.

gRPC is content with one of several addresses, so that a client of the others would reach another program.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET
from typing import Any, Final
from urllib.parse import quote

from serving import addresses
from serving.errors import Unavailable

TRIES: Final = 20
"""Free ports that are tried until one is free on every address."""
LOOPBACK: Final = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
WILDCARD: Final = {AF_INET: "0.0.0.0", AF_INET6: "::"}

SocketAddress = tuple[Any, ...]
"""As the module socket has it: host, port, and for IPv6 two numbers more."""


def listen(field: str, address: str) -> list[socket.socket]:
    """Listen on each address of host:port; port 0 is one free port on all of them.

    Args:
        field: the setting that has the address, for errors.
        address: host:port.

    Raises:
        Unavailable: the name does not resolve, or one of its addresses cannot be bound.
    """
    with ExitStack() as stack:
        found = _bind(field, address, _resolve(field, address), [SO_REUSEADDR])
        for bound in found:
            stack.enter_context(bound)
        try:
            for bound in found:
                bound.listen()
        except OSError as error:  # taken since it was bound
            raise refusal(field, address, error.strerror or str(error)) from None
        stack.pop_all()
    return found


@contextmanager
def reserved(field: str, address: str) -> Iterator[int]:
    """Hold a port that only sockets with SO_REUSEPORT can be bound to from now on; yields its number.

    Raises:
        Unavailable: as `listen`; a socket that would share the port is in the way like any other.
    """
    found = _as_grpc_binds(_resolve(field, address))
    with ExitStack() as stack:
        holders = [stack.enter_context(s) for s in _bind(field, address, found, [SO_REUSEADDR])]
        for holder in holders:
            holder.setsockopt(SOL_SOCKET, SO_REUSEADDR, 0)
            holder.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        yield int(holders[0].getsockname()[1])


@contextmanager
def claimed(field: str, address: str, is_shared: bool) -> Iterator[list[str]]:
    """Hold every address of host:port or unix:path while gRPC binds it; yields them as gRPC has them.

    Args:
        field: the setting that has the address, for errors.
        address: host:port or unix:path.
        is_shared: the port is one that another process has `reserved`.

    Raises:
        Unavailable: as `listen`; or the path has a file, or the socket of a server that runs.
    """
    path = addresses.unix_path(field, address)
    if path is not None:
        _free(field, address, path)
        yield [f"unix:{quote(path)}"]
        return
    found = _as_grpc_binds(_resolve(field, address))
    options = [SO_REUSEADDR, SO_REUSEPORT] if is_shared else [SO_REUSEADDR]
    with ExitStack() as stack:
        holders = [stack.enter_context(s) for s in _bind(field, address, found, options)]
        yield [_name_of(holder.getsockname()) for holder in holders]


def refusal(field: str, address: str, reason: str) -> Unavailable:
    """An error for an address that cannot be bound, which says what to change."""
    flag = field.replace("_", "-")
    return Unavailable(f"cannot listen on {address}: {reason}; choose another with --{flag}")


def _resolve(field: str, address: str) -> list[SocketAddress]:
    """Resolve a name to its addresses, without those of a family that this machine lacks.

    `localhost` is both loopback addresses, as it is to clients of gRPC, whatever /etc/hosts says.
    """
    host, port = addresses.split(field, address)
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    hosts = [host, *(LOOPBACK.values() if host.lower().removesuffix(".") == "localhost" else ())]
    try:
        found = [
            info
            for one in hosts
            for info in socket.getaddrinfo(one, port, type=socket.SOCK_STREAM, flags=flags)
        ]
    except OSError as error:
        raise refusal(field, address, f"{host} does not resolve: {error.strerror}") from None
    except UnicodeError:  # a label is empty, or longer than a name server takes
        raise refusal(field, address, f"{host} is not a host name") from None
    every = list(dict.fromkeys(info[4] for info in found))
    supported = {family for family in {_family(one) for one in every} if _is_supported(family)}
    return [one for one in every if _family(one) in supported] or every


def _as_grpc_binds(found: list[SocketAddress]) -> list[SocketAddress]:
    """The addresses that gRPC binds: 0.0.0.0 and [::] are both to it, in one socket where there is IPv6."""
    for host, port, *_ in found:
        if host in (*WILDCARD.values(), "::ffff:0.0.0.0"):
            return [(WILDCARD[AF_INET6 if _is_supported(AF_INET6) else AF_INET], port)]
    return found


def _family(address: SocketAddress) -> socket.AddressFamily:
    return AF_INET6 if ":" in address[0] else AF_INET


def _is_supported(family: socket.AddressFamily) -> bool:
    try:
        _bound((LOOPBACK[family], 0), []).close()
    except OSError:
        return False
    return True


def _bind(
    field: str, address: str, found: list[SocketAddress], options: Sequence[int]
) -> list[socket.socket]:
    """Bind each of the addresses; a port that is free on the first alone is replaced if none is asked for."""
    _, port = addresses.split(field, address)
    left = 1 if port or len(found) == 1 else TRIES
    while True:
        left -= 1
        try:
            return _bind_all(found, options)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and left:
                continue
            name = "" if error.filename == address else f"{error.filename}: "
            raise refusal(field, address, f"{name}{error.strerror}") from None


def _bind_all(found: list[SocketAddress], options: Sequence[int]) -> list[socket.socket]:
    """Bind each of the addresses, with the first one's port; an OSError has the address as its filename."""
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        for host, port, *rest in found:
            wanted = (host, bound[0].getsockname()[1] if bound else port, *rest)
            try:
                bound.append(stack.enter_context(_bound(wanted, options)))
            except OSError as error:
                raise OSError(error.errno, error.strerror, _name_of(wanted)) from None
        stack.pop_all()
    return bound


def _bound(address: SocketAddress, options: Sequence[int]) -> socket.socket:
    family = _family(address)
    with ExitStack() as stack:
        made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        for option in options:
            made.setsockopt(SOL_SOCKET, option, 1)
        if family == AF_INET6:  # [::] is every address of IPv4, too
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
        stack.pop_all()
    return made


def _name_of(address: SocketAddress) -> str:
    return addresses.joined(*address[:2])


def _free(field: str, address: str, path: str) -> None:
    """Make sure that a path can be bound, and remove the socket of a server that runs no more.

    Raises:
        Unavailable: it cannot, or has something else.
    """
    try:
        if reason := _occupant(path):
            raise refusal(field, address, reason)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)  # where gRPC would not say why it cannot
        os.unlink(path)
    except OSError as error:
        raise refusal(field, address, error.strerror or str(error)) from None


def _occupant(path: str) -> str:
    """Why a path is not free; empty if it is, once a socket that nobody listens on is removed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    if not stat.S_ISSOCK(mode):
        return "it is a file, and no socket"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a server whose queue of connections is full is alive
        status = probe.connect_ex(path)
    if status != errno.ECONNREFUSED:
        return "another server listens there" if not status else os.strerror(status)
    os.unlink(path)
    return ""
