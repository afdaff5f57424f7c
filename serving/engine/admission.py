"""Whether work is taken in, by what waits already and by how fast work is done.

Work is counted in characters that a job may take at most, both where it waits and where it is done, so
that strings which end early make the measured rate higher and not the estimate wrong.
"""

import math
import threading
import time
from collections import Counter

from serving import checks
from serving.engine.job import Job
from serving.errors import DeadlineExceeded, Exhausted
from serving.limits import MAX_QUEUE, STANDING_QUEUE

REASONS = CALLS, QUEUE, DEADLINE = "calls", "queue", "deadline"
"""Why jobs are refused: too many are under way, too much waits, their time would not suffice."""
MAX_JOBS = (4096, 64)
"""Jobs under way at most: light ones, heavy ones; of one caller half as many."""
CALM, PATIENCE, RECOVERY = 0.02, 0.03, 0.1
"""A queue that has been longer than CALM seconds of work for PATIENCE seconds is no burst: no more than
STANDING_QUEUE seconds of work may wait from then on, since a queue that stands makes all slow and nobody
faster (CoDel: Nichols and Jacobson, 2012), until it has been shorter for RECOVERY seconds. One short moment
is not enough: a load that is too much has many, and would come in a burst after each."""
TRUST = 0.5
"""The part of an estimated time that a deadline must leave."""
MEMORY = 0.5
"""Seconds of work over which the rate is averaged."""
FIRST_LOOK = 0.02
"""Seconds of work after which the rate counts as known."""
SHORTEST, LONGEST = 0.05, 30.0
"""Seconds after which a refused caller is told to come back."""


def pause(seconds: float) -> float:
    """After how many seconds a caller is told to come back who would have to wait so long."""
    return min(max(seconds, SHORTEST), LONGEST)


class Rate:
    """Characters a second that a lane does while more waits for it."""

    def __init__(self, rate: float = math.inf) -> None:
        self.value = rate
        self._work = self._seconds = 0.0

    def add(self, work: int, seconds: float) -> None:
        """A turn has begun so much work, while there was more of it than rows."""
        self._work += work
        self._seconds += seconds
        if self._seconds >= FIRST_LOOK:
            part = 1.0 if math.isinf(self.value) else 1 - math.exp(-self._seconds / MEMORY)
            measured = max(self._work / self._seconds, 1.0)
            self.value = measured if part == 1.0 else self.value + part * (measured - self.value)
            self._work = self._seconds = 0.0


class Queue:
    """Jobs of one lane that are under way, and their work as far as it has not begun."""

    def __init__(self, most: int, rate: float) -> None:
        self.most = most
        self.rate = Rate(rate)
        self.jobs = 0
        self.jobs_of: Counter[str] = Counter()  # by caller
        self.work = 0
        self.by_caller: Counter[str] = Counter()

    def count(self, caller: str, jobs: int) -> None:
        """More or fewer jobs are under way."""
        self.jobs += jobs
        self.jobs_of[caller] += jobs
        if not self.jobs_of[caller]:
            del self.jobs_of[caller]

    def change(self, caller: str, work: int) -> None:
        """More or less work waits."""
        self.work += work
        self.by_caller[caller] += work
        if self.by_caller[caller] <= 0:
            del self.by_caller[caller]

    def ahead(self, caller: str, work: int) -> int:
        """Work that is done before a new job's last row begins: callers, and jobs, take turns."""
        others = len(self.by_caller) + (caller not in self.by_caller)
        mine = self.by_caller.get(caller, 0) + work
        return min(self.work, mine * others, work * (self.jobs + 1))


