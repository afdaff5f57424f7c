"""What a peer can make a server hold before its request has arrived and after its response is ready."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.api import connections, intake, transport
from serving.api.caller import HEALTH, Callers
from serving.api.layers import Layers
from serving.api.shield import shielded
from serving.api.transport import Transport
from tests.fault.holding import held_calls, unread_checks, unread_responses

MESSAGE = b"x" * 2**16
HEALTH_CHECK = f"/{HEALTH}Check"
UNARY = "/makemore.v1.GenerationService/NextCharacters"
STREAM = "/any/Stream"
CODE = grpc.StatusCode


class Methods(grpc.GenericRpcHandler):
    """Methods of each kind, which answer with what they are asked, and count the calls that reach them."""

    def __init__(self) -> None:
        self.reached = 0
        self.is_over = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == STREAM:
            return grpc.unary_stream_rpc_method_handler(self._endless)
        return grpc.unary_unary_rpc_method_handler(self._echo)

    async def _echo(self, request: bytes, context: object) -> bytes:
        self.reached += 1
        return request

    async def _endless(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        try:
            while True:
                yield MESSAGE
        finally:
            self.is_over.set()


class Served:
    """A server of Methods inside a Transport, and channels to it."""

    def __init__(self, read_timeout: float = 30.0) -> None:
        self.transport = Transport(read_timeout, self._note)
        self.methods = Methods()
        self.closed: list[str] = []
        self.port = 0
        self.address = ""
        self._stack = AsyncExitStack()

    def _note(self, reason: str) -> None:
        self.closed.append(reason)

    async def start(self, listen: str) -> None:
        """Serve on a free port, or a Unix socket."""
        layers = Layers(shielded, Callers(), self.transport)
        layers.add_generic_rpc_handlers((self.methods,))
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((layers,))
        bound = server.add_insecure_port(listen)
        self.port = 0 if listen.startswith("unix:") else bound
        self.address = f"127.0.0.1:{self.port}" if self.port else listen
        await server.start()
        self._stack.push_async_callback(server.stop, 0)

    async def channel(self) -> grpc.aio.Channel:
        """Connect anew."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channel = grpc.aio.insecure_channel(self.address, options)
        return await self._stack.enter_async_context(channel)

    async def hold(self, method: str = UNARY) -> Any:
        """Begin a call whose request does not come."""
        channel: Any = await self.channel()
        call = channel.stream_unary(method)()
        await call.wait_for_connection()
        return call

    async def ask(self, method: str = UNARY, content: bytes = b"a") -> bytes:
        """Make a call, which is answered or raises."""
        channel: Any = await self.channel()
        answer: bytes = await channel.unary_unary(method)(content, timeout=30)
        return answer

    async def stop(self) -> None:
        """End it, and check that nothing is left behind."""
        await self._stack.aclose()
        for kept in self.transport._intakes.values():
            await until(partial(is_empty, kept))
        await until(lambda: not self.transport._unread.held and not self.transport._calls)


def is_empty(kept: intake.Intake) -> bool:
    return not kept.calls.held and not kept.uploads.held


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


def scenario(
    test: Callable[[Served], Awaitable[None]],
    read_timeout: float = 30.0,
    listen: str = "127.0.0.1:0",
) -> None:
    async def run() -> None:
        served = Served(read_timeout)
        await served.start(listen)
        await test(served)
        await served.stop()

    asyncio.run(run())


def test_a_request_that_does_not_come_ends_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "REQUEST_TIMEOUT", 0.1)

    async def test(served: Served) -> None:
        assert await code_of(await served.hold()) is CODE.DEADLINE_EXCEEDED
        assert not served.methods.reached

    scenario(test)


def test_a_call_without_a_request_is_invalid() -> None:
    async def test(served: Served) -> None:
        call = await served.hold()
        await call.done_writing()
        assert await code_of(call) is CODE.INVALID_ARGUMENT

    scenario(test)


def test_calls_that_are_held_give_way_to_those_that_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "MAX_CALLS", 8)

    async def test(served: Served) -> None:
        held = [await served.hold() for _ in range(4)]
        await until(lambda: served.transport._intakes[False].calls.held == 4)
        async with asyncio.timeout(30):
            while served.methods.reached < 4:  # refused while those held may be about to send
                with suppress(grpc.aio.AioRpcError):
                    await served.ask()
        assert await served.ask(HEALTH_CHECK) == b"a"
        assert await code_of(held[0]) is CODE.DEADLINE_EXCEEDED

    scenario(test)


def test_health_has_a_quota_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_CALLS", 2)
    monkeypatch.setattr(intake, "MIN_WAIT", 60)

    async def test(served: Served) -> None:
        await served.hold()
        await until(lambda: served.transport._intakes[False].calls.held == 1)
        assert await code_of(served.ask()) is CODE.RESOURCE_EXHAUSTED
        assert await served.ask(HEALTH_CHECK) == b"a"

    scenario(test)


def test_requests_are_read_a_few_at_a_time_and_a_stale_one_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "MAX_UPLOADS", 4)

    async def test(served: Served) -> None:
        held = [await served.hold() for _ in range(6)]
        await until(lambda: served.transport._intakes[False].uploads.held == 2)
        assert await served.ask() == b"a"
        ended = [await code_of(call) for call in held[:2]]
        assert ended == [CODE.DEADLINE_EXCEEDED] * 2, "the oldest, whose place was wanted"

    scenario(test)


def test_many_requests_at_once_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_UPLOADS", 4)

    async def test(served: Served) -> None:
        channel: Any = await served.channel()
        content = b"x" * 10_000
        calls = [channel.unary_unary(UNARY)(content, timeout=30) for _ in range(200)]
        assert await asyncio.gather(*calls) == [content] * 200

    scenario(test)


