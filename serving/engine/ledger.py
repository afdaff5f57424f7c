"""What an engine's jobs have come to, counted so that it balances.

Jobs that were accepted have finished, were cancelled, expired, failed, or are under way; the samples that
they were accepted for were made, are missing for a reason, or are being made.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import fields

from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import Draw, Job, Usage
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

_DRAWS_ACCEPTED, _READS_ACCEPTED = (JOBS_ACCEPTED, "draw"), (JOBS_ACCEPTED, "read")
_SAMPLES_ACCEPTED = (SAMPLES_ACCEPTED,)
_CHARACTERS_DRAWN, _CHARACTERS_READ = (CHARACTERS, "draw"), (CHARACTERS, "read")
_ENDED, _CUT = (SAMPLES, "end"), (SAMPLES, "max_length")


class Ledger:
    """The counts of one engine, from its start; read by any thread.

    Args:
        under_way: the entries whose work is not yet counted, by their numbers; the engine's own.

    Attributes:
        writing: held while entries leave those under way and are counted.
    """

    def __init__(self, under_way: Mapping[int, Entry]) -> None:
        self.writing = threading.Lock()
        self._under_way = under_way
        self._counts: Counter[Key] = Counter()

    def accept(self, job: Job) -> None:
        """A job was let in."""
        with self.writing:
            if isinstance(job, Draw):
                self._counts[_DRAWS_ACCEPTED] += 1
                self._counts[_SAMPLES_ACCEPTED] += job.n - job.start
            else:
                self._counts[_READS_ACCEPTED] += 1

    def leave(self, entry: Entry) -> None:
        """An entry whose job is done is under way no more; `writing` is held."""
        add_work(self._counts, entry)
        made = entry.ended + entry.cut if isinstance(entry, DrawEntry) else 0
        self._leave(entry.job, made)

    def turn_away(self, job: Job) -> None:
        """A job that was let in has failed before it began."""
        with self.writing:
            self._leave(job, 0)

    def _leave(self, job: Job, made: int) -> None:
        outcome = outcome_of(job)
        if isinstance(job, Draw):
            self._counts[JOBS, "draw", outcome] += 1
            if missing := job.n - job.start - made:
                self._counts[MISSING, reason_of(job, outcome)] += missing
        else:
            self._counts[JOBS, "read", outcome] += 1

    def counts(self) -> Counter[Key]:
        """All counts, what the entries under way have done so far included."""
        with self.writing:
            counts = Counter(self._counts)
            entries = list(self._under_way.values())
        for entry in entries:
            add_work(counts, entry)
        return counts


def outcome_of(job: Job) -> str:
    """How a job that is done has come out."""
    try:
        error = job.result.exception(timeout=0)
    except CancelledError:
        return "cancelled"
    except TimeoutError:  # it was being answered when the engine failed
        return "failed"
    if error is None:
        return "finished"
    return "expired" if isinstance(error, DeadlineExceeded) else "failed"


def reason_of(job: Draw, outcome: str) -> str:
    """Why samples of a job that is done were not made."""
    if outcome != "finished":
        return outcome
    shortfall = job.result.result().shortfall
    return "unknown" if shortfall is None else shortfall.name.lower()


def add_work(counts: Counter[Key], entry: Entry) -> None:
    """Add what an entry has done so far, none of which ever becomes less."""
    if isinstance(entry, ReadEntry):
        counts[_CHARACTERS_READ] += entry.characters
        return
    assert isinstance(entry, DrawEntry)
    usage = entry.drafts.usage
    counts[_CHARACTERS_DRAWN] += usage.characters
    counts[_ENDED] += entry.ended
    counts[_CUT] += entry.cut
    if not entry.draw.selection.is_free:
        for reason in REASONS:
            counts[REJECTED, reason] += getattr(usage, _REJECTED + reason)
