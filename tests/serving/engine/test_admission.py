"""Who is let in: by the work that waits, by the measured rate, by deadlines, and fairly."""

import time
from typing import Any

import pytest

from serving.engine import admission as module
from serving.engine.admission import MAX_JOBS, PATIENCE, RECOVERY, Admission, Rate
from serving.engine.job import Draw, Read
from serving.engine.sampling import SamplingParameters
from serving.errors import DeadlineExceeded, Exhausted, InvalidArgument
from serving.limits import STANDING_QUEUE


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def draw(n: int = 1, caller: str = "", deadline: float | None = None, **more: Any) -> Draw:
    """A job of 10 characters a string."""
    parameters = SamplingParameters()
    return Draw([], n, parameters, 9, deadline=deadline, caller=caller, **more)


def let_in(admission: Admission, job: Draw) -> bool:
    try:
        admission.enter(job)
    except (Exhausted, DeadlineExceeded):
        return False
    return True


def test_a_burst_is_let_in_up_to_the_bound_and_no_further(clock: Clock) -> None:
    admission = Admission(max_queue=2.0, rate=1000.0)
    # 200 strings are 2 s of work, behind which another one waits.
    assert sum(let_in(admission, draw()) for _ in range(1000)) == 201
    assert admission.refused == {"calls": 0, "queue": 799, "deadline": 0}
    assert admission.pressure == pytest.approx(1.0, abs=0.01)


def test_work_that_nobody_waits_for_keeps_no_call_out_and_leaves_as_it_came(clock: Clock) -> None:
    admission = Admission(max_queue=2.0, rate=1000.0)
    ahead = draw(200, seeds=range(200))
    admission.enter(ahead, is_continued=True)
    assert admission.is_calm
    assert admission.pressure < 0.001
    clock.now += 2 * PATIENCE
    assert sum(let_in(admission, draw()) for _ in range(1000)) == 201
    admission.began(ahead, 2000)
    admission.left(ahead)
    assert (admission.queues[0].work, admission.queues[0].jobs) == (2010, 201)


def test_it_is_calm_while_next_to_nothing_waits(clock: Clock) -> None:
    admission = Admission(max_queue=2.0, rate=1000.0)
    jobs = [draw() for _ in range(3)]
    for job in jobs:
        assert admission.is_calm
        admission.enter(job)
    assert not admission.is_calm
    admission.began(jobs[0], 10)
    assert admission.is_calm


def test_a_queue_that_stands_is_kept_short_until_it_was_short_by_itself(clock: Clock) -> None:
    admission = Admission(max_queue=2.0, rate=1000.0)
    jobs = [draw() for _ in range(100)]
    assert all(let_in(admission, job) for job in jobs)
    clock.now += 2 * PATIENCE
    assert not let_in(admission, draw())
    standing = int(STANDING_QUEUE * 100)
    for job in jobs[standing:]:
        admission.left(job)
    assert let_in(admission, draw()), "as much as may stand is ahead of it"
    assert not let_in(admission, draw())
    for job in jobs[:standing]:
        admission.left(job)
    more = [draw() for _ in range(100)]
    more = [job for job in more if let_in(admission, job)]
    assert len(more) == standing, "a moment does not make it short"
    for job in more:
        admission.left(job)
    clock.now += 2 * RECOVERY
    assert sum(let_in(admission, draw()) for _ in range(300)) == 200, "one more waits already"


def test_what_has_begun_or_left_does_not_wait(clock: Clock) -> None:
    admission = Admission(max_queue=1.0, rate=1000.0)
    first, second = draw(60), draw(40)
    assert let_in(admission, first)
    assert let_in(admission, second)
    assert let_in(admission, draw(100)), "as much as may wait is ahead of it"
    assert not let_in(admission, draw(100))
    admission.began(first, 600)
    admission.left(second)
    assert let_in(admission, draw(100))
    assert not let_in(admission, draw(100))


def test_more_work_than_a_job_announced_frees_no_room_that_is_not_its_own(clock: Clock) -> None:
    """Strings that are drawn again begin more often than was counted."""
    admission = Admission(max_queue=1.0, rate=1000.0)
    again, other = draw(10), draw(101)
    admission.enter(again)
    admission.enter(other)
    admission.began(again, 5000)
    admission.left(again)
    assert not let_in(admission, draw(101))


