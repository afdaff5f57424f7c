"""Messages between a server and its engines' process: frames of bytes.

Both ends are one program's, joined by a pair of sockets that nobody else has; nothing of a caller's is
unpickled, only what was made of it.

Jobs and their events are many, plain, and marshalled: what goes between the processes otherwise is
pickled, which takes a block of four kilobytes for every message and gives most of it back at once, and
whatever comes to lie in that meanwhile leaves a hole for good.
"""

import marshal
import pickle
import socket
import struct
from typing import Any

HEADER = struct.Struct("<Q")
PLAINEST = 2
"""The last version of marshal that makes no table of what occurs again, larger than our messages."""
AT_ONCE = 2**18
"""Bytes that are read at once: in an event loop, in one iteration."""


def framed(message: Any) -> bytes:
    """A message as it is sent: its length in bytes, then its pickle."""
    return _framed(pickled(message))


def framed_plain(message: Any) -> bytes:
    """A message of numbers, texts, bytes, lists and tuples, as it is sent to where Frames are `plain`.

    What else there is in it goes as bytes, see `pickled`; an array would arrive as bytes, too.
    """
    return _framed(marshal.dumps(message, PLAINEST))


def _framed(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


def pickled(value: object) -> bytes:
    """A value as bytes."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def received(connection: socket.socket) -> Any:
    """The next message; raises EOFError when there is nobody at the other end."""
    (size,) = HEADER.unpack(_exactly(connection, HEADER.size))
    return pickle.loads(_exactly(connection, size))


def _exactly(connection: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    view, at = memoryview(found), 0
    while at < size:
        count = connection.recv_into(view[at:])
        if not count:
            raise EOFError("nobody is at the other end")
        at += count
    return found


class Frames:
    """Messages from bytes that come in pieces.

    Args:
        plain: of `framed_plain`, not of `framed`.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._load = marshal.loads if plain else pickle.loads
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Any]:
        """The messages that have become whole."""
        self._buffer += data
        found, at = [], 0
        while len(self._buffer) - at >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer, at)
            end = at + HEADER.size + size
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                found.append(self._load(view[at + HEADER.size : end]))
            at = end
        del self._buffer[:at]
        return found


def sendable(error: BaseException) -> BaseException:
    """An error, or what it says if it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
