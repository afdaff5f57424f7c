"""The room in which patterns are compiled: one thread, for which callers wait in turn and not for long."""

import asyncio
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from serving.api.pace import Pace
from serving.errors import DeadlineExceeded, Exhausted

Result = TypeVar("Result")

MOST = (128, 32)
"""Compilations that may wait: in all, and of one caller."""
SWITCH, USUAL = 0.0005, sys.getswitchinterval()
"""Seconds after which a thread must let another run Python: while something is compiled, and else. A call
has many short turns of Python, before each of which it may wait so long for what is compiled beside it."""
MISSED = "the deadline passed before the constraints were compiled"


@dataclass(eq=False)
class Ticket:
    """One thing to be compiled, for as many calls as wait for it."""

    caller: str
    key: Hashable
    work: Callable[[], Any]
    result: "asyncio.Future[Any]"
    calls: int = 0


def giving_way(work: Callable[[], Result]) -> Result:
    """Do work beside which other threads soon have their turn."""
    sys.setswitchinterval(SWITCH)
    try:
        return work()
    finally:
        sys.setswitchinterval(USUAL)


class Room:
    """Does one thing after another in a thread of its own, a caller's then the next caller's.

    Belongs to one event loop, in which all that it knows of who waits is changed. Threads that run Python
    take time from each other: more of them would compile no faster, and would hold up all other calls.

    Args:
        most: that may wait, in all.
        most_each: that may wait of one caller.
    """

    def __init__(self, most: int = MOST[0], most_each: int = MOST[1]) -> None:
        self.most = most
        self.most_each = most_each
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, "compiling")
        self._turns: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._tickets: dict[tuple[str, Hashable], Ticket] = {}
        self._is_busy = False
        self._pace = Pace()

    async def run(
        self, caller: str, key: Hashable, work: Callable[[], Result], deadline: float | None = None
    ) -> Result:
        """What the work comes to; it is done once for all calls of a caller that wait with one key.

        A call that leaves before its turn, or whose deadline passes, costs nothing.

        Args:
            caller: whose turn it takes.
            key: two pieces of work with the same one are the same.
            work: is done in the thread; what it raises is raised here.
            deadline: the instant of time.monotonic() at which the caller leaves; None for never.

        Raises:
            Exhausted: too much waits.
            DeadlineExceeded: the deadline passed before the work was done.
        """
        if deadline is not None and deadline <= time.monotonic():
            raise DeadlineExceeded(MISSED)
        ticket = self._tickets.get((caller, key)) or self._enter(caller, key, work)
        ticket.calls += 1
        try:
            async with asyncio.timeout_at(deadline):  # the loop's clock is time.monotonic()
                found: Result = await asyncio.shield(ticket.result)
                return found
        except TimeoutError:
            raise DeadlineExceeded(MISSED) from None
        finally:
            ticket.calls -= 1
            self._drop_if_unwanted(ticket)

    def _enter(self, caller: str, key: Hashable, work: Callable[[], Any]) -> Ticket:
        mine = len(self._turns.get(caller, ()))
        if self.waiting >= self.most:
            self._refuse(f"{self.waiting:,} patterns wait")
        if mine >= self.most_each:
            self._refuse(f"{mine:,} patterns of this caller wait")
        result = asyncio.get_running_loop().create_future()
        ticket = self._tickets[caller, key] = Ticket(caller, key, work, result)
        self._turns.setdefault(caller, deque()).append(ticket)
        self.waiting += 1
        self._begin_next()
        return ticket

    def _refuse(self, reason: str) -> NoReturn:
        """Until one of a caller's own has had its turn, every other caller has had one."""
        raise Exhausted(
            f"the call is refused: {reason} to be compiled; try again later, or elsewhere",
            self._pace.pause(len(self._turns)),
        )

    def _begin_next(self) -> None:
        if self._is_busy or not self._turns:
            return
        caller, tickets = self._turns.popitem(last=False)
        ticket = tickets.popleft()
        if tickets:
            self._turns[caller] = tickets  # behind all others
        self.waiting -= 1
        self._is_busy = True
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        done = loop.run_in_executor(self._thread, giving_way, ticket.work)
        done.add_done_callback(lambda done: self._end(ticket, done, time.monotonic() - begun))

    def _end(self, ticket: Ticket, done: "asyncio.Future[Any]", seconds: float) -> None:
        self._is_busy = False
        self._pace.add(seconds)
        self._tickets.pop((ticket.caller, ticket.key), None)
        if done.cancelled() or ticket.result.cancelled():
            ticket.result.cancel()
        elif error := done.exception():
            ticket.result.set_exception(error)
            ticket.result.exception()  # so that it is not logged as lost when all have left
        else:
            ticket.result.set_result(done.result())
        self._begin_next()

    def _drop_if_unwanted(self, ticket: Ticket) -> None:
        """Let nobody wait for what nobody asks for any more."""
        tickets = self._turns.get(ticket.caller, ())
        if ticket.calls or ticket not in tickets:
            return
        assert isinstance(tickets, deque)
        tickets.remove(ticket)
        del self._tickets[ticket.caller, ticket.key]
        if not tickets:
            del self._turns[ticket.caller]
        self.waiting -= 1