def test_a_caller_who_floods_does_not_shut_others_out(clock: Clock) -> None:
    admission = Admission(max_queue=1.0, rate=1000.0)
    while let_in(admission, draw(caller="flood")):
        pass
    assert let_in(admission, draw(caller="other"))
    assert not let_in(admission, draw(caller="flood"))


def test_a_little_job_is_let_in_beside_great_ones(clock: Clock) -> None:
    """Jobs take turns, so it does not wait for all of theirs."""
    admission = Admission(max_queue=1.0, rate=1000.0)
    while let_in(admission, draw(50)):
        pass
    assert let_in(admission, draw(1))


def test_a_deadline_that_cannot_be_met_is_refused_at_once(clock: Clock) -> None:
    admission = Admission(max_queue=10.0, rate=1000.0)
    assert not let_in(admission, draw(1000, deadline=clock.now + 4))  # 10 s of work
    assert let_in(admission, draw(1000, deadline=clock.now + 20))
    assert let_in(admission, draw(1000, deadline=clock.now + 4, partial_at=clock.now + 3))
    assert let_in(admission, draw(1000))


def test_a_deadline_is_too_short_by_itself_or_for_those_before(clock: Clock) -> None:
    admission = Admission(max_queue=10.0, rate=1000.0)
    with pytest.raises(DeadlineExceeded, match=r"it would take 5 s at the least; there were 4 s"):
        admission.enter(draw(1000, deadline=clock.now + 4))
    admission.enter(draw(1000))
    with pytest.raises(Exhausted, match="its deadline would pass"):
        admission.enter(draw(1000, deadline=clock.now + 6))
    assert admission.refused == {"calls": 0, "queue": 0, "deadline": 2}


def test_the_refusal_says_why_and_when_to_come_back(clock: Clock) -> None:
    admission = Admission(max_queue=1.0, rate=1000.0)
    admission.enter(draw(120))
    with pytest.raises(Exhausted, match=r"it would wait 1\.20 s") as caught:
        admission.enter(draw(100))
    assert 0.05 <= caught.value.retry_after <= 1.0


def test_there_are_so_many_heavy_jobs_and_no_more() -> None:
    admission = Admission()
    heavy = [draw(100_000, caller=str(n % 4)) for n in range(MAX_JOBS[1] + 1)]
    for job in heavy[:-1]:
        admission.enter(job)
    with pytest.raises(Exhausted, match="under way"):
        admission.enter(heavy[-1])
    assert admission.refused == {"calls": 1, "queue": 0, "deadline": 0}
    admission.left(heavy[0])
    admission.enter(heavy[-1])


@pytest.mark.parametrize(("n", "most"), [(100_000, MAX_JOBS[1]), (1, MAX_JOBS[0])])
def test_one_caller_has_half_of_the_jobs_under_way_and_others_are_let_in(n: int, most: int) -> None:
    admission = Admission()
    flood = [draw(n, caller="flood") for _ in range(most)]
    assert sum(let_in(admission, job) for job in flood) == most // 2
    with pytest.raises(Exhausted, match="of this caller are under way"):
        admission.enter(draw(n, caller="flood"))
    assert all(let_in(admission, draw(n, caller=f"other-{other}")) for other in range(most // 2))
    admission.left(flood[0])
    assert let_in(admission, draw(n, caller="flood"))


def test_what_goes_on_is_not_refused_and_is_counted(clock: Clock) -> None:
    admission = Admission(max_queue=1.0, rate=1000.0)
    admission.enter(draw(100))
    assert let_in(admission, draw(100)), "as much as may wait is ahead of it"
    admission.enter(Read([[1] * 999]), is_continued=True)
    with pytest.raises(Exhausted, match=r"it would wait 3\.00 s"):
        admission.enter(draw(200))


def test_nothing_is_refused_before_the_rate_is_known_or_without_a_bound() -> None:
    assert all(let_in(Admission(), draw(200)) for _ in range(100))
    boundless = Admission(float("inf"), rate=1.0)
    assert all(let_in(boundless, draw(200, deadline=time.monotonic())) for _ in range(5000))


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    for _ in range(10):
        rate.add(100, 0.01)
    assert rate.value == pytest.approx(10_000)
    for _ in range(500):
        rate.add(10, 0.01)
    assert rate.value == pytest.approx(1000, rel=0.01)
    for _ in range(500):
        rate.add(0, 0.01)
    assert 0 < rate.value < 10, "a lane that does nothing is slow, not impossible"


def test_a_bound_shorter_than_what_may_stand_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="max_queue"):
        Admission(max_queue=0.01)
