"""Calls from their headers until their request has arrived, within bounds for each client and for all.

Where there are too many, those give way that have waited longest for a request: requests of clients that
mean well arrive with the headers or right after.
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

PATIENCE = 0.25
"""Seconds that a request may take to arrive while others wait for its place."""
RETRY = 1.0
"""Seconds after which a refused call may be tried again."""


class HeldCall:
    """A call in progress, and what the server holds for it.

    Attributes:
        client: whose quotas it counts against.
        peer: its connection, as gRPC writes it.
        since: instant of time.monotonic() at which its headers came, or at which it began to be read.
        timeout: of the message that is awaited; None while none is.
        unread: bytes of its response that were handed to gRPC and not sent yet.
        deadline: instant of time.monotonic() by which they must have been sent.
        is_counted: whether it counts as a call in progress.
    """

    __slots__ = ("client", "deadline", "is_counted", "peer", "since", "timeout", "unread")

    def __init__(self, client: str, peer: str) -> None:
        self.client = client
        self.peer = peer
        self.since = time.monotonic()
        self.timeout: asyncio.Timeout | None = None
        self.unread = 0
        self.deadline = math.inf
        self.is_counted = True


class Intake:
    """Counts calls in progress and reads their requests; belongs to one event loop."""

    def __init__(self) -> None:
        self.calls = Quota(MAX_CALLS)
        self.uploads = Quota(MAX_UPLOADS)
        self._pending: dict[HeldCall, None] = {}  # those that await a request, oldest first
        self._reading: dict[HeldCall, None] = {}  # those of them that are being read, oldest first
        self._waiting: list[asyncio.Future[None]] = []  # others, which wait to be read
        self._relief: asyncio.TimerHandle | None = None

    def enter(self, context: Context) -> HeldCall:
        """Count a call until it is over; raises Exhausted."""
        held = HeldCall(caller(), context.peer())
        while not self.calls.acquire(held.client):
            stale = self._oldest(self._pending, self.calls, held.client)
            if stale is None or time.monotonic() - stale.since < PATIENCE:
                own, every = self.calls.held_by(held.client), self.calls.held
                raise Exhausted(
                    f"{every:,} calls are in progress, {own:,} of them of this client; all clients "
                    f"together may have {self.calls.total:,}, and one of them half",
                    RETRY,
                )
            self._evict(stale)
        when_done: Any = context.add_done_callback
        when_done(lambda _: self._leave(held))
        self._pending[held] = None
        return held

    async def read(self, held: HeldCall, context: Context) -> Any:
        """Read a message of a call, or EOF, once it is this call's turn: gRPC holds what has come of it.

        Raises:
            DeadlineExceeded: it took too long to arrive.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT) as held.timeout:
                await self._turn(held)
                return await context.read()
        except TimeoutError:
            raise DeadlineExceeded(
                f"the request did not arrive within {REQUEST_TIMEOUT:g} s, or {PATIENCE:g} s while too "
                "many others were awaited"
            ) from None
        finally:
            held.timeout = None
            self._pending.pop(held, None)
            self._stop_reading(held)

    async def _turn(self, held: HeldCall) -> None:
        """Wait until the call may be read."""
        while not self.uploads.acquire(held.client):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._relieve_soon()
            try:
                await waiter
            finally:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
        held.since = time.monotonic()
        self._reading[held] = None

    def _relieve_soon(self) -> None:
        """See to it that a call which waits to be read gets the place of one that takes too long."""
        if self._relief is None and self._waiting and self._reading:
            wait = next(iter(self._reading)).since + PATIENCE - time.monotonic()
            self._relief = asyncio.get_running_loop().call_later(max(wait, 0.01), self._relieve)

    def _relieve(self) -> None:
        self._relief = None
        stale = time.monotonic() - PATIENCE
        for held in [held for held in self._reading if held.since <= stale][: len(self._waiting)]:
            self._evict(held)
        self._relieve_soon()

    def _stop_reading(self, held: HeldCall) -> None:
        if held in self._reading:
            del self._reading[held]
            self.uploads.release(held.client)
            if self._waiting:  # the newest, since the oldest waits for what may never come
                waiter = self._waiting.pop()
                if not waiter.done():  # else its call has just ended
                    waiter.set_result(None)

    def _evict(self, held: HeldCall) -> None:
        """End the wait for a call's request."""
        assert held.timeout is not None
        held.timeout.reschedule(0)
        self._pending.pop(held, None)
        self._stop_reading(held)
        self._leave(held)

    def _leave(self, held: HeldCall) -> None:
        if held.is_counted:
            held.is_counted = False
            self.calls.release(held.client)

    @staticmethod
    def _oldest(calls: dict[HeldCall, None], quota: Quota, client: str) -> HeldCall | None:
        """Return the oldest of the calls that keep a client from having one more."""
        if quota.is_full:
            return next(iter(calls), None)
        return next((held for held in calls if held.client == client), None)
