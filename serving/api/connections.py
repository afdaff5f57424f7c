"""The connections that a server has accepted, found through the process's own file descriptors.

gRPC for Python can neither list connections nor close one, and a client that reads nothing can be made to
release what it holds only by closing its connection.
"""

import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

DESCRIPTORS = "/dev/fd"
"""Folder that names every open file descriptor of this process, on Linux and macOS."""


def accepted(port: int) -> Iterator[tuple[str, socket.socket]]:
    """Yield the peer, as gRPC writes it, and a socket for each TCP connection to a local port.

    The sockets are duplicates, which are closed when the next one is asked for.
    """
    for name in sorted(os.listdir(DESCRIPTORS), key=int):
        with suppress(OSError), socket.socket(fileno=_duplicate(int(name))) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if connection.getsockname()[1] == port:
                yield _peer(connection), connection  # getpeername fails for listening sockets


def close(port: int, peer: str) -> bool:
    """Close the connection of a peer such as `ipv4:10.1.2.3:5678`; False if there is none.

    Shutting the socket down looks to gRPC as if the peer had hung up: it cancels the connection's calls
    and frees what they hold.
    """
    for found, connection in accepted(port):
        if found == peer:
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def close_excess(port: int, most: int) -> int:
    """Close what connections an address has beyond `most`, mostly its newest; return how many."""
    if len(os.listdir(DESCRIPTORS)) <= most:
        return 0
    counts: Counter[str] = Counter()
    closed = 0
    for peer, connection in accepted(port):
        address = address_of(peer)
        counts[address] += 1
        if counts[address] > most:
            connection.shutdown(socket.SHUT_RDWR)
            closed += 1
    return closed


def address_of(peer: str) -> str:
    """Return a peer without its port: `ipv4:10.1.2.3` of `ipv4:10.1.2.3:5678`."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def _duplicate(descriptor: int) -> int:
    """Duplicate the descriptor of a socket; raises OSError for one of anything else."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    return os.dup(descriptor)


def _peer(connection: socket.socket) -> str:
    host, port = connection.getpeername()[:2]
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
