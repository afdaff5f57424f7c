"""The server's options, seen from a peer that keeps to none of them."""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from serving.client import Client
from serving.config import ServerConfig
from serving.options import MAX_CALLS, MAX_REQUEST, OPTIONS, server_options
from serving.repository import Model
from serving.testing import running
from tests.conftest import COMMITTED
from tests.fault.raw import RawCalls

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
MAX_STREAMS, WINDOW, MAX_FRAME, MAX_HEADERS = 3, 4, 5, 6
ENHANCE_YOUR_CALM = 11
GENERATE = "/makemore.v1.GenerationService/Generate"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        yield f"127.0.0.1:{server.port}"


def frame(kind: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame of the connection itself."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, 0, 0) + payload


@contextmanager
def connection(address: str) -> Iterator[tuple[socket.socket, Iterator[tuple[int, bytes]]]]:
    """A bare HTTP/2 connection, and the frames that come: their kinds and contents."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(PREFACE + frame(SETTINGS))
        yield peer, frames(peer)


def frames(peer: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Every frame until the server closes."""
    with peer.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            yield head[3], stream.read(int.from_bytes(head[:3], "big"))


def test_grpc_knows_every_option() -> None:
    """A name that it does not know is passed over without a word."""
    spec = find_spec("grpc._cython.cygrpc")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).read_bytes()
    for name, value in server_options(is_shared=False):
        assert name.encode() + b"\0" in library, name
        assert 0 <= value < 2**31


def test_a_call_may_take_less_than_all_streams_of_all_connections() -> None:
    streams = OPTIONS["grpc.max_concurrent_streams"]
    assert streams < MAX_CALLS < streams * OPTIONS["grpc.max_allowed_incoming_connections"]


def test_the_server_tells_its_bounds_when_a_connection_begins(address: str) -> None:
    with connection(address) as (_, received):
        content = next(payload for kind, payload in received if kind == SETTINGS)
    told = dict(struct.iter_unpack(">HI", content))
    assert told[MAX_STREAMS] == OPTIONS["grpc.max_concurrent_streams"]
    assert told[WINDOW] <= 64 * 2**10
    assert told.get(MAX_FRAME, 16 * 2**10) == 16 * 2**10
    assert told[MAX_HEADERS] <= OPTIONS["grpc.absolute_max_metadata_size"]


def test_a_flood_of_pings_ends_its_connection_and_no_other(address: str) -> None:
    with connection(address) as (peer, received), Client(address) as client:
        client.generate()
        peer.sendall(frame(PING, b"12345678") * 50)
        farewell = next(payload for kind, payload in received if kind == GOAWAY)
        assert int.from_bytes(farewell[4:8], "big") == ENHANCE_YOUR_CALM
        assert client.generate().samples


@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        (b"\x0a" + b"x" * MAX_REQUEST, ()),
        (b"", (("x-large", "y" * OPTIONS["grpc.absolute_max_metadata_size"]),)),
    ],
    ids=["message", "headers"],
)
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_what_is_too_large_is_refused_before_it_is_read(
    address: str, content: bytes, metadata: Any, compression: grpc.Compression
) -> None:
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/makemore.v1.GenerationService/Generate")
        with pytest.raises(grpc.RpcError) as caught:
            call(content, metadata=metadata, timeout=10, compression=compression)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_that_wait_for_a_busy_event_loop_are_answered_or_refused_and_none_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_held, is_free = threading.Event(), threading.Event()
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerConfig(COMMITTED, "127.0.0.1:0")))
        stack.callback(is_free.set)

        def hold() -> list[Model]:
            is_held.set()
            assert is_free.wait(60)
            return models()

        models = server.host.models
        monkeypatch.setattr(server.host, "models", hold)  # called by the loop after a reload
        server.reload_soon()
        assert is_held.wait(60)
        address = f"127.0.0.1:{server.port}"
        request = pb.GenerateRequest(n=1)
        every = [stack.enter_context(RawCalls(address, GENERATE, request, 60)) for _ in range(8)]
        for connection in every:
            for _ in range(OPTIONS["grpc.max_concurrent_streams"] - 1):
                connection.call()
            connection.ping()
        codes = set()
        while any(connection.under_way for connection in every):
            if all(connection.pongs for connection in every):
                is_free.set()
            for connection in select.select(every, (), (), 60)[0]:
                codes |= {code for code, _ in connection.statuses()}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.OK in codes
