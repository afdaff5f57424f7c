"""Which strings of a job are drawn next, and which of the drawn ones become its samples.

A draft is one attempt at the sample of one index. Drafts finish in any order, yet the samples are those
that one would get by drawing index after index, attempt after attempt: so they do not depend on how many
rows there were, nor on `n`. Knows neither rows nor models.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count, repeat
from typing import NamedTuple

import numpy as np

from serving.engine.job import Draw, FinishReason, Sample, Shortfall, Usage
from serving.engine.philox import UInt64
from serving.engine.rows import Records, joined
from serving.engine.samples import Samples
from serving.vocabulary import is_normalized


class Taken(NamedTuple):
    """A text that must not be drawn again: as one that ends there, as one that is cut there, or both."""

    text: str
    ended: bool = True
    cut: bool = True


ENOUGH_ATTEMPTS = 64
"""After so many drafts that did not fit, one index draws without replacement, as do all after it."""


class Drafts:
    """The drafts of one job.

    Attributes:
        usage: what was drawn and thrown away.
        shortfall: why no more drafts are wanted, though samples are missing.
        is_sequential: whether drafts are drawn one at a time, without replacement; all that are under way
            when that begins are of no use any more.
    """

    def __init__(self, job: Draw) -> None:
        self.job = job
        self.usage = Usage()
        self.shortfall: Shortfall | None = None
        self.is_sequential = False
        self.resolved = 0 if job.selection.is_unique else job.start
        self._next = self.resolved
        self._retries: list[int] = []
        self._attempts: dict[int, int] = {}
        self._finished: dict[int, Sample] = {}
        self._index_of: dict[str, int] = {}
        self._rejected: list[tuple[int, Taken]] = []
        self._patience = min(ENOUGH_ATTEMPTS, max(1, job.selection.max_attempts // 2))
        self._is_out = False
        self._stuck: set[int] = set()

    @property
    def is_complete(self) -> bool:
        """Every sample is there, or no more are to be had."""
        return self.resolved >= self.job.n or self.shortfall is not None

    def __contains__(self, index: int) -> bool:
        """Whether a draft of this index stands."""
        return index in self._finished or index < self.resolved

    @property
    def wanted(self) -> int:
        """How many drafts could begin now."""
        if self.is_complete:
            return 0
        if self.is_sequential:
            return 0 if self._is_out else 1
        return len(self._retries) + max(self._end - self._next, 0)

    @property
    def _end(self) -> int:
        return min(self.job.n, self.job.collected + self.job.window)

    def begin(self, count: int) -> tuple[UInt64, UInt64]:
        """The indices and the attempts of so many drafts, of `wanted`, that begin now."""
        if self.is_sequential:
            self._is_out = True
            return pair([(self.resolved, self._attempts.get(self.resolved, 0))])
        indices = [heappop(self._retries) for _ in range(min(count, len(self._retries)))]
        begun = [(index, self._attempts[index]) for index in indices]
        first = self._next
        self._next += count - len(begun)
        begun.extend((index, 0) for index in range(first, self._next))
        return pair(begun)

    def finish(self, draft: Sample) -> None:
        """Take a draft that has come to its end."""
        self._is_out = False
        reason = self._reason(draft)
        if reason is None and self.job.selection.is_unique:
            reason = self._compare(draft)
        if reason is None:
            self._finished[draft.index] = draft
        else:
            self._reject(draft, reason)

    def _reason(self, draft: Sample) -> str | None:
        """Why a draft is not wanted, whatever the others are."""
        selection = self.job.selection
        if selection.normalized_only and not is_normalized(draft.text):
            return "pattern"
        if selection.complete_only and draft.finish_reason is FinishReason.MAX_LENGTH:
            return "length"
        if draft.text in selection.excluded:
            return "excluded"
        if selection.known is not None and draft.text in selection.known:
            return "known"
        return None

    def _compare(self, draft: Sample) -> str | None:
        """Settle which of two drafts of the same text stays: the one that comes first."""
        other = self._index_of.get(draft.text, draft.index)
        if other < draft.index:
            return "duplicate"
        self._index_of[draft.text] = draft.index
        if other > draft.index:
            self._reject(self._finished.pop(other), "duplicate")
        return None

    def reject(self, draft: Sample, reason: str) -> None:
        """Throw away a draft that the engine itself found not to fit."""
        self._is_out = False
        self._reject(draft, reason)

    def _reject(self, draft: Sample, reason: str) -> None:
        field = f"rejected_{reason}"
        setattr(self.usage, field, getattr(self.usage, field) + 1)
        if reason != "duplicate" and not self.is_sequential:  # a duplicate's text is a sample's
            ended = reason != "length" or draft.finish_reason is FinishReason.END
            self._rejected.append((draft.index, Taken(draft.text, ended)))
        attempts = self._attempts[draft.index] = draft.attempts
        if attempts >= self.job.selection.max_attempts or (
            attempts >= self._patience and not self.is_sequential
        ):
            self._stuck.add(draft.index)
        elif not self.is_sequential:
            heappush(self._retries, draft.index)

    def accepted(self) -> Sequence[Sample]:
        """The samples that have become certain since the last time, in order."""
        ready = taken_from(self._finished, self.resolved)
        self.resolved += len(ready)
        if self.resolved in self._stuck:
            self._stuck.discard(self.resolved)
            if self._attempts[self.resolved] >= self.job.selection.max_attempts:
                self.shortfall = Shortfall.ATTEMPTS
            else:
                self._go_sequential()
        wanted = [sample for sample in ready if sample.index >= self.job.start]
        self.usage.samples += len(wanted)
        return wanted

    def _go_sequential(self) -> None:
        self.is_sequential = True
        self._is_out = False
        self._finished.clear()
        self._retries.clear()
        self._stuck.clear()
        reached = self._attempts[self.resolved]
        self._attempts = {self.resolved: reached}
        self._index_of = {t: i for t, i in self._index_of.items() if i < self.resolved}
        self._rejected = [(i, d) for i, d in self._rejected if i <= self.resolved]

    @property
    def taken(self) -> list[Taken]:
        """What drawing without replacement must not give again."""
        samples = [Taken(text) for text in self._index_of]
        excluded = [Taken(text) for text in self.job.selection.excluded]
        return sorted({*samples, *excluded, *(taken for _, taken in self._rejected)})


class FreeDrafts:
    """The drafts of a job that wants them all: as `Drafts`, with less to do."""

    is_sequential = False

    def __init__(self, job: Draw) -> None:
        self.job = job
        self.usage = Usage()
        self.shortfall: Shortfall | None = None
        self.resolved = self._next = job.start
        self._finished: dict[int, Sample] = {}
        self._columns: list[Records] = []  # finished as well, many at a time

    def __contains__(self, index: int) -> bool:
        return True

    @property
    def is_complete(self) -> bool:
        """Every sample is there, or no more are to be had."""
        return self.resolved >= self.job.n or self.shortfall is not None

    @property
    def wanted(self) -> int:
        """How many drafts could begin now."""
        return max(min(self.job.n, self.job.collected + self.job.window) - self._next, 0)

    @property
    def next(self) -> int:
        """The index of the next that begins."""
        return self._next

    def begin(self, count: int) -> tuple[UInt64, UInt64]:
        """The indices and the attempts of so many drafts, of `wanted`, that begin now."""
        first = self._next
        self._next += count
        return np.arange(first, self._next, dtype=np.uint64), np.zeros(count, np.uint64)

    def finish(self, draft: Sample) -> None:
        """Take a draft that has come to its end."""
        self._finished[draft.index] = draft

    def finish_all(self, drafts: Samples) -> None:
        """Take several."""
        self._columns.append(drafts.records)

    def reject(self, draft: Sample, reason: str) -> None:
        """Never called."""
        raise AssertionError(reason)

    def accepted(self) -> Sequence[Sample]:
        """The samples that have become certain since the last time, in order."""
        ready = self._ready()
        self.resolved += len(ready)
        self.usage.samples += len(ready)
        return ready

    def _ready(self) -> Sequence[Sample]:
        if not self._columns:
            return taken_from(self._finished, self.resolved)
        every = Samples(joined(self._columns))
        self._columns = []
        if self._finished:
            self._finished.update((sample.index, sample) for sample in every)
            return taken_from(self._finished, self.resolved)
        ready, rest = every.from_index(self.resolved)
        if len(rest):
            self._columns.append(rest.records)
        return ready

    @property
    def taken(self) -> list[Taken]:
        """Nothing."""
        return []


def taken_from(finished: dict[int, Sample], first: int) -> list[Sample]:
    """Take out the samples from an index on, as far as they follow one upon the other."""
    popped = map(finished.pop, count(first), repeat(None))
    return list(iter(popped.__next__, None))


def drafts_of(job: Draw) -> Drafts | FreeDrafts:
    """The drafts of a job."""
    return FreeDrafts(job) if job.selection.is_free else Drafts(job)


def pair(begun: list[tuple[int, int]]) -> tuple[UInt64, UInt64]:
    """Indices and attempts as columns."""
    columns = np.array(begun, np.uint64)
    return columns[:, 0], columns[:, 1]
