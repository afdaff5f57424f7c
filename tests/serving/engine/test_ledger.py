"""What an engine counts balances, however its jobs end."""

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from serving.engine.engine import Engine
from serving.engine.job import Draw, FinishReason, Job, Read, Selection
from serving.engine.ledger import (
    CHARACTERS,
    JOBS,
    JOBS_ACCEPTED,
    MISSING,
    REJECTED,
    SAMPLES,
    SAMPLES_ACCEPTED,
    Key,
)
from serving.engine.sampling import SamplingParameters
from serving.engine.stepping import States
from serving.engine.timed import SPANS, StepClock, TimedSession
from serving.testing import FakeSession
from tests.serving.process import wait_until


class Breaking(FakeSession):
    """Fails when it is told to, and can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = False
        self.gate = threading.Event()
        self.gate.set()

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        assert self.gate.wait(30)
        if self.is_broken:
            raise RuntimeError("broken")
        return super().step(token, states)


def draw(n: int, **more: object) -> Draw:
    return Draw([], n, SamplingParameters(seed=1), 8, **more)  # type: ignore[arg-type]


def settled(engine: Engine, jobs: int) -> Counter[Key]:
    """The counts once so many jobs have ended."""
    wait_until(
        lambda: sum(n for key, n in engine.ledger.counts().items() if key[0] == JOBS) >= jobs
    )
    return engine.ledger.counts()


def assert_balanced(counts: Counter[Key]) -> None:
    def total(what: str) -> int:
        return sum(n for key, n in counts.items() if key[0] == what)

    assert total(JOBS_ACCEPTED) == total(JOBS)
    assert total(SAMPLES_ACCEPTED) == total(SAMPLES) + total(MISSING)


def finish(engine: Engine, session: Breaking) -> tuple[Job, Key]:
    return draw(5), (JOBS, "draw", "finished")


def cancel(engine: Engine, session: Breaking) -> tuple[Job, Key]:
    job = draw(5)
    job.result.cancel()
    return job, (JOBS, "draw", "cancelled")


def expire(engine: Engine, session: Breaking) -> tuple[Job, Key]:
    return draw(5, deadline=time.monotonic() - 1), (JOBS, "draw", "expired")


def fail(engine: Engine, session: Breaking) -> tuple[Job, Key]:
    session.is_broken = True
    return draw(5), (JOBS, "draw", "failed")


@pytest.mark.parametrize("make", [finish, cancel, expire, fail])
@pytest.mark.parametrize("cache", [0, 2**20])
def test_a_job_that_was_let_in_is_counted_once_by_how_it_ends(
    make: Callable[[Engine, Breaking], tuple[Job, Key]], cache: int
) -> None:
    session = Breaking()
    engine = Engine(session, 8, cache)
    engine.start()
    job, key = make(engine, session)
    engine.submit(job)
    counts = settled(engine, 1)
    assert counts[key] == counts[JOBS_ACCEPTED, "draw"] == 1
    assert counts[SAMPLES_ACCEPTED,] == 5
    assert_balanced(counts)
    engine.stop()
    assert [queue.jobs for queue in engine.admission.queues] == [0, 0]


@pytest.mark.parametrize("breaks", [False, True])
def test_many_jobs_that_end_in_all_ways_at_once_balance(breaks: bool) -> None:
    session = Breaking()
    engine = Engine(session, 8)
    engine.start()
    session.gate.clear()
    jobs = [
        *(draw(3) for _ in range(50)),
        *(draw(3, deadline=time.monotonic() - 1) for _ in range(20)),
        *(Read([[1, 2], []]) for _ in range(20)),
    ]
    for number, job in enumerate(jobs):
        engine.submit(job)
        if number % 7 == 0:
            job.result.cancel()
    session.is_broken = breaks
    session.gate.set()
    assert_balanced(settled(engine, len(jobs)))
    engine.stop()


def test_characters_and_samples_are_told_while_a_job_is_under_way() -> None:
    session = Breaking()
    engine = Engine(session, 2, 0)
    engine.start()
    job = draw(50)
    engine.submit(job)
    end = time.monotonic() + 20
    while not engine.ledger.counts()[SAMPLES, "end"] and not job.result.done():
        assert time.monotonic() < end
    counts = settled(engine, 1)
    samples = job.result.result().samples
    ended = sum(sample.finish_reason is FinishReason.END for sample in samples)
    assert counts[SAMPLES, "end"] == ended
    assert counts[SAMPLES, "max_length"] == 50 - ended
    assert counts[CHARACTERS, "draw"] == sum(len(s.text) for s in samples) + ended
    engine.stop()


def test_samples_that_there_are_not_are_missing_with_the_reason() -> None:
    """One string, asked for twice, different each time."""
    engine = Engine(FakeSession("a", 1))
    engine.start()
    engine.submit(Draw([1], 3, SamplingParameters(), 1, selection=Selection(is_unique=True)))
    counts = settled(engine, 1)
    assert counts[MISSING, "space_exhausted"] + counts[MISSING, "attempts"] == 2
    assert counts[REJECTED, "duplicate"] > 0
    assert_balanced(counts)
    engine.stop()


def test_what_is_read_is_counted() -> None:
    engine = Engine(FakeSession())
    engine.start()
    engine.submit(Read([[1, 2], [], [3]]))
    counts = settled(engine, 1)
    assert counts[JOBS, "read", "finished"] == 1
    assert counts[CHARACTERS, "read"] == 3 + 1 + 2
    engine.stop()


def test_a_job_that_cannot_be_begun_is_counted_as_failed() -> None:
    engine = Engine(FakeSession())
    engine.start()
    job = draw(5)
    job.selection = None  # type: ignore[assignment]
    engine.submit(job)
    counts = settled(engine, 1)
    assert counts[JOBS, "draw", "failed"] == 1
    assert counts[MISSING, "failed"] == 5
    engine.stop()
    assert [queue.jobs for queue in engine.admission.queues] == [0, 0]


def test_steps_are_timed_and_their_rows_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0001, 1.0, 1.0, 2.0, 1002.0])
    monkeypatch.setattr("serving.engine.timed.perf_counter", lambda: next(times))
    clock = StepClock()
    session = TimedSession(FakeSession(), clock)
    for rows in (1, 2, 3):
        session.advance(np.ones(rows, np.int64), (np.zeros((rows, 1), np.int64),))
    assert clock.rows == 6
    assert clock.seconds == pytest.approx(1000.0001)
    assert sum(clock.spans) == 3
    assert clock.spans[7] == 1  # 100 microseconds are from 64 to 128
    assert clock.spans[0] == clock.spans[SPANS - 1] == 1
