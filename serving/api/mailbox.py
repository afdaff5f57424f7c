"""From an engine's thread to the event loop: many answers, one wake-up."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from serving.engine.job import Job


class Mailbox:
    """Calls things in the event loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._calls: deque[Callable[[], None]] = deque()
        self._is_due = False

    def post(self, call: Callable[[], None]) -> None:
        """Have something called in the loop; from any thread. In the loop's own, it is done at once."""
        if not self._calls and threading.get_ident() == self._thread:
            call()
            return
        self._calls.append(call)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._is_due = False
        while self._calls:
            self._calls.popleft()()

    async def result_of(self, job: Job) -> Any:
        """What a job comes to; leaving cancels it."""
        waiter: asyncio.Future[Any] = self._loop.create_future()

        # It must not know the job, which would be a circle: thousands of them a second cost much to undo.
        def settle(result: "Future[Any]") -> None:
            if waiter.done() or result.cancelled():
                return
            error = result.exception()
            if error is None:
                waiter.set_result(result.result())
            else:
                waiter.set_exception(error)

        job.result.add_done_callback(lambda result: self.post(partial(settle, result)))
        try:
            return await waiter
        finally:
            job.result.cancel()
