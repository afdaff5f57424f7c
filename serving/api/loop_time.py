"""Cooperative scheduling of long work on the event loop: one time slice at a time, clients in turn.

Lists are validated and responses are built on the event loop, where they delay everything else. It is not
enough that each call yields now and then: 64 calls would do 64 slices of work between two network polls.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from serving.api.caller import caller

Result = TypeVar("Result")

SLICE, EVERY = 0.0005, 8
"""Length of a time slice in seconds, and the event-loop iterations per slice, of all calls together. A short
call takes many iterations, about four to be accepted alone, and would wait for a slice in each of them if
every iteration had one."""
SMALL = 128
"""Size, in microseconds, up to which work is done immediately, since it is negligible next to a slice."""
BYTES = 32
"""Bytes of a request that are validated and encoded in about a microsecond."""


@dataclass(eq=False)
class Work:
    """The remaining steps of a call's work, and the results of the steps already run."""

    steps: Iterator[Any]
    done: "asyncio.Future[None]"
    results: list[Any] = field(default_factory=list)


class LoopTime:
    """Runs long work in time slices, clients in turn; belongs to one event loop.

    However many large calls there are, they delay other calls by one slice in EVERY iterations. The calls of
    one client are finished one after the other: run side by side, they would hold the most memory, all end
    together, and be followed by as many new ones together.

    Args:
        slice_: length of a slice in seconds.
    """

    def __init__(self, slice_: float = SLICE) -> None:
        self._slice = slice_
        self._turns: OrderedDict[str, deque[Work]] = OrderedDict()
        self._iterations_left = 0  # iterations until the next slice; 0 while nothing waits

    async def run(self, steps: Iterable[Result], size: float) -> list[Result]:
        """Run an iterator of short steps to its end and return their results; cancellation stops it.

        Args:
            steps: the work; an exception of a step is raised here.
            size: estimated microseconds of all steps together. Up to SMALL, they are run immediately.
        """
        if size <= SMALL:
            return list(steps)
        work = Work(iter(steps), asyncio.get_running_loop().create_future())
        client = caller()
        self._turns.setdefault(client, deque()).append(work)
        self._schedule()
        try:
            await work.done
        finally:
            self._discard(client, work)
        return work.results

    async def call(self, work: Callable[[], Result], size: float) -> Result:
        """Run work of a single step and return its result; see `run`."""
        (result,) = await self.run((work() for _ in range(1)), size)
        return result

    def _schedule(self) -> None:
        if self._turns and not self._iterations_left:
            self._iterations_left = EVERY
            asyncio.get_running_loop().call_soon(self._iterate)

    def _iterate(self) -> None:
        self._iterations_left -= 1
        if self._iterations_left:
            asyncio.get_running_loop().call_soon(self._iterate)
            return
        if self._turns:
            self._run_next()
        self._schedule()

    def _run_next(self) -> None:
        """Run a slice of the first call of the next client."""
        client, calls = self._turns.popitem(last=False)
        work = calls[0]
        self._run_slice(work)
        if work.done.done():
            calls.popleft()
        if calls:
            self._turns[client] = calls  # behind all others

    def _run_slice(self, work: Work) -> None:
        if work.done.done():  # its call was cancelled
            return
        end = time.perf_counter() + self._slice
        try:
            for result in work.steps:
                work.results.append(result)
                if time.perf_counter() >= end:
                    return
            work.done.set_result(None)
        except Exception as error:
            work.done.set_exception(error)

    def _discard(self, client: str, work: Work) -> None:
        calls = self._turns.get(client)
        if calls and work in calls:
            calls.remove(work)
            if not calls:
                del self._turns[client]
