"""Event-loop time for the long work of calls: one slice at a time, callers in turn.

Lists are checked and answers are built in the event loop, where everything else waits meanwhile. Calls that
each yield now and then are not enough: 64 of them do 64 slices of work between two polls of the network.
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
"""Seconds of long work, for all calls together, in one of so many iterations of the event loop. A call takes
many iterations, in each of which it would wait for a slice if every iteration had one; it is accepted in
about four, one call after the other."""
SMALL = 128
"""Size of the work that is done at once: next to a slice it is nothing. A unit takes about a microsecond."""
BYTES = 32
"""Bytes of a request that are checked and encoded in about a microsecond."""


@dataclass(eq=False)
class Work:
    """Steps that a call has yet to take, and the results of those that it took."""

    steps: Iterator[Any]
    done: "asyncio.Future[None]"
    results: list[Any] = field(default_factory=list)


class LoopTime:
    """Runs long work in slices, callers in turn; belongs to one event loop.

    However many large calls there are, all others wait for one slice in EVERY iterations. A caller's calls
    are finished one after the other: all of them together would hold the most memory, end at once, and be
    followed by as many new ones at once.

    Args:
        slice_: seconds of a slice.
    """

    def __init__(self, slice_: float = SLICE) -> None:
        self._slice = slice_
        self._turns: OrderedDict[str, deque[Work]] = OrderedDict()
        self._left = 0  # iterations until the next slice; 0 while nothing waits

    async def run(self, steps: Iterable[Result], size: float) -> list[Result]:
        """Exhaust an iterator whose every step is short; a call that is cancelled takes no more steps.

        Args:
            steps: the work; what a step raises is raised here.
            size: of all steps together, about their microseconds. Small work is done at once.
        """
        if size <= SMALL:
            return list(steps)
        work = Work(iter(steps), asyncio.get_running_loop().create_future())
        me = caller()
        self._turns.setdefault(me, deque()).append(work)
        self._schedule()
        try:
            await work.done
        finally:
            self._discard(me, work)
        return work.results

    async def call(self, work: Callable[[], Result], size: float) -> Result:
        """The result of work that is one step; see `run`."""
        (result,) = await self.run((work() for _ in range(1)), size)
        return result

    def _schedule(self) -> None:
        if self._turns and not self._left:
            self._left = EVERY
            asyncio.get_running_loop().call_soon(self._iterate)

    def _iterate(self) -> None:
        self._left -= 1
        if self._left:
            asyncio.get_running_loop().call_soon(self._iterate)
            return
        if self._turns:
            self._take_turn()
        self._schedule()

    def _take_turn(self) -> None:
        """Run a slice of the next caller's first call."""
        me, calls = self._turns.popitem(last=False)
        work = calls[0]
        self._take_on(work)
        if work.done.done():
            calls.popleft()
        if calls:
            self._turns[me] = calls  # behind all others

    def _take_on(self, work: Work) -> None:
        if work.done.done():  # its call is cancelled
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

    def _discard(self, me: str, work: Work) -> None:
        calls = self._turns.get(me, ())
        if work in calls:
            assert isinstance(calls, deque)
            calls.remove(work)
            if not calls:
                del self._turns[me]
