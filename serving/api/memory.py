"""Memory budgets of calls in progress, with a bound for each client."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from serving.api.pace import Pace
from serving.api.quota import Quota
from serving.errors import Exhausted

SEARCHES = 128 * 2**20
"""Memory budget of all searches of a process, in bytes."""
ANSWERS = 256 * 2**20
"""Memory budget of all responses of a process, in bytes, with the data that they are built from."""


class MemoryBudget:
    """Admits calls while there is memory for them; belongs to one event loop.

    One client may hold half of it. A call that is larger than the bounds is still admitted if nothing else
    counts against them: see `Quota.admits_oversized`.

    Args:
        total: size of the budget in bytes.
        what: the calls that are counted, for the message of a refusal.
        advice: how to ask for less.
        uncounted: size in bytes up to which a call is always admitted and not counted.
    """

    def __init__(self, total: int, what: str, advice: str, uncounted: int = 0) -> None:
        self._quota = Quota(total, admits_oversized=True)
        self._uncounted = uncounted
        self._what, self._advice = what, advice
        self._pace = Pace()

    @contextmanager
    def reserve(self, client: str, size: int) -> Iterator[None]:
        """Count a call while it is in progress; raises Exhausted if there is no memory for it."""
        if size <= self._uncounted:
            yield
            return
        if not self._quota.acquire(client, size):
            raise Exhausted(
                f"the call is refused: {self._what} under way take all memory that they may have; "
                f"try again later, or {self._advice}",
                self._pace.pause(),
            )
        started = time.monotonic()
        try:
            yield
        finally:
            self._quota.release(client, size)
            self._pace.add(time.monotonic() - started)
