"""Bounds on the calls and the memory that a peer can hold, from a call's headers to its response's end.

gRPC starts a handler when the headers of a call have arrived, waits for requests without a time limit, and
buffers responses until the client reads them. Every method is therefore served as a streaming one whose
handler reads its request itself: the client is authenticated, or refused, before the request is read.
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
from serving.api.intake import RETRY_AFTER, ActiveCall, Intake
from serving.api.quota import Quota
from serving.api.surrounding import Context
from serving.errors import Exhausted, InvalidArgument
from serving.options import (
    MAX_ADDRESS_CONNECTIONS,
    MAX_LATE,
    MAX_STALLED,
    MAX_UNREAD,
    READ_RATE,
)

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

log = logging.getLogger(__name__)

SCAN_INTERVAL = 1.0
"""Seconds between two scans for connections that must be closed."""
LATE_AFTER = 1.0
"""Seconds after which a response that was not read is late."""


class Transport:
    """Interceptor that bounds what requests and responses may hold; belongs to one event loop.

    Args:
        read_timeout: seconds after which a client that reads nothing of a response has stalled.
        closed: called with the reason whenever a connection is closed.
    """

    def __init__(
        self, read_timeout: float, closed: Callable[[str], None] = lambda reason: None
    ) -> None:
        self._read_timeout = read_timeout
        self._closed = closed
        # Health checks have quotas of their own, so that they succeed when other calls exhaust theirs.
        self._intakes = {True: Intake(), False: Intake()}
        self._unread = Quota(MAX_UNREAD)
        self._calls: set[ActiveCall] = set()

    def __call__(self, method: str, handler: "Handler") -> "Handler":
        """Wrap a handler of serialized messages in one that reads its requests itself."""
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
        async def handle(_: object, context: Context) -> bytes:
            call, content = await self._begin(intake, context, is_request_streaming)
            response: bytes = await behaviour(content, context)
            self._reserve(call, len(response))
            self._finish(intake, call, self._read_timeout + len(response) / READ_RATE)
            return response

        return handle

    def _streaming(self, behaviour: Any, intake: Intake, is_request_streaming: bool) -> Any:
        async def handle(_: object, context: Context) -> None:
            call, content = await self._begin(intake, context, is_request_streaming)
            async with aclosing(behaviour(content, context)) as responses:
                try:
                    async for response in responses:
                        await self._write(call, context, response)
                finally:
                    self._finish(intake, call, 0)

        return handle

    async def _begin(
        self, intake: Intake, context: Context, is_request_streaming: bool
    ) -> tuple[ActiveCall, Any]:
        """Admit a call and read its request; return both. Several requests are an iterator."""
        call = intake.enter(context)
        self._calls.add(call)
        when_done: Any = context.add_done_callback
        when_done(lambda _: self._end(call))
        if is_request_streaming:
            return call, read_requests(intake, call, context)
        return call, await read_request(intake, call, context)

    @staticmethod
    def _finish(intake: Intake, call: ActiveCall, seconds: float) -> None:
        """Stop counting a call whose last response must be read within some seconds.

        A client that reads nothing would otherwise occupy the place of a call for as long as it likes.
        """
        call.response_ready_at = time.monotonic()
        call.deadline = call.response_ready_at + seconds
        intake.uncount(call)

    def _end(self, call: ActiveCall) -> None:
        self._calls.discard(call)
        self._unread.release(call.client, call.unread)

    def _reserve(self, call: ActiveCall, size: int) -> None:
        """Count the bytes of a response as unread; raises Exhausted if the client leaves too many unread."""
        if not self._unread.acquire(call.client, size):
            raise Exhausted(
                f"{self._unread.held_by(call.client):,} bytes of responses wait for this client to read "
                f"them, and this one has {size:,}; one client may have {self._unread.total // 2:,}",
                RETRY_AFTER,
            )
        call.unread = size

    async def _write(self, call: ActiveCall, context: Context, response: bytes) -> None:
        """Send one message of a stream; raises Exhausted if the client does not read."""
        self._reserve(call, len(response))
        call.deadline = time.monotonic() + self._read_timeout
        try:
            await asyncio.wait_for(context.write(response), self._read_timeout)
        except TimeoutError:  # gRPC still buffers the response, so it counts until the call ends
            raise Exhausted(
                f"nothing was read for {self._read_timeout:g} s; go on with start_index, and read faster"
            ) from None
        except grpc.aio.InternalError:  # the client has just disconnected
            raise asyncio.CancelledError from None
        self._unread.release(call.client, call.unread)
        call.unread, call.deadline = 0, math.inf

    async def watch(self, port: int) -> None:
        """Close stalled and excess connections periodically, until cancelled.

        Args:
            port: the port that the server listens on.
        """
        while True:
            await asyncio.sleep(SCAN_INTERVAL)
            stalled = self._stalled_peers(time.monotonic())
            try:
                await asyncio.to_thread(self._close, port, stalled)
            except OSError as error:  # the process has no descriptor left
                log.warning("cannot look for connections to close: %s", error.strerror)

    def _stalled_peers(self, now: float) -> set[str]:
        """Return the peers with too many overdue bytes, and those with the most late responses."""
        unread: Counter[str] = Counter()
        late: Counter[str] = Counter()
        for call in self._calls:
            if call.deadline < now:
                unread[call.peer] += call.unread
            if call.response_ready_at + LATE_AFTER < now:
                late[call.peer] += 1
        stalled = {peer for peer, size in unread.items() if size > MAX_STALLED}
        excess = late.total() - MAX_LATE
        for peer, count in late.most_common():
            if excess <= 0:
                break
            stalled.add(peer)
            excess -= count
        return stalled

    def _close(self, port: int, stalled: set[str]) -> None:
        for peer in connections.close(port, stalled) if stalled else ():
            self._closed("unread")
            log.warning("closed the connection of %s: it reads no responses", peer)
        for _ in range(connections.close_excess(port, MAX_ADDRESS_CONNECTIONS)):
            self._closed("excess")


async def read_request(intake: Intake, call: ActiveCall, context: Context) -> bytes:
    """Read the single message of a call; raises InvalidArgument if there is none."""
    content: Any = await intake.read(call, context)
    if content is grpc.aio.EOF:
        raise InvalidArgument("request", "no message was sent")
    message: bytes = content
    return message


async def read_requests(intake: Intake, call: ActiveCall, context: Context) -> AsyncIterator[bytes]:
    """Read all messages of a call."""
    while (content := await intake.read(call, context)) is not grpc.aio.EOF:
        yield content
