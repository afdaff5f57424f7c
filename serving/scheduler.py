"""Whose rows run next: bookkeeping alone, without tensors, threads or a clock of its own.

Jobs take turns, one row each, so that a call for a thousand strings does not keep a call for one waiting.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from serving.job import Job, Sample


@dataclass(eq=False)
class Entry:
    """A job under way.

    Attributes:
        context: what the engine keeps of the prefix, once it has been run.
        started: samples that have been given a row.
        samples: the finished ones, in any order.
    """

    job: Job
    context: Any = None
    started: int = 0
    samples: list[Sample] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Every sample is finished."""
        return len(self.samples) == self.job.n

    @property
    def is_abandoned(self) -> bool:
        """Nobody waits for it: cancelled, failed or answered."""
        return self.job.result.done()


class Scheduler:
    """The entries that wait for rows, and all that are under way."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._to_prefill: deque[Entry] = deque()
        self._to_sample: deque[Entry] = deque()

    def add(self, entry: Entry) -> None:
        """Take a job in; its prefix is run first unless its context is known."""
        self.entries.append(entry)
        (self._to_prefill if entry.context is None else self._to_sample).append(entry)

    def prefilled(self, entry: Entry, context: Any) -> None:
        """The prefix has been run."""
        entry.context = context
        self._to_sample.append(entry)

    def admit_prefills(self, free: int) -> list[Entry]:
        """At most `free` entries whose prefix gets a row now."""
        return [self._to_prefill.popleft() for _ in range(min(free, len(self._to_prefill)))]

    def admit_samples(self, free: int) -> list[tuple[Entry, range]]:
        """At most `free` samples, by entry and indices, that get a row now; entries take turns."""
        first: dict[Entry, int] = {}
        while self._to_sample and free > 0:
            entry = self._to_sample.popleft()
            first.setdefault(entry, entry.started)
            entry.started += 1
            free -= 1
            if entry.started < entry.job.n:
                self._to_sample.append(entry)
        return [(entry, range(start, entry.started)) for entry, start in first.items()]

    def sweep(self) -> set[Entry]:
        """Forget the entries that nobody waits for; which those were."""
        gone = {entry for entry in self.entries if entry.is_abandoned}
        if gone:
            self.entries = [entry for entry in self.entries if entry not in gone]
            self._to_prefill = deque(e for e in self._to_prefill if e not in gone)
            self._to_sample = deque(e for e in self._to_sample if e not in gone)
        return gone
