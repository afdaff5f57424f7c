"""Listening on every address that a host name resolves to, with the same port, or a clear error.

gRPC succeeds if it can bind one of several addresses, and clients could reach another program at the others.
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

MAX_ATTEMPTS: Final = 20
"""Attempts to find a port that is free on every address."""
LOOPBACK: Final = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
WILDCARD: Final = {AF_INET: "0.0.0.0", AF_INET6: "::"}

SocketAddress = tuple[Any, ...]
"""Address of a socket in Python: host, port, and for IPv6 also flow info and scope id."""


def listen(field: str, address: str) -> list[socket.socket]:
    """Listen on each address of host:port; port 0 chooses one port that is free on all of them.

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
    """Hold a port so that only sockets with SO_REUSEPORT can be bound to it; yields its number.

    Raises:
        Unavailable: as for `listen`; a socket with SO_REUSEPORT on the port is a conflict, too.
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
    """Hold every address of host:port or unix:path while gRPC binds it; yields them in gRPC's form.

    Args:
        field: the setting that has the address, for errors.
        address: host:port or unix:path.
        is_shared: whether the port is one that another process has `reserved`.

    Raises:
        Unavailable: as for `listen`; or a file or the socket of a running server is at the path.
    """
    path = addresses.unix_path(field, address)
    if path is not None:
        _clear_path(field, address, path)
        yield [f"unix:{quote(path)}"]
        return
    found = _as_grpc_binds(_resolve(field, address))
    options = [SO_REUSEADDR, SO_REUSEPORT] if is_shared else [SO_REUSEADDR]
    with ExitStack() as stack:
        holders = [stack.enter_context(s) for s in _bind(field, address, found, options)]
        yield [_name_of(holder.getsockname()) for holder in holders]


def refusal(field: str, address: str, reason: str) -> Unavailable:
    """Return the error for an address that cannot be bound, with the flag to change."""
    flag = field.replace("_", "-")
    return Unavailable(f"cannot listen on {address}: {reason}; choose another with --{flag}")


def _resolve(field: str, address: str) -> list[SocketAddress]:
    """Resolve a name to its addresses, omitting families that this machine does not support.

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
    except UnicodeError:  # a label is empty or too long
        raise refusal(field, address, f"{host} is not a host name") from None
    every = list(dict.fromkeys(info[4] for info in found))
    supported = {family for family in {_family(one) for one in every} if _is_supported(family)}
    return [one for one in every if _family(one) in supported] or every


def _as_grpc_binds(found: list[SocketAddress]) -> list[SocketAddress]:
    """Return the addresses that gRPC binds: for 0.0.0.0 or [::] a single wildcard, [::] if there is IPv6."""
    for host, port, *_ in found:
        if host in (*WILDCARD.values(), "::ffff:0.0.0.0"):
            return [(WILDCARD[AF_INET6 if _is_supported(AF_INET6) else AF_INET], port)]
    return found


def _family(address: SocketAddress) -> socket.AddressFamily:
    return AF_INET6 if ":" in address[0] else AF_INET


def _is_supported(family: socket.AddressFamily) -> bool:
    try:
        _bind_one((LOOPBACK[family], 0), []).close()
    except OSError:
        return False
    return True


def _bind(
    field: str, address: str, found: list[SocketAddress], options: Sequence[int]
) -> list[socket.socket]:
    """Bind each of the addresses; if the port is chosen here, retry until it is free on all of them."""
    _, port = addresses.split(field, address)
    attempts_left = 1 if port or len(found) == 1 else MAX_ATTEMPTS
    while True:
        attempts_left -= 1
        try:
            return _bind_all(found, options)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and attempts_left:
                continue
            name = "" if error.filename == address else f"{error.filename}: "
            raise refusal(field, address, f"{name}{error.strerror}") from None


def _bind_all(found: list[SocketAddress], options: Sequence[int]) -> list[socket.socket]:
    """Bind each of the addresses to the port of the first; an OSError has the address as its filename."""
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        for host, port, *rest in found:
            wanted = (host, bound[0].getsockname()[1] if bound else port, *rest)
            try:
                bound.append(stack.enter_context(_bind_one(wanted, options)))
            except OSError as error:
                raise OSError(error.errno, error.strerror, _name_of(wanted)) from None
        stack.pop_all()
    return bound


def _bind_one(address: SocketAddress, options: Sequence[int]) -> socket.socket:
    family = _family(address)
    with ExitStack() as stack:
        made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        for option in options:
            made.setsockopt(SOL_SOCKET, option, 1)
        if family == AF_INET6:  # [::] includes every IPv4 address
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
        stack.pop_all()
    return made


def _name_of(address: SocketAddress) -> str:
    return addresses.joined(*address[:2])


def _clear_path(field: str, address: str, path: str) -> None:
    """Remove the socket of a server that no longer runs, and check that the path can be bound.

    Raises:
        Unavailable: the path cannot be bound, or something else is there.
    """
    try:
        if reason := _remove_stale_socket(path):
            raise refusal(field, address, reason)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)  # gRPC would not report why it cannot
        os.unlink(path)
    except OSError as error:
        raise refusal(field, address, error.strerror or str(error)) from None


def _remove_stale_socket(path: str) -> str:
    """Remove a socket that nobody listens on; return why the path is not free, or an empty string."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    if not stat.S_ISSOCK(mode):
        return "it is a file, and no socket"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full accept queue is EAGAIN: the server is alive
        status = probe.connect_ex(path)
    if status != errno.ECONNREFUSED:
        return "another server listens there" if not status else os.strerror(status)
    os.unlink(path)
    return ""
