"""The continuous batcher: one thread that owns one model's session.

Every turn advances the rows of one lane by one character; rows join and leave at every turn. Knows no
gRPC and no asyncio: jobs come in by `submit`, and their answers go out through their futures and sinks.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

import numpy as np

from serving.engine.admission import Admission
from serving.engine.contexts import Context, Contexts, after_boundary
from serving.engine.entry import DrawEntry, Entry, entry_of
from serving.engine.figures import Figures, position_of
from serving.engine.job import Draw, Job, Shortfall
from serving.engine.lane import Lane
from serving.engine.ledger import Ledger
from serving.engine.residence import contexts_of
from serving.engine.sampling import Int64
from serving.engine.scheduler import FEW, Pace, Turns
from serving.engine.stepping import StepSession
from serving.engine.timed import StepClock
from serving.engine.tree import Tree
from serving.errors import DeadlineExceeded, ServingError, Unavailable
from serving.limits import PREFIX_CACHE

log = logging.getLogger(__name__)

MAX_ROWS = 256
LOOK = 0.02
"""Seconds between two looks at jobs that wait for their caller."""


class Engine:
    """Runs the jobs of one model; see AnyEngine.

    Args:
        session: the model; only the engine's thread steps it once `start` was called.
        max_rows: how many strings run at once in either lane.
        prefix_cache: bytes that the prefix tree may take; 0 does without.
        max_queue: seconds of light work that may wait before jobs are refused; infinite to refuse none.
        name: what it is called in logs; the model's name unless told otherwise.
    """

    def __init__(
        self,
        session: StepSession,
        max_rows: int = MAX_ROWS,
        prefix_cache: int = PREFIX_CACHE,
        max_queue: float = math.inf,
        name: str = "",
    ) -> None:
        self.session = session
        self.manifest = session.manifest
        self.name = name or self.manifest.name
        self.max_rows = max_rows
        self.prefix_cache = prefix_cache
        self.admission = Admission(max_queue)
        self.beats = 0
        self.failure = ""
        self.contexts: Contexts
        self._root: Context
        self._entries: dict[int, Entry] = {}
        self.ledger = Ledger(self._entries)
        self.clock = StepClock()
        self._left: deque[int] = deque()  # whose jobs are done; from any thread
        self._due = math.inf
        self._since = 0.0
        self._number = 0
        self._lanes: tuple[Lane, ...] = ()
        self._order, self._pace = Turns(), Pace()
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        # A daemon: a process that is to end is not kept by work that nobody will collect.
        self.thread = threading.Thread(target=self._run, name=f"engine-{self.name}", daemon=True)

    @property
    def rows(self) -> list[int]:
        """Rows that are running now: light ones, heavy ones."""
        return [len(lane.rows) for lane in self._lanes]

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self.thread.is_alive()

    @property
    def is_busy(self) -> bool:
        """Whether there is something that a turn would do."""
        return not self._inbox.empty() or any(lane.has_work for lane in self._lanes)

    def start(self) -> None:
        """Warm the model up with a step, then start the thread.

        Raises:
            ServingError: the model gives values that are not finite.
        """
        self._root = after_boundary(self.session)
        self._set_up()
        self.thread.start()

    def _set_up(self) -> None:
        """Begin with nothing under way."""
        how = (self.clock, self.prefix_cache, 2 * self.max_rows, self._places_in_use)
        self.contexts = contexts_of(self.session, self._root, *how)
        light, heavy = (
            Lane(self.manifest, self.contexts, self.max_rows, self.admission.began)
            for _ in range(2)
        )
        self._lanes = (light, heavy)

    def _places_in_use(self) -> Int64:
        return np.concatenate([lane.places() for lane in self._lanes])

    def submit(self, job: Job, *, is_continued: bool = False) -> None:
        """Queue a job; from any thread. See AnyEngine."""
        with self._lock:
            if self._closing.is_set():
                raise Unavailable("the model is being taken away; try again")
            self.admission.enter(job, is_continued=is_continued)
            self.ledger.accept(job)
            self._inbox.put(job)

    def collected(self, job: Draw, count: int) -> None:
        """The samples before this index were taken from a job's sink: others may begin."""
        job.collected = count
        self._inbox.put(None)

    def figures(self) -> Figures:
        """What is counted of it, at this moment."""
        light, heavy = self.rows
        return Figures(
            counts=self.ledger.counts(),
            rows=(light, heavy),
            stepped=self.clock.rows,
            seconds=self.clock.seconds,
            spans=tuple(self.clock.spans),
            tree=self.contexts.figures if isinstance(self.contexts, Tree) else None,
        )

    def position(self) -> str:
        """Where its thread is now."""
        return position_of(self.thread)

    def close(self) -> None:
        """Take no more jobs; the thread ends when those that were submitted are finished."""
        with self._lock:
            self._closing.set()
            self._inbox.put(None)

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self.close()
        if self.thread.is_alive():
            self.thread.join()

    def _run(self) -> None:
        try:
            while self._take_in():
                self.turn()
                if pause := self._pace.pause(len(self._entries), sum(self.rows)):
                    time.sleep(pause)
                    self._since += pause
        except BaseException:  # what ends the thread, whatever it is, must not do so unnoticed
            log.exception("the engine of %s failed", self.name)
            self.fail(f"the engine of {self.name} failed", ServingError("the model failed"))
            self._let_go(list(self._entries))

    def fail(self, reason: str, error: ServingError) -> None:
        """Take no more jobs, and answer those that there are with an error; from any thread."""
        with self._lock:
            self._closing.set()
            self.failure = reason
        waiting: list[Job] = []
        with suppress(Empty):
            while True:
                waiting += filter(None, [self._inbox.get_nowait()])
        for job in (*waiting, *(entry.job for entry in list(self._entries.values()))):
            with suppress(InvalidStateError, RuntimeError):  # it is being answered just now
                job.fail(error)
        for job in waiting:
            self._turn_away(job)

    def _take_in(self) -> bool:
        """Move submitted jobs to their lanes; waits when idle. False when all is done."""
        if not self._entries and self._closing.is_set() and self._inbox.empty():
            return False
        idle = not any(lane.has_work for lane in self._lanes)
        while idle or not self._inbox.empty():
            try:  # jobs that wait for their caller have deadlines, which nobody else looks at
                job = self._inbox.get(timeout=LOOK if self._entries else None)
            except Empty:
                return True
            if idle:
                self._since = time.perf_counter()
            if job is None:
                for lane in self._lanes:
                    lane.look_again()
            else:
                self._try_to_add(job)
            idle = False
        return True

    def _try_to_add(self, job: Job) -> None:
        """Take a job in; one that cannot be is answered, and costs the others nothing."""
        try:
            self._add(job)
        except Exception:
            log.exception("a job of %s cannot be begun", self.name)
            job.fail(ServingError("the model failed"))
            if self._number not in self._entries:
                self._turn_away(job)

    def _turn_away(self, job: Job) -> None:
        """Count out a job that was let in and has not begun."""
        self.admission.left(job)
        self.ledger.turn_away(job)

    def _add(self, job: Job) -> None:
        self._number += 1
        entry = entry_of(job, self._number, self.contexts.root, self.manifest.max_length)
        lane = self._lanes[0 if job.is_light else 1]
        self._entries[entry.number] = entry
        job.result.add_done_callback(partial(self._note_left, entry.number))
        self._due = min(self._due, entry.due)
        lane.add(entry)

    def _note_left(self, number: int, result: object) -> None:
        self._left.append(number)

    def turn(self) -> None:
        """Advance the rows of the lane whose turn it is."""
        self._sweep()
        light, heavy = (lane.has_work for lane in self._lanes)
        is_light = self._order.is_light_next(light, heavy)
        lane = self._lanes[0 if is_light else 1]
        if are_many := len(self._entries) > FEW:
            taken, run = time.perf_counter(), time.thread_time()
        lane.turn(self._is_interrupted)
        if are_many:
            self._pace.ran(time.perf_counter() - taken, time.thread_time() - run)
        seconds = self._lap()
        if light and heavy:
            self._order.spent(seconds, is_light)
        if lane.has_more:
            self.admission.measured(lane.begun, seconds, is_light=is_light)
        lane.begun = 0
        self.beats += 1

    def _lap(self) -> float:
        """Seconds since the last turn's end, or since there was something to do."""
        since, self._since = self._since, time.perf_counter()
        return self._since - since

    def _is_interrupted(self) -> bool:
        """Whether jobs have come in, or another lane waits; asked at every step of a long turn."""
        self.beats += 1
        return not self._inbox.empty() or len(self._entries) > 1 or bool(self._left)

    def _sweep(self) -> None:
        """Free the rows of jobs that are answered, were cancelled, or whose time is up."""
        now = time.monotonic()
        if now < self._due and not self._left:
            return
        for lane in self._lanes:
            lane.hand_on()
        if now >= self._due:
            self._expire(now)
        gone = self._let_go([self._left.popleft() for _ in range(len(self._left))])
        for lane in self._lanes:
            lane.drop(gone)

    def _let_go(self, numbers: Iterable[int]) -> list[Entry]:
        """Take entries whose jobs are done from those under way, and count them."""
        with self.ledger.writing:
            gone = [entry for number in numbers if (entry := self._entries.pop(number, None))]
            for entry in gone:
                self.ledger.leave(entry)
        for entry in gone:
            self.admission.left(entry.job)
        return gone

    def _expire(self, now: float) -> None:
        """End the jobs whose time is up."""
        for entry in self._entries.values():
            if entry.job.is_expired(now):
                entry.fail(DeadlineExceeded("the deadline passed before all was made"))
            elif isinstance(entry, DrawEntry) and now >= entry.due:
                entry.finish(Shortfall.DEADLINE)
        self._due = min((e.due for e in self._entries.values() if e.due > now), default=math.inf)
