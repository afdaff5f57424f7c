"""Bounds on what a peer can make the server hold, from the headers of a call to the end of its response.

gRPC hands a call over when its headers have come, reads requests for as long as they take to arrive, and
keeps responses until they are read. Every method is therefore served as one that reads its request itself:
who calls is known, and refused, before a byte of the request is read.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from serving.api import connections
from serving.api.caller import HEALTH
from serving.api.intake import RETRY, HeldCall, Intake
from serving.api.quota import Quota
from serving.api.surrounding import Context
from serving.errors import Exhausted, InvalidArgument
from serving.options import MAX_ADDRESS_CONNECTIONS, MAX_STALLED, MAX_UNREAD, READ_RATE

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

log = logging.getLogger(__name__)

SCAN_INTERVAL = 1.0
"""Seconds between two scans for connections to close."""


class Transport:
    """A layer that reads requests and sends responses, within bounds; belongs to one event loop.

    Args:
        read_timeout: seconds for which a client may read nothing of a response.
        closed: called with the reason whenever a connection is closed.
    """

    def __init__(
        self, read_timeout: float, closed: Callable[[str], None] = lambda reason: None
    ) -> None:
        self._read_timeout = read_timeout
        self._closed = closed
        # Health checks count apart, so that calls which fill their quota take nobody's health away.
        self._intakes = {True: Intake(), False: Intake()}
        self._unread = Quota(MAX_UNREAD)
        self._calls: set[HeldCall] = set()

    def __call__(self, method: str, handler: "Handler") -> "Handler":
        """Wrap a handler whose messages are bytes in one that reads its requests itself."""
        intake = self._intakes[method.startswith(HEALTH)]
        kind = "stream" if handler.request_streaming else "unary"
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(
                    getattr(handler, f"{kind}_stream"), intake, handler.request_streaming
                )
            )
        return grpc.stream_unary_rpc_method_handler(
            self._unary(getattr(handler, f"{kind}_unary"), intake, handler.request_streaming)
        )

    def _unary(self, behaviour: Any, intake: Intake, is_request_streaming: bool) -> Any:
        request: Any = requests_of if is_request_streaming else request_of

        async def call(_: object, context: Context) -> bytes:
            held = self._enter(intake, context)
            found = request(intake, held, context)
            content = found if is_request_streaming else await found
            response: bytes = await behaviour(content, context)
            self._reserve(held, len(response))
            held.deadline = time.monotonic() + self._read_timeout + len(response) / READ_RATE
            return response

        return call

    def _streaming(self, behaviour: Any, intake: Intake, is_request_streaming: bool) -> Any:
        request: Any = requests_of if is_request_streaming else request_of

        async def call(_: object, context: Context) -> None:
            held = self._enter(intake, context)
            found = request(intake, held, context)
            content = found if is_request_streaming else await found
            async with aclosing(behaviour(content, context)) as responses:
                async for response in responses:
                    await self._write(held, context, response)

        return call

    def _enter(self, intake: Intake, context: Context) -> HeldCall:
        held = intake.enter(context)
        self._calls.add(held)
        when_done: Any = context.add_done_callback
        when_done(lambda _: self._leave(held))
        return held

    def _leave(self, held: HeldCall) -> None:
        self._calls.discard(held)
        self._unread.release(held.client, held.unread)

    def _reserve(self, held: HeldCall, size: int) -> None:
        """Count the bytes of a response until they are sent; raises Exhausted."""
        if not self._unread.acquire(held.client, size):
            raise Exhausted(
                f"{self._unread.held_by(held.client):,} bytes of responses wait for this client to read "
                f"them, and this one has {size:,}; one client may have {self._unread.total // 2:,}",
                RETRY,
            )
        held.unread = size

    async def _write(self, held: HeldCall, context: Context, response: bytes) -> None:
        """Send one message of a stream; raises Exhausted if the client does not read."""
        self._reserve(held, len(response))
        held.deadline = time.monotonic() + self._read_timeout
        try:
            await asyncio.wait_for(context.write(response), self._read_timeout)
        except TimeoutError:  # what was written stays with gRPC, and counts until the call is over
            raise Exhausted(
                f"nothing was read for {self._read_timeout:g} s; go on with start_index, and read faster"
            ) from None
        except grpc.aio.InternalError:  # the client has left in this moment
            raise asyncio.CancelledError from None
        self._unread.release(held.client, held.unread)
        held.unread, held.deadline = 0, math.inf

    async def watch(self, port: int) -> None:
        """Close connections that hold too much for too long, until cancelled.

        Args:
            port: where clients connect.
        """
        while True:
            await asyncio.sleep(SCAN_INTERVAL)
            stalled = self._stalled(time.monotonic())
            await asyncio.to_thread(self._close, port, stalled)

    def _stalled(self, now: float) -> list[str]:
        """Return the peers that have left too many bytes unread for too long."""
        unread: Counter[str] = Counter()
        for held in self._calls:
            if held.deadline < now:
                unread[held.peer] += held.unread
        return [peer for peer, size in unread.items() if size > MAX_STALLED]

    def _close(self, port: int, stalled: list[str]) -> None:
        for peer in stalled:
            if connections.close(port, peer):
                self._closed("unread")
                log.warning("closed the connection of %s: it reads no responses", peer)
        for _ in range(connections.close_excess(port, MAX_ADDRESS_CONNECTIONS)):
            self._closed("excess")


async def request_of(intake: Intake, held: HeldCall, context: Context) -> bytes:
    """Read the only message of a call; raises InvalidArgument if there is none."""
    content: Any = await intake.read(held, context)
    if content is grpc.aio.EOF:
        raise InvalidArgument("request", "no message was sent")
    found: bytes = content
    return found


async def requests_of(intake: Intake, held: HeldCall, context: Context) -> AsyncIterator[bytes]:
    """Read the messages of a call, until there are no more."""
    while (content := await intake.read(held, context)) is not grpc.aio.EOF:
        yield content
