"""A stream whose reader takes nothing ends, with a status, and lets go of what it holds."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from serving.api.layers import Layers
from serving.api.slow_readers import SlowReaders

MESSAGE = b"x" * 2**16


class Endless(grpc.GenericRpcHandler):
    """Sends for ever, and tells when it has been let go."""

    def __init__(self) -> None:
        self.sent = 0
        self.is_over = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_stream_rpc_method_handler(self._stream)

    async def _stream(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        try:
            while True:
                yield MESSAGE
                self.sent += 1
        finally:
            self.is_over.set()


async def read_on(call: Any, received: list[bytes]) -> None:
    async for message in call:
        received.append(message)


async def read_nothing() -> None:
    endless = Endless()
    layers = Layers(SlowReaders(read_timeout=0.3))
    layers.add_generic_rpc_handlers((endless,))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((layers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_stream("/any/Method")(b"")  # type: ignore[arg-type]
        await asyncio.wait_for(endless.is_over.wait(), 20)
        received: list[bytes] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_on(call, received)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "nothing was read for 0.3 s" in (caught.value.details() or "")
        assert endless.sent <= len(received) <= endless.sent + 1, "what was sent before is there"
    await server.stop(0)


def test_a_stream_that_nobody_reads_is_cut_with_a_reason() -> None:
    asyncio.run(read_nothing())
