"""A job that has a lane for itself: its next drafts take the places of those that are done at once.

So rows that end cost a walk nothing; what has come of them is told many at a time.
"""

from collections.abc import Callable, Mapping
from time import perf_counter

from serving.engine.contexts import Contexts
from serving.engine.endings import AT_ONCE, WHILE
from serving.engine.entry import DrawEntry, Entry
from serving.engine.rows import Records
from serving.engine.scheduler import FairQueue
from serving.engine.walking import Relief, Walked


class Relieving:
    """Lets rows walk, and others take the places of those that are done.

    Args:
        entries: those of the lane.
        queue: which of them want rows.
        contexts: where rows are.
        begun: told of an entry, and of how many of its drafts have just taken places.
        told: told of an entry, and of the rows whose places its drafts have taken since the last time.
    """

    def __init__(
        self,
        entries: Mapping[int, Entry],
        queue: FairQueue,
        contexts: Contexts,
        begun: Callable[[DrawEntry, int], None],
        told: Callable[[DrawEntry, Records], None],
    ) -> None:
        self._entries = entries
        self._queue = queue
        self._contexts = contexts
        self._count = begun
        self._tell = told
        self._told_at = 0.0
        self._under_way: tuple[DrawEntry, Relief] | None = None

    def walk(self, live: Records) -> Walked:
        """As Contexts.walk."""
        if len(self._entries) != 1:
            self.end()
        else:
            self._under_way = self._under_way or self._next()
        if self._under_way is None:
            return self._contexts.walk(live)
        entry, relief = self._under_way
        walked = self._contexts.walk(live, relief)
        if walked.relieved:
            self._count(entry, walked.relieved)
        is_much = walked.relieved and (relief.waiting >= AT_ONCE or relief.is_used_up)
        if is_much or perf_counter() - self._told_at >= WHILE:
            self.tell()
        return walked

    def _next(self) -> tuple[DrawEntry, Relief] | None:
        """Drafts of the only job that there is, if it wants more than there are rows."""
        walker = self._contexts.walker
        if not self._queue or not walker.is_compiled:
            return None
        (entry,) = self._entries.values()
        if not isinstance(entry, DrawEntry) or (records := entry.ahead(walker)) is None:
            return None
        return entry, self._contexts.relief(records, entry.kept)

    def tell(self) -> None:
        """Let no rows wait that are done."""
        if self._under_way and self._under_way[1].waiting:
            entry, relief = self._under_way
            self._told_at = perf_counter()
            if relief.is_used_up:
                self._under_way = None
            self._tell(entry, relief.done())

    def end(self) -> None:
        """The same, and let none take places from now on; whoever lets rows in does this first."""
        try:
            self.tell()
        finally:
            self._under_way = None
