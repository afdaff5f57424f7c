"""How many searches for the most likely strings are under way, by what they may have to remember."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serving.api.pace import Pace
from serving.errors import Exhausted

MOST = 128 * 2**20
"""Bytes that all searches of a process may have to remember."""


class Searches:
    """Lets searches begin while there is memory for them; belongs to one event loop.

    A caller has no more than half of it, so that one alone does not keep all others away. Whoever has
    nothing under way is let in with however large a search, if nobody else has.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.by_caller: Counter[str] = Counter()
        self._pace = Pace()

    @contextmanager
    def place(self, caller: str, size: int) -> Iterator[None]:
        """A search is under way inside; raises Exhausted if there is no memory for it."""
        mine, under_way = self.by_caller[caller], self.by_caller.total()
        if (mine and mine + size > self.most // 2) or (under_way and under_way + size > self.most):
            raise Exhausted(
                "the call is refused: the searches under way take all memory that they may have; "
                "try again later, or with fewer max_expansions",
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
