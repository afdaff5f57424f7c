"""What an engine's jobs have come to, counted so that it balances.

Jobs that were accepted have finished, were cancelled, expired, failed, or are under way; the samples that
they were accepted for were made, are missing for a reason, or are being made.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import Draw, FinishReason, Job, Usage
from serving.errors import DeadlineExceeded

Key = tuple[str, ...]
"""What is counted, then the values of its labels."""

JOBS_ACCEPTED, JOBS = "jobs_accepted", "jobs"
SAMPLES_ACCEPTED, SAMPLES, MISSING = "samples_accepted", "samples", "missing"
CHARACTERS, REJECTED = "characters", "rejected"

_REJECTED = "rejected_"
REASONS = tuple(
    f.name.removeprefix(_REJECTED) for f in fields(Usage) if f.name.startswith(_REJECTED)
)
"""Why drafts are thrown away."""


class Ledger:
    """The counts of one engine, from its start; read by any thread.

    Args:
        under_way: the entries whose work is not yet counted, by their numbers; the engine's own.
    """

    def __init__(self, under_way: Mapping[int, Entry]) -> None:
        self._under_way = under_way
        self._counts: Counter[Key] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep readers out while entries leave those under way and are counted."""
        with self._lock:
            yield

    def accept(self, job: Job) -> None:
        """A job was let in."""
        with self._lock:
            self._counts[JOBS_ACCEPTED, kind_of(job)] += 1
            if isinstance(job, Draw):
                self._counts[SAMPLES_ACCEPTED,] += job.n - job.start

    def leave(self, entry: Entry) -> None:
        """An entry whose job is done is under way no more; to be called inside `writing`."""
        for key, count in work_of(entry).items():
            if count:
                self._counts[key] += count
        self._leave(entry.job, sum(made_of(entry).values()))

    def turn_away(self, job: Job) -> None:
        """A job that was let in has failed before it began."""
        with self._lock:
            self._leave(job, 0)

    def _leave(self, job: Job, made: int) -> None:
        outcome = outcome_of(job)
        self._counts[JOBS, kind_of(job), outcome] += 1
        if isinstance(job, Draw) and (missing := job.n - job.start - made):
            self._counts[MISSING, reason_of(job, outcome)] += missing

    def counts(self) -> Counter[Key]:
        """All counts, what the entries under way have done so far included."""
        with self._lock:
            counts = Counter(self._counts)
            entries = list(self._under_way.values())
        for entry in entries:
            counts.update(work_of(entry))
        return counts


def kind_of(job: Job) -> str:
    """`draw` or `read`."""
    return type(job).__name__.lower()


def outcome_of(job: Job) -> str:
    """How a job that is done has come out."""
    if job.result.cancelled():
        return "cancelled"
    error = job.result.exception()
    if error is None:
        return "finished"
    return "expired" if isinstance(error, DeadlineExceeded) else "failed"


def reason_of(job: Draw, outcome: str) -> str:
    """Why samples of a job that is done were not made."""
    if outcome != "finished":
        return outcome
    shortfall = job.result.result().shortfall
    return "unknown" if shortfall is None else shortfall.name.lower()


def made_of(entry: Entry) -> dict[FinishReason, int]:
    """The samples that an entry has made so far."""
    return entry.made if isinstance(entry, DrawEntry) else {}


def work_of(entry: Entry) -> dict[Key, int]:
    """What an entry has done so far; none of it ever becomes less."""
    if isinstance(entry, ReadEntry):
        return {(CHARACTERS, "read"): entry.characters}
    assert isinstance(entry, DrawEntry)
    usage = vars(entry.drafts.usage)
    work: dict[Key, int] = {(CHARACTERS, "draw"): usage["characters"]}
    work |= {(SAMPLES, reason.name.lower()): count for reason, count in entry.made.items()}
    return work | {(REJECTED, reason): usage[_REJECTED + reason] for reason in REASONS}
