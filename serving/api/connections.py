"""Accepted connections of a server, found among the file descriptors of this process.

gRPC for Python can neither list nor close connections, but closing the connection is the only way to free
the responses that gRPC buffers for a client that reads nothing.
"""

import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress

DESCRIPTOR_DIRECTORY = "/dev/fd"
"""Directory that lists the open file descriptors of this process, on Linux and macOS."""
UNIX = "unix:"
"""Peer of every connection on a Unix socket: gRPC does not tell them apart."""


def accepted_sockets(port: int) -> Iterator[tuple[str, socket.socket]]:
    """Yield the peer, in gRPC's form, and a socket for each connection to a local port.

    Each socket is a duplicate that is closed when the iteration continues.

    Args:
        port: port of TCP; 0 stands for the server's Unix socket.
    """
    for name in sorted(os.listdir(DESCRIPTOR_DIRECTORY), key=int):
        with suppress(OSError), socket.socket(fileno=_duplicate(int(name))) as connection:
            if _is_to(port, connection):
                yield _peer(connection), connection  # getpeername fails for listening sockets


def _is_to(port: int, connection: socket.socket) -> bool:
    if connection.family == socket.AF_UNIX:  # those of the engines' process have no name
        return not port and bool(connection.getsockname())
    is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
    return is_tcp and bool(port) and connection.getsockname()[1] == port


def close(port: int, peers: Collection[str]) -> list[str]:
    """Close the connections of peers such as `ipv4:10.1.2.3:5678`; return the peer of each.

    gRPC handles the shutdown of the socket like a disconnect of the peer: it cancels the connection's calls
    and frees their buffers. On a Unix socket all connections have the same peer.
    """
    closed = []
    for peer, connection in accepted_sockets(port):
        if peer in peers:
            connection.shutdown(socket.SHUT_RDWR)
            closed.append(peer)
    return closed


def close_excess(port: int, limit: int) -> int:
    """Close the connections that an address has beyond `limit`, mostly its newest; return their number.

    Connections on a Unix socket have no address, and are not limited.
    """
    if not port or len(os.listdir(DESCRIPTOR_DIRECTORY)) <= limit:
        return 0
    counts: Counter[str] = Counter()
    closed = 0
    for peer, connection in accepted_sockets(port):
        address = address_of(peer)
        counts[address] += 1
        if counts[address] > limit:
            connection.shutdown(socket.SHUT_RDWR)
            closed += 1
    return closed


def address_of(peer: str) -> str:
    """Return a peer without its port: `ipv4:10.1.2.3` for `ipv4:10.1.2.3:5678`."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def _duplicate(descriptor: int) -> int:
    """Duplicate a socket's descriptor; raises OSError for any other descriptor."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    return os.dup(descriptor)


def _peer(connection: socket.socket) -> str:
    peer = connection.getpeername()
    if connection.family == socket.AF_UNIX:
        return UNIX
    host, port = peer[:2]
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