class Admission:
    """The door of an engine: jobs come in from any thread, and begin in the engine's.

    Args:
        max_queue: seconds of light work that may wait; infinite to let everything in.
        rate: characters a second, until it has been measured; infinite where nothing is known.

    Attributes:
        queues: of light jobs, of heavy jobs.
        refused: how many jobs were, for each reason.
        spared: calls that needed none, since their answers had been made.
    """

    def __init__(self, max_queue: float = MAX_QUEUE, rate: float = math.inf) -> None:
        checks.real("max_queue", max_queue, STANDING_QUEUE, math.inf)
        self.max_queue = max_queue
        self.refused = dict.fromkeys(REASONS, 0)
        self.spared = 0
        self._lock = threading.Lock()
        self.queues = tuple(Queue(most, rate) for most in MAX_JOBS)
        self._is_standing = False
        self._expected_at = time.monotonic()  # when the queue was last as that says

    @property
    def pressure(self) -> float:
        """How near the door is to being closed, from 0 to 1."""
        light, heavy = self.queues
        waiting = self._seconds(light, light.work) / self._bound(time.monotonic())
        return min(max(waiting, light.jobs / light.most, heavy.jobs / heavy.most), 1.0)

    @property
    def is_calm(self) -> bool:
        """Whether so little waits that there is time for what nobody waits for."""
        light = self.queues[0]
        return self._seconds(light, light.work) <= CALM

    def enter(self, job: Job, *, is_continued: bool = False) -> None:
        """Take a job in.

        Args:
            job: which has not begun.
            is_continued: more of what was let in before: it is counted, not refused.

        Raises:
            Exhausted: too much waits, also for the job's deadline.
            DeadlineExceeded: the deadline could not be met if nothing waited.
        """
        queue = self._queue_of(job)
        with self._lock:
            if not is_continued and not math.isinf(self.max_queue):
                self._check(queue, job)
            queue.count(job.caller, 1)
            job.waiting = (
                job.characters if job.is_awaited else 0
            )  # else it would have calls refused
            queue.change(job.caller, job.waiting)

    def began(self, job: Job, work: int) -> None:
        """So much of a job's work waits no more."""
        with self._lock:
            self._began(job, work)

    def left(self, job: Job) -> None:
        """A job has ended; what of it has not begun never will."""
        with self._lock:
            self._began(job, job.waiting)
            self._queue_of(job).count(job.caller, -1)

    def measured(self, work: int, seconds: float, *, is_light: bool) -> None:
        """A lane with more work than rows has begun so much in a turn."""
        self.queues[0 if is_light else 1].rate.add(work, seconds)

    def _queue_of(self, job: Job) -> Queue:
        return self.queues[0 if job.is_light else 1]

    def _began(self, job: Job, work: int) -> None:
        work = min(work, job.waiting)
        job.waiting -= work
        self._queue_of(job).change(job.caller, -work)

    def _bound(self, now: float) -> float:
        """Seconds of light work that may wait now."""
        is_long = not self.is_calm
        if is_long == self._is_standing:
            self._expected_at = now
        elif now - self._expected_at >= (PATIENCE if is_long else RECOVERY):
            self._is_standing, self._expected_at = is_long, now
        return STANDING_QUEUE if self._is_standing else self.max_queue

    def _check(self, queue: Queue, job: Job) -> None:
        now, light = time.monotonic(), self.queues[0]
        wait = self._seconds(queue, queue.ahead(job.caller, job.characters))
        if queue.jobs >= queue.most:
            self._refuse(CALLS, f"{queue.most:,} calls of its kind are under way", wait)
        if queue.jobs_of[job.caller] >= (share := max(queue.most // 2, 1)):
            self._refuse(CALLS, f"{share:,} calls of its kind of this caller are under way", wait)
        bound = self._bound(now)
        if queue is light and wait > bound:
            why = f"it would wait {wait:.2f} s, and {bound:g} s are allowed"
            self._refuse(QUEUE, why, wait - bound)
        if job.deadline is not None:
            self._check_deadline(queue, job, wait, job.deadline - now)

    def _check_deadline(self, queue: Queue, job: Job, wait: float, left: float) -> None:
        """Raise if a job cannot be done in the seconds that are left: alone, or behind the others."""
        # What comes in parts is of use if it begins in time, which a heavy job does beside the others.
        own = 0.0 if job.is_partial else TRUST * self._seconds(queue, job.characters)
        if own > left:
            self.refused[DEADLINE] += 1
            raise DeadlineExceeded(
                f"it would take {own:.2g} s at the least; there were {left:.2g} s"
            )
        if own + TRUST * wait > left and not (job.is_partial and queue is not self.queues[0]):
            self._refuse(DEADLINE, "its deadline would pass before it is done", wait)

    def _seconds(self, queue: Queue, work: int) -> float:
        """How long work takes; each lane gets half of the time while both have work."""
        others = sum(other.jobs > 0 for other in self.queues if other is not queue)
        return work * (1 + others) / queue.rate.value

    def _refuse(self, reason: str, why: str, seconds: float) -> None:
        self.refused[reason] += 1
        raise Exhausted(
            f"the call is refused: {why}; try again later, or elsewhere",
            pause(seconds),
        )
