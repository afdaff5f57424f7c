"""Whose rows run next: bookkeeping alone, without tensors, threads or a clock of its own."""

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Protocol

LEAD = 0.02
"""Seconds by which one lane may be ahead of the other."""
QUANTUM = 16
"""Rows that a job gets at a time at least, if there are so many: few rows of each of many jobs take longer
to set up than to run."""
FEW, MANY, PAUSE = 4, 64, 300e-6
"""With more jobs than few under way and fewer rows than many, whoever brings and takes jobs has the processor
for so many seconds between turns, if it is short: a turn costs nearly as much for few rows as for many."""
SHORT = 0.02
"""It is short if others had it for this part of the turns' time."""
REMEMBERED = 1024
"""Callers whose work is kept in mind before those who have nothing to do are forgotten."""


class Asking(Protocol):
    """A job that may begin rows."""

    number: int
    held: int  # rows that it has
    cost: int  # work that a row is taken for when it begins

    @property
    def caller(self) -> str:
        """Whose it is."""

    @property
    def wanted(self) -> int:
        """How many rows it could begin."""


@dataclass(slots=True)
class Account:
    """What a caller has had, and its jobs that could begin rows."""

    work: float
    jobs: deque[Asking] = field(default_factory=deque)


class FairQueue:
    """Who gets the next free rows: the caller that has had the least work done; its jobs take turns.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): a caller who comes anew, or comes back, starts
    where the one that is being served stands, so that no time of silence is saved up. No job gets more
    than half of the rows while another one waits.

    Args:
        most: rows that there are.
    """

    def __init__(self, most: int) -> None:
        self._half = max(most // 2, 1)
        self._accounts: dict[str, Account] = {}
        self._order: list[tuple[float, str]] = []  # a heap; each caller with jobs stands in it once
        self._waiting: set[int] = set()
        self._level = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, job: Asking) -> None:
        """Let a job ask, unless it wants nothing or asks already."""
        if job.number in self._waiting or not job.wanted:
            return
        self._waiting.add(job.number)
        account = self._accounts.get(job.caller)
        if account is None:
            account = self._accounts[job.caller] = Account(self._level)
        if not account.jobs:
            account.work = max(account.work, self._level)
            heappush(self._order, (account.work, job.caller))
        account.jobs.append(job)

    def discard(self, job: Asking) -> None:
        """A job asks no more."""
        self._waiting.discard(job.number)

    def take(self, free: int) -> list[tuple[int, int]]:
        """Give away so many rows: the numbers of jobs, and how many each gets, which count as held."""
        given: dict[int, int] = {}
        aside: list[Asking] = []
        while free and self._order:
            _, caller = heappop(self._order)
            account = self._accounts[caller]
            job = account.jobs.popleft()
            had = given.get(job.number, 0)
            wanted = job.wanted - had if job.number in self._waiting else 0
            count = min(wanted, self._portion(job, free)) if wanted else 0
            if count:
                self._level = max(self._level, account.work)
                account.work += count * job.cost
                job.held += count
                free -= count
                given[job.number] = had + count
            if wanted > count:
                (account.jobs if count else aside).append(job)
            else:
                self._waiting.discard(job.number)
            if account.jobs:
                heappush(self._order, (account.work, caller))
        for job in aside:
            self._waiting.discard(job.number)
            self.add(job)
        return list(given.items())

    def _portion(self, job: Asking, free: int) -> int:
        """How many rows a job gets at a time."""
        if len(self._waiting) == 1:
            return free
        return min(max(free // len(self._waiting), QUANTUM), free, max(self._half - job.held, 0))

    def settle(self, job: Asking, work: int, rows: int = 1) -> None:
        """Some of a job's rows have ended with so much work done; it may ask for others."""
        job.held -= rows
        if job.caller in self._accounts:
            # Its place in the order is corrected when it is next pushed, which is soon enough.
            self._accounts[job.caller].work -= rows * job.cost - work
        self.add(job)
        if len(self._accounts) > REMEMBERED:
            self._accounts = {c: a for c, a in self._accounts.items() if a.jobs}

    def pass_on(self, job: Asking, work: int) -> None:
        """Some of a job's rows have ended with so much work done, and as many others begun in their places.

        So it has as many as before, and what these are taken for was counted when it got them.
        """
        account = self._accounts[job.caller]
        account.work += work
        self._level = max(self._level, account.work - job.held * job.cost)
        if not job.wanted:
            self._waiting.discard(job.number)
            account.jobs.remove(job)
        self._order = [(work, caller) for work, caller in self._order if caller != job.caller]
        if account.jobs:
            self._order.append((account.work, job.caller))
        heapify(self._order)


class Turns:
    """Which of two lanes runs next: the light one, as long as it is not far ahead in time.

    So a light job waits for one step of the heavy lane at most, and either lane gets half of the time if
    both always want it.
    """

    def __init__(self) -> None:
        self._lead = 0.0

    def is_light_next(self, light: bool, heavy: bool) -> bool:
        """Whether it is the light lane's turn, given which lanes have work."""
        return light and (not heavy or self._lead < LEAD)

    def spent(self, seconds: float, is_light: bool) -> None:
        """A lane has run while both had work."""
        self._lead += seconds if is_light else -seconds
        self._lead = min(max(self._lead, -LEAD), LEAD)


class Pace:
    """Tells how long to wait between turns for jobs that others are about to bring."""

    def __init__(self) -> None:
        self._taken = self._run = 0.0

    def ran(self, taken: float, run: float) -> None:
        """A turn has taken so many seconds, in so many of which it had a processor."""
        self._taken = 0.9 * self._taken + taken
        self._run = 0.9 * self._run + run

    def pause(self, jobs: int, rows: int) -> float:
        """Seconds, given how many jobs are under way, and how many rows run."""
        is_short = self._run < (1 - SHORT) * self._taken
        return PAUSE if is_short and jobs > FEW and rows < MANY else 0.0
