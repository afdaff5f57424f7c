"""The continuous batcher: one thread that owns one model's session.

Every turn advances all rows of all jobs by one character; rows join and leave at every turn. A prefix
is run once a job, and its state copied to the job's rows. Knows no gRPC and no asyncio: jobs come in by
`submit`, and their answers go out through their futures.
"""

import logging
import threading
from queue import SimpleQueue

import numpy as np

from serving.errors import DeadlineExceeded, ServingError, Unavailable
from serving.job import FinishReason, Job, Sample
from serving.rows import Bool, Context, Rows
from serving.scheduler import Entry, Scheduler
from serving.session import StepSession, initial_states

log = logging.getLogger(__name__)

MAX_ROWS = 256


class Engine:
    """Runs the jobs of one model.

    Args:
        session: the model; only the engine's thread steps it once `start` was called.
        max_rows: how many strings run at once.
    """

    def __init__(self, session: StepSession, max_rows: int = MAX_ROWS) -> None:
        self.session = session
        self.manifest = session.manifest
        self.max_rows = max_rows
        self.turns = 0
        self._rows = Rows.empty(self.manifest)
        self._root: Context | None = None
        self._scheduler = Scheduler()
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._run,
            name=f"engine-{self.manifest.name}",
            daemon=True,  # a process that is to end is not kept by work that nobody will collect
        )

    @property
    def active_rows(self) -> int:
        """Rows that are running now."""
        return len(self._rows)

    def start(self) -> None:
        """Warm the model up with a step, then start the thread.

        Raises:
            ServingError: the model gives values that are not finite.
        """
        self._root = self._run_boundary()
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its future gets the answer.

        Raises:
            Unavailable: the engine has stopped.
        """
        with self._lock:
            if self._closing.is_set():
                raise Unavailable("the model is being taken away; try again")
            self._inbox.put(job)

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        with self._lock:
            self._closing.set()
            self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run_boundary(self) -> Context:
        """Feed the boundary that starts every string."""
        token = np.zeros(2, np.int64)
        logits, states = self.session.step(token, initial_states(self.manifest.states, 2))
        if logits.shape != (2, len(self.manifest.vocabulary)) or not np.isfinite(logits).all():
            raise ServingError(f"{self.manifest.name}: the first step gives no usable logits")
        return Context(logits[0].copy(), tuple(state[0].copy() for state in states))

    def _run(self) -> None:
        while True:
            try:
                while self._take_in():
                    self.turn()
                return
            except Exception:
                log.exception("the engine of %s failed", self.manifest.name)
                self._start_over()

    def _start_over(self) -> None:
        """Fail the jobs under way and go on without them."""
        for entry in self._scheduler.entries:
            _fail(entry.job, ServingError("the model failed"))
        self._scheduler = Scheduler()
        self._rows = Rows.empty(self.manifest)

    def _take_in(self) -> bool:
        """Move submitted jobs to the scheduler; waits when idle. False when all is done."""
        idle = not self._scheduler.entries
        if idle and self._closing.is_set() and self._inbox.empty():
            return False
        while idle or not self._inbox.empty():
            job = self._inbox.get()
            if job is not None:
                self._scheduler.add(Entry(job, context=None if job.prefix else self._root))
            idle = False
        return True

    def turn(self) -> None:
        """Step every row, let rows in, draw every row's next character, let finished rows out."""
        self._drop_abandoned()
        if len(self._rows):
            self._rows = self._rows.advanced(
                *self.session.step(self._rows.token, self._rows.states)
            )
        self._collect_prefixes()
        self._admit()
        if len(self._rows):
            ended, cut = self._rows.draw()
            self._finish(ended, cut)
        self.turns += 1

    def _drop_abandoned(self) -> None:
        """Free the rows of jobs that were cancelled or whose deadline has passed."""
        for entry in self._scheduler.entries:
            if entry.job.is_expired():
                _fail(entry.job, DeadlineExceeded("the deadline passed before all was made"))
        gone = self._scheduler.sweep()
        if gone:
            keep = [entry not in gone for entry in self._rows.owner]
            self._rows = self._rows.kept(np.array(keep, np.bool_))

    def _collect_prefixes(self) -> None:
        fed = self._rows.fed
        for row in np.flatnonzero(fed):
            self._scheduler.prefilled(self._rows.owner[row], self._rows.context(int(row)))
        self._rows = self._rows.kept(~fed)

    def _admit(self) -> None:
        assert self._root is not None
        feeding = [
            Rows.feeding_prefix(self.manifest, entry, entry.job, self._root)
            for entry in self._scheduler.admit_prefills(self.max_rows - len(self._rows))
        ]
        free = self.max_rows - len(self._rows) - len(feeding)
        samples = [
            Rows.of(self.manifest, entry, entry.job, entry.context, indices)
            for entry, indices in self._scheduler.admit_samples(free)
        ]
        self._rows = self._rows.joined(feeding + samples)

    def _finish(self, ended: Bool, cut: Bool) -> None:
        rows = self._rows
        for row in np.flatnonzero(ended | cut):
            entry: Entry = rows.owner[row]
            entry.samples.append(
                Sample(
                    text=self.manifest.vocabulary.decode(
                        rows.text[row, : rows.length[row]].tolist()
                    ),
                    index=int(rows.index[row]),
                    finish_reason=FinishReason.END if ended[row] else FinishReason.MAX_LENGTH,
                    log_prob=float(rows.log_prob[row]),
                )
            )
            if entry.is_complete and entry.job.result.set_running_or_notify_cancel():
                entry.job.result.set_result(sorted(entry.samples, key=lambda s: s.index))
        self._rows = rows.kept(~(ended | cut))


def _fail(job: Job, error: ServingError) -> None:
    if not job.result.done() and job.result.set_running_or_notify_cancel():
        job.result.set_exception(error)