def test_responses_that_wait_to_be_read_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_UNREAD", 2 * 2**20)

    async def test(served: Served) -> None:
        assert await served.ask(content=bytes(2**20)) == bytes(2**20)
        assert await code_of(served.ask(content=bytes(2**20 + 1))) is CODE.RESOURCE_EXHAUSTED

    scenario(test)


def test_a_stream_that_nobody_reads_is_cut_with_a_reason() -> None:
    async def test(served: Served) -> None:
        channel: Any = await served.channel()
        call = channel.unary_stream(STREAM)(b"")
        await asyncio.wait_for(served.methods.is_over.wait(), 30)
        with pytest.raises(grpc.aio.AioRpcError, match=r"nothing was read for 0\.3 s") as caught:
            async for _ in call:
                pass
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED

    scenario(test, read_timeout=0.3)


def test_a_connection_whose_responses_stay_unread_is_closed_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "READ_RATE", 2**30)
    monkeypatch.setattr(transport, "MAX_STALLED", 1024)
    monkeypatch.setattr(transport, "SCAN_INTERVAL", 0.05)

    async def test(served: Served) -> None:
        watching = asyncio.create_task(served.transport.watch(served.port))
        channel = await served.channel()
        echo: Any = channel.unary_unary(UNARY)
        assert await echo(b"a")
        (peer,) = await asyncio.to_thread(unread_responses, ("127.0.0.1", served.port), 1)
        await until(lambda: set(served.closed) == {"unread"})
        await until(lambda: not served.transport._unread.held)
        assert await echo(b"a"), "on the connection that was there before"
        assert len(list(connections.accepted_sockets(served.port))) == 1
        peer.socket.close()
        watching.cancel()

    scenario(test, read_timeout=0.2)


def test_calls_whose_responses_stay_unread_take_no_places_and_have_a_bound_in_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "MAX_CALLS", 1024)
    monkeypatch.setattr(transport, "MAX_LATE", 300)

    async def test(served: Served) -> None:
        peers = await asyncio.to_thread(unread_checks, ("127.0.0.1", served.port), 2)
        await until(lambda: served.methods.reached == 512)
        assert await served.ask(HEALTH_CHECK) == b"a"
        assert len(served.transport._calls) >= 512, "none of them has been read"
        late = time.monotonic() + 2 * transport.LATE_AFTER
        stalled = served.transport._stalled_peers(late)
        await asyncio.to_thread(served.transport._close, served.port, stalled)
        assert served.closed == ["unread"]
        await until(lambda: len(served.transport._calls) == 256)
        assert not served.transport._stalled_peers(late), "no more than there may be are left"
        for peer in peers:
            peer.socket.close()

    scenario(test)


def test_connections_of_a_unix_socket_are_closed_like_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transport, "READ_RATE", 2**30)
    monkeypatch.setattr(transport, "MAX_STALLED", 1024)
    monkeypatch.setattr(transport, "SCAN_INTERVAL", 0.05)

    async def test(served: Served) -> None:
        watching = asyncio.create_task(served.transport.watch(0))
        (peer,) = await asyncio.to_thread(unread_responses, f"{tmp_path}/socket", 1)
        await until(lambda: "unread" in served.closed)
        await until(lambda: not served.transport._unread.held)
        assert await served.ask() == b"a"
        peer.socket.close()
        watching.cancel()

    scenario(test, read_timeout=0.2, listen=f"unix:{tmp_path}/socket")


def test_what_closes_connections_goes_on_where_no_descriptor_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transport, "SCAN_INTERVAL", 0.01)

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def test(served: Served) -> None:
        monkeypatch.setattr(connections, "close_excess", fail)
        watching = asyncio.create_task(served.transport.watch(served.port))
        await until(lambda: len(caplog.records) > 1)
        assert not watching.done()
        watching.cancel()

    scenario(test)
    assert "cannot look for connections to close: Too many open files" in caplog.text


def test_connections_of_an_address_beyond_its_share_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "MAX_ADDRESS_CONNECTIONS", 2)
    monkeypatch.setattr(transport, "SCAN_INTERVAL", 0.05)

    async def test(served: Served) -> None:
        peers = [await asyncio.to_thread(held_calls, ("127.0.0.1", served.port), 1) for _ in "ab"]
        other = socket.create_connection(
            ("127.0.0.1", served.port), source_address=("127.0.0.2", 0)
        )
        third = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", served.port))
        await until(lambda: len(list(connections.accepted_sockets(served.port))) == 4)
        watching = asyncio.create_task(served.transport.watch(served.port))
        third.settimeout(30)
        await asyncio.to_thread(emptied, third)
        await until(lambda: set(served.closed) == {"excess"})
        assert len(list(connections.accepted_sockets(served.port))) == 3
        watching.cancel()
        for peer in [*peers[0], *peers[1]]:
            peer.socket.close()
        for connection in (other, third):
            connection.close()

    scenario(test)


def emptied(connection: socket.socket) -> None:
    """Read until the other end has hung up."""
    while connection.recv(2**16):
        pass


def test_peers_are_written_as_grpc_writes_them() -> None:
    async def test(served: Served) -> None:
        await served.ask()
        found = [peer for peer, _ in connections.accepted_sockets(served.port)]
        assert len(found) == 1
        assert connections.address_of(found[0]) == "ipv4:127.0.0.1"
        assert not connections.close(served.port, {"ipv4:127.0.0.1:1"})

    scenario(test)
