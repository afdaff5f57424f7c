"""Memory that calls under way may take, with a share for each caller."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serving.api.pace import Pace
from serving.errors import Exhausted

SEARCHES = 128 * 2**20
"""Bytes that all searches of a process may have to remember."""
ANSWERS = 256 * 2**20
"""Bytes that the answers under way in a process may come to, with what they are made from."""


class MemoryBudget:
    """Lets calls begin while there is memory for them; belongs to one event loop.

    A caller has no more than half of it, so that one alone does not keep all others away. Whoever has
    nothing under way is let in with however large a call, if nobody else has.

    Args:
        most: bytes.
        what: the calls that are counted, for the message of a refusal.
        advice: how to ask for less.
        small: bytes of calls that are not counted.
    """

    def __init__(self, most: int, what: str, advice: str, small: int = 0) -> None:
        self.most = most
        self.small = small
        self.by_caller: Counter[str] = Counter()
        self._what, self._advice = what, advice
        self._pace = Pace()

    @contextmanager
    def reserve(self, caller: str, size: int) -> Iterator[None]:
        """Count a call while it is under way; raises Exhausted if there is no memory for it."""
        if size <= self.small:
            yield
            return
        mine, under_way = self.by_caller[caller], self.by_caller.total()
        if (mine and mine + size > self.most // 2) or (under_way and under_way + size > self.most):
            raise Exhausted(
                f"the call is refused: {self._what} under way take all memory that they may have; "
                f"try again later, or {self._advice}",
                self._pace.pause(),
            )
        begun = time.monotonic()
        self.by_caller[caller] += size
        try:
            yield
        finally:
            self.by_caller[caller] -= size
            self.by_caller += Counter()  # without those that have nothing
            self._pace.add(time.monotonic() - begun)
