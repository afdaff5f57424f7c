"""Messages between a server and its engines' process: frames of bytes.

Both ends are one program's, joined by a pair of sockets that nobody else has; nothing of a caller's is
unpickled, only what was made of it.

Jobs and their events are many, plain, and marshalled: what goes between the processes otherwise is
pickled, which takes a block of four kilobytes for every message and gives most of it back at once, and
whatever comes to lie in that meanwhile leaves a hole for good.
"""

import marshal
import pickle
import struct
from collections.abc import Callable
from typing import Any

Read = Callable[[memoryview], int]
HEADER = struct.Struct("<Q")
PLAINEST = 2
"""The last version of marshal that makes no table of what occurs again, larger than our messages."""
MAX_ERROR = 2**14
"""Bytes of an error that is sent."""
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


def received(read: Read) -> Any:
    """The next message; raises EOFError when there is nobody at the other end."""
    (size,) = HEADER.unpack(exactly(read, HEADER.size))
    return pickle.loads(exactly(read, size))


def exactly(read: Read, size: int) -> bytearray:
    """The next `size` bytes of a connection.

    Args:
        read: reads bytes, as socket.recv_into does.
        size: how many.

    Raises:
        EOFError: nobody is at the other end.
        MemoryError: there is no room for them; they are read all the same, so that what comes next is
            found where it begins.
    """
    try:
        found = bytearray(size)
    except MemoryError:
        _skip(read, size)
        raise
    _fill(read, memoryview(found))
    return found


def _fill(read: Read, view: memoryview) -> None:
    while view:
        count = read(view)
        if not count:
            raise EOFError("nobody is at the other end")
        view = view[count:]


def _skip(read: Read, size: int) -> None:
    view = memoryview(bytearray(AT_ONCE))
    while size:
        part = view[: min(size, AT_ONCE)]
        _fill(read, part)
        size -= len(part)


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
    """An error, or the beginning of its text if it cannot be sent or is too large."""
    try:
        pickle.loads(found := pickle.dumps(error))
        if len(found) <= MAX_ERROR:
            return error
    except Exception:  # whatever its own methods raise
        pass
    return RuntimeError(f"{type(error).__name__}: {_text_of(error)[: MAX_ERROR // 4]}")


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it does not say what happened"
