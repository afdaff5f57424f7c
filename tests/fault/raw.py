"""Calls over HTTP/2 without a library: a tenth of the work, so that whoever calls is not what is measured."""

import re
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from itertools import takewhile

import grpc
from google.protobuf.message import Message
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from serving.options import OPTIONS
from tests.fault.http2 import PREFACE, header_block

HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 3, 4, 6, 7
ACK = END_STREAM = 1
HEAD = 9
"""Bytes before a frame's payload."""
WINDOW = 2**30
STREAMS = OPTIONS["grpc.max_concurrent_streams"]
CODES = {code.value[0]: code for code in grpc.StatusCode}
_STATUS = re.compile(rb"grpc-status[\x01\x02](\d{1,2})")


class RawCalls:
    """A connection on which one request is made again and again; a context manager.

    Attributes:
        pongs: pings that the server has answered.

    Args:
        address: host:port of the server.
        method: full name, such as `/makemore.v1.GenerationService/Generate`.
        request: of every call.
        timeout: seconds that a call may take; its deadline.
        source: the address that the calls come from.
    """

    def __init__(
        self, address: str, method: str, request: Message, timeout: float, source: str = "127.0.0.1"
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = header_block(method, ("grpc-timeout", f"{round(1e3 * timeout)}m"))
        content = request.SerializeToString()
        body = struct.pack(">BI", 0, len(content)) + content
        self._parts = (
            HeadersFrame(1, headers, flags=["END_HEADERS"]).serialize(),
            DataFrame(1, body, flags=["END_STREAM"]).serialize(),
        )
        self._timeout = timeout
        self._begun: dict[int, float] = {}
        self._waiting: deque[int] = deque()
        self._stream = -1
        self._buffer = bytearray()
        self._taken = 0
        self.pongs = 0
        # No dynamic table: every header is as it is written.
        settings = SettingsFrame(settings={1: 0, 4: WINDOW})
        self.socket.sendall(
            PREFACE + settings.serialize() + WindowUpdateFrame(0, WINDOW).serialize()
        )

    def __enter__(self) -> "RawCalls":
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def fileno(self) -> int:
        """For select."""
        return self.socket.fileno()

    @property
    def under_way(self) -> int:
        """Calls that have no status yet."""
        return len(self._begun)

    def call(self) -> None:
        """Make the call once more; it is sent once the connection may have another stream."""
        self._stream += 2
        self._begun[self._stream] = time.perf_counter()
        self._waiting.append(self._stream)
        self._send()

    def _send(self) -> None:
        while self._waiting and len(self._begun) - len(self._waiting) < STREAMS:
            number = struct.pack(">I", self._waiting.popleft())
            self.socket.sendall(b"".join(part[:5] + number + part[9:] for part in self._parts))

    def ping(self) -> None:
        """Ask the server for an answer, which comes after it has received all that was sent before."""
        self.socket.sendall(PingFrame(0, b"received").serialize())

    def statuses(self) -> Iterator[tuple[grpc.StatusCode, float]]:
        """The calls that are over now: the code of each, and the seconds that it took."""
        for kind, flags, stream, payload in self._frames():
            is_last = kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM)
            if is_last and stream in self._begun:  # else it was given up, or has its status
                code = grpc.StatusCode.UNAVAILABLE if kind == RST_STREAM else code_of(payload)
                took = time.perf_counter() - self._begun.pop(stream)
                self._send()
                yield code, took
            elif kind == SETTINGS and not flags & ACK:
                self.socket.sendall(SettingsFrame(flags=["ACK"]).serialize())
            elif kind == PING and flags & ACK:
                self.pongs += 1
            elif kind == PING:
                self.socket.sendall(PingFrame(0, payload, flags=["ACK"]).serialize())
            elif kind == GOAWAY:
                raise ConnectionError(f"the server ends it: {payload!r}")

    def late(self) -> int:
        """Give up the calls whose time is up, for which nothing may come any more; how many they are."""
        over = time.perf_counter() - self._timeout
        given_up = list(takewhile(lambda stream: self._begun[stream] < over, self._begun))
        for stream in given_up:
            del self._begun[stream]
        self._waiting = deque(stream for stream in self._waiting if stream in self._begun)
        self._send()
        return len(given_up)

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What has come and is whole: kind, flags, stream, payload."""
        data = self.socket.recv(2**18)
        if not data:
            raise ConnectionError("the server has hung up")
        self._give_way(len(data))
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= HEAD:
            size = int.from_bytes(self._buffer[at : at + 3], "big")
            end = at + HEAD + size
            if len(self._buffer) < end:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self._buffer, at + 3)
            yield kind, flags, stream, bytes(self._buffer[at + HEAD : end])
            at = end
        del self._buffer[:at]

    def _give_way(self, size: int) -> None:
        """Let the server send as much as has come."""
        self._taken += size
        if self._taken > WINDOW // 2:
            self.socket.sendall(WindowUpdateFrame(0, self._taken).serialize())
            self._taken = 0


def code_of(trailers: bytes) -> grpc.StatusCode:
    """The code that a block of trailers tells."""
    found = _STATUS.search(trailers)
    return CODES[int(found[1])] if found else grpc.StatusCode.UNKNOWN
