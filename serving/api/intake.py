"""Admission of calls and reading of their requests, bounded for each client and for all clients together.

When a bound is reached, the calls that have waited longest for their request are evicted: well-behaved
clients send the request together with the headers or right after them.
"""

import asyncio
import math
import time
from typing import Any

from serving.api.caller import caller
from serving.api.quota import Quota
from serving.api.surrounding import Context
from serving.errors import DeadlineExceeded, Exhausted
from serving.options import MAX_CALLS, MAX_UPLOADS, REQUEST_TIMEOUT

MIN_WAIT = 0.25
"""Seconds after which a call whose request has not arrived may be evicted in favour of another."""
RETRY_AFTER = 1.0
"""Seconds after which a client may retry a refused call."""


class ActiveCall:
    """A call in progress and the resources that the server holds for it.

    Attributes:
        client: the client whose quotas it counts against.
        peer: its connection, in the form of grpc.aio.ServicerContext.peer().
        waiting_since: time.monotonic() when its headers arrived, or when reading its current message began.
        timeout: timeout of the message that is being read; None if none is.
        unread: bytes of its response that were passed to gRPC and not sent yet.
        deadline: time.monotonic() by which they must have been sent.
        response_ready_at: time.monotonic() when its last response was passed to gRPC; infinite before.
        is_counted: whether it still counts against the quota of calls; an evicted call does not, nor does
            one whose response is ready.
    """

    __slots__ = (
        *("client", "deadline", "is_counted", "peer", "response_ready_at"),
        *("timeout", "unread", "waiting_since"),
    )

    def __init__(self, client: str, peer: str) -> None:
        self.client = client
        self.peer = peer
        self.waiting_since = time.monotonic()
        self.timeout: asyncio.Timeout | None = None
        self.unread = 0
        self.deadline = self.response_ready_at = math.inf
        self.is_counted = True


class Intake:
    """Bounds the calls in progress and the requests that are read at once; belongs to one event loop."""

    def __init__(self) -> None:
        self.calls = Quota(MAX_CALLS)
        self.uploads = Quota(MAX_UPLOADS)
        self._pending: dict[ActiveCall, None] = {}  # no message received yet, oldest first
        self._reading: dict[ActiveCall, None] = {}  # message being read, oldest first
        self._waiting: list[asyncio.Future[None]] = []  # for a slot to read, oldest first
        self._eviction: asyncio.TimerHandle | None = None

    def enter(self, context: Context) -> ActiveCall:
        """Admit a call and count it until it ends; raises Exhausted if there are too many."""
        call = ActiveCall(caller(), context.peer())
        while not self.calls.acquire(call.client):
            stale = self._oldest(self._pending, self.calls, call.client)
            if (
                stale is None
                or stale.timeout is None  # has not begun to read
                or time.monotonic() - stale.waiting_since < MIN_WAIT
            ):
                own, every = self.calls.held_by(call.client), self.calls.held
                raise Exhausted(
                    f"{every:,} calls are in progress, {own:,} of them of this client; all clients "
                    f"together may have {self.calls.total:,}, and one of them half",
                    RETRY_AFTER,
                )
            self._evict(stale)
        when_done: Any = context.add_done_callback
        when_done(lambda _: self.uncount(call))
        self._pending[call] = None
        return call

    async def read(self, call: ActiveCall, context: Context) -> Any:
        """Read a message of a call, or EOF, once a slot is free: gRPC buffers a message while it is read.

        Raises:
            DeadlineExceeded: it took too long to arrive.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT) as call.timeout:
                await self._acquire_slot(call)
                return await context.read()
        except TimeoutError:
            raise DeadlineExceeded(
                f"the request did not arrive within {REQUEST_TIMEOUT:g} s, or {MIN_WAIT:g} s while too "
                "many others were awaited"
            ) from None
        finally:
            call.timeout = None
            self._pending.pop(call, None)
            self._stop_reading(call)

    async def _acquire_slot(self, call: ActiveCall) -> None:
        """Wait for one of the MAX_UPLOADS slots in which messages are read."""
        while not self.uploads.acquire(call.client):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._schedule_eviction()
            try:
                await waiter
            finally:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
        call.waiting_since = time.monotonic()
        self._reading[call] = None

    def _schedule_eviction(self) -> None:
        """Schedule the eviction of slow uploads, if calls wait for their slots."""
        if self._eviction is None and self._waiting and self._reading:
            wait = next(iter(self._reading)).waiting_since + MIN_WAIT - time.monotonic()
            self._eviction = asyncio.get_running_loop().call_later(
                max(wait, 0.01), self._evict_slow
            )

    def _evict_slow(self) -> None:
        self._eviction = None
        latest = time.monotonic() - MIN_WAIT
        slow = [call for call in self._reading if call.waiting_since <= latest]
        for call in slow[: len(self._waiting)]:
            self._evict(call)
        self._schedule_eviction()

    def _stop_reading(self, call: ActiveCall) -> None:
        if call in self._reading:
            del self._reading[call]
            self.uploads.release(call.client)
            if self._waiting:  # the newest: the requests of the oldest may never arrive
                waiter = self._waiting.pop()
                if not waiter.done():  # it is done if its call has just ended
                    waiter.set_result(None)

    def _evict(self, call: ActiveCall) -> None:
        """Let the pending read of a call time out at once, and release its slot and its place."""
        assert call.timeout is not None
        call.timeout.reschedule(0)
        self._pending.pop(call, None)
        self._stop_reading(call)
        self.uncount(call)

    def uncount(self, call: ActiveCall) -> None:
        """Stop counting a call against the quota of calls."""
        if call.is_counted:
            call.is_counted = False
            self.calls.release(call.client)

    @staticmethod
    def _oldest(calls: dict[ActiveCall, None], quota: Quota, client: str) -> ActiveCall | None:
        """Return the oldest call whose end would let a client have one more."""
        if quota.is_full:
            return next(iter(calls), None)
        return next((call for call in calls if call.client == client), None)
