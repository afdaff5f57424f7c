"""Peers that make a server hold calls without a request, requests without an end, unread responses."""

import struct
import time
from collections.abc import Callable
from contextlib import suppress

from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from makemore.v1 import generation_service_pb2 as pb
from tests.fault.http2 import PREFACE, Peer, frames

Address = tuple[str, int] | str
SERVICE = "makemore.v1.GenerationService"
Hold = Callable[[Address, int], list[Peer]]
"""Opens connections that each hold as much as they are let; they hold it until they are closed."""

STREAMS = 256
"""Calls on one connection, as many as the server allows."""
AT_ONCE, PAUSE = 16, 0.02
"""Calls that are opened together, and seconds until the next: more at once are refused by gRPC itself."""


def connected(address: Address, settings: dict[int, int]) -> Peer:
    """Connect with settings of HTTP/2."""
    peer = Peer(address, greets=False)
    peer.send(PREFACE + frames(SettingsFrame(settings=settings), SettingsFrame(flags=["ACK"])))
    return peer


def opened(address: Address, connections: int, method: str, settings: dict[int, int]) -> list[Peer]:
    """Connect, and open STREAMS calls on each connection, a few at a time as a server wants them."""
    peers = [connected(address, settings) for _ in range(connections)]
    for begin in range(0, STREAMS, AT_ONCE):
        streams = range(2 * begin + 1, 2 * min(begin + AT_ONCE, STREAMS), 2)
        for peer in peers:
            block = peer.headers(method)
            peer.send(frames(*(HeadersFrame(n, block, flags=["END_HEADERS"]) for n in streams)))
        time.sleep(PAUSE)
    return peers


def held_calls(address: Address, connections: int) -> list[Peer]:
    """Open calls whose request never comes."""
    return opened(address, connections, f"{SERVICE}/Generate", {})


def endless_uploads(address: Address, connections: int) -> list[Peer]:
    """Send as much of requests of a mebibyte as the server takes, and never their last byte."""
    peers = opened(address, connections, f"{SERVICE}/Score", {})
    head = struct.pack(">BI", 0, 2**20 - 1)
    for begin in range(0, 2**20 - 2**14, 2**14):
        part = bytes(2**14 - len(head)) if begin == 0 else bytes(2**14)
        for peer in peers:
            for n in range(1, 2 * STREAMS, 2):
                with suppress(OSError):  # the server has enough
                    peer.send(frames(DataFrame(n, (b"" if begin else head) + part)))
    return peers


def unread_responses(address: Address, connections: int) -> list[Peer]:
    """Ask for large responses that the windows of HTTP/2 let nobody send."""
    request = pb.NextCharactersRequest(prefixes=["emma"] * 1024).SerializeToString()
    return unread(address, connections, f"{SERVICE}/NextCharacters", request)


def unread_checks(address: Address, connections: int) -> list[Peer]:
    """Ask for health, whose answers are small, and let nobody send them."""
    return unread(address, connections, "grpc.health.v1.Health/Check", b"")


def unread(address: Address, connections: int, method: str, request: bytes) -> list[Peer]:
    """Make calls with windows of HTTP/2 that have no room for an answer."""
    message = struct.pack(">BI", 0, len(request)) + request
    nothing = {SettingsFrame.INITIAL_WINDOW_SIZE: 0}
    peers = [connected(address, nothing) for _ in range(connections)]
    for n in range(1, 2 * STREAMS, 2):
        for peer in peers:
            headers = HeadersFrame(n, peer.headers(method), flags=["END_HEADERS"])
            with suppress(OSError):  # the server has closed the connection
                peer.send(frames(headers, DataFrame(n, message, flags=["END_STREAM"])))
        time.sleep(PAUSE if request else PAUSE / AT_ONCE)  # for the window of the connection
    return peers


HOLDS: dict[str, Hold] = {
    hold.__name__: hold for hold in (held_calls, endless_uploads, unread_responses, unread_checks)
}
