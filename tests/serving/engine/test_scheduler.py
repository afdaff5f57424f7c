from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.scheduler import FEW, LEAD, MANY, REMEMBERED, FairQueue, Pace, Turns

few = st.integers(0, 30)


@dataclass
class Job:
    number: int
    caller: str
    left: int
    held: int = 0
    cost: int = 1

    @property
    def wanted(self) -> int:
        return self.left


def begin(queue: FairQueue, jobs: list[Job], free: int) -> dict[int, int]:
    """Give rows away, as a lane does."""
    given_ = dict(queue.take(free))
    for job in jobs:
        job.left -= given_.get(job.number, 0)
    return given_


def queue_of(jobs: list[Job], most: int = 64) -> FairQueue:
    queue = FairQueue(most)
    for job in jobs:
        queue.add(job)
    return queue


def test_callers_share_rows_however_many_jobs_they_have() -> None:
    jobs = [Job(0, "one", 100), *(Job(number, "many", 100) for number in range(1, 9))]
    given_ = begin(queue_of(jobs), jobs, 32)
    assert given_[0] == 16
    assert sum(given_.get(number, 0) for number in range(1, 9)) == 16


def test_work_counts_not_rows() -> None:
    """A row of the first is twice the work of one of the second."""
    jobs = [Job(0, "long", 1000, cost=20), Job(1, "short", 1000, cost=10)]
    queue, had = queue_of(jobs), {0: 0, 1: 0}
    for _ in range(300):
        for number, count in begin(queue, jobs, 1).items():
            had[number] += count
            for _ in range(count):
                queue.settle(jobs[number], jobs[number].cost)
    assert abs(had[1] - 2 * had[0]) <= 2


def test_work_that_was_not_done_is_given_back() -> None:
    """Rows of both may take 10, but those of the second end after 5."""
    jobs = [Job(0, "long", 1000, cost=10), Job(1, "short", 1000, cost=10)]
    queue, had = queue_of(jobs), {0: 0, 1: 0}
    for _ in range(300):
        for number, count in begin(queue, jobs, 1).items():
            had[number] += count
            for _ in range(count):
                queue.settle(jobs[number], (10, 5)[number])
    assert abs(had[1] - 2 * had[0]) <= 4


def test_silence_is_not_saved_up() -> None:
    first, late = Job(0, "first", 10_000), Job(1, "late", 10_000)
    queue = queue_of([first])
    for _ in range(100):
        begin(queue, [first], 8)
        for _ in range(8):
            queue.settle(first, 1)
    queue.add(late)
    had = {0: 0, 1: 0}
    for _ in range(100):
        for number, count in begin(queue, [first, late], 8).items():
            had[number] += count
            for _ in range(count):
                queue.settle((first, late)[number], 1)
    assert abs(had[0] - had[1]) <= 16


def test_a_job_alone_gets_all_and_amid_others_half_at_most() -> None:
    greedy, modest = Job(0, "greedy", 1000), Job(1, "modest", 3)
    assert begin(queue_of([greedy]), [greedy], 64) == {0: 64}
    greedy = Job(0, "greedy", 1000)
    given_ = begin(queue_of([greedy, modest]), [greedy, modest], 64)
    assert given_[1] == 3
    assert given_[0] <= 61
    third = Job(2, "third", 1000)
    jobs = [Job(0, "greedy", 1000, held=30), third]
    assert begin(queue_of(jobs), jobs, 34) == {0: 2, 2: 32}


def test_work_that_is_passed_on_counts_as_any_other() -> None:
    """Whoever comes later starts where the one stands who had it."""
    long, late = Job(0, "long", 1000), Job(1, "late", 1000)
    queue = queue_of([long])
    begin(queue, [long], 1)
    queue.pass_on(long, 400)
    assert queue._accounts["long"].work == 401
    queue.add(late)
    had = [0, 0]
    for _ in range(60):
        for number, count in begin(queue, [long, late], 1).items():
            had[number] += count
            queue.settle([long, late][number], count)
    assert abs(had[0] - had[1]) <= 2


def test_a_job_that_has_passed_on_its_last_asks_no_more_until_it_wants_others() -> None:
    job, gone = Job(0, "one", 5), Job(1, "another", 5)
    queue = queue_of([job, gone])
    queue.discard(gone)
    for _ in range(9):
        begin(queue, [job], 2)
        job.left = 0
        queue.pass_on(job, 3)
        assert not queue
        assert begin(queue, [job], 4) == {}
        job.left = 5
        queue.add(job)
    queue.add(Job(2, "one", 5))
    assert dict(queue.take(10)) == {0: 5, 2: 5}
    queue.add(gone)
    assert begin(queue, [gone], 10) == {1: 5}


def test_those_who_left_get_nothing() -> None:
    jobs = [Job(0, "a", 10), Job(1, "b", 10)]
    queue = queue_of(jobs)
    queue.discard(jobs[0])
    assert begin(queue, jobs, 64) == {1: 10}
    assert not queue


def test_callers_who_have_nothing_to_do_are_forgotten() -> None:
    queue = FairQueue(8)
    for number in range(3 * REMEMBERED):
        job = Job(number, f"caller {number}", 1)
        queue.add(job)
        begin(queue, [job], 8)
        queue.settle(job, 1)
    assert len(queue._accounts) <= REMEMBERED + 1


@given(st.lists(st.tuples(few, st.sampled_from("abc"), few), max_size=8), few)
def test_no_row_is_left_while_one_is_wanted(asked: list[tuple[int, str, int]], free: int) -> None:
    jobs = [Job(n, caller, left, cost=1 + c) for n, (left, caller, c) in enumerate(asked)]
    wanted = sum(job.left for job in jobs)
    queue = queue_of(jobs, most=1000)
    given_ = begin(queue, jobs, free)
    assert sum(given_.values()) == min(free, wanted)
    assert all(job.left >= 0 and job.held == given_.get(job.number, 0) for job in jobs)
    assert bool(queue) == any(job.left for job in jobs)


def test_light_work_goes_first_but_not_more_than_half_of_the_time() -> None:
    turns, spent = Turns(), {True: 0.0, False: 0.0}
    assert turns.is_light_next(light=True, heavy=True)
    for _ in range(1000):
        is_light = turns.is_light_next(light=True, heavy=True)
        turns.spent(0.001, is_light)
        spent[is_light] += 0.001
    assert abs(spent[True] - spent[False]) <= 2 * LEAD


def test_a_lane_without_work_has_no_turn() -> None:
    assert not Turns().is_light_next(light=False, heavy=True)
    assert Turns().is_light_next(light=True, heavy=False)


def test_jobs_that_all_left_while_they_waited_get_nothing() -> None:
    """Found by the soak: their caller stood in the order still, and there was nobody to share with."""
    jobs = [Job(0, "one", 5), Job(1, "two", 5)]
    queue = queue_of(jobs)
    for job in jobs:
        queue.discard(job)
    assert queue.take(4) == []
    assert not queue


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "take", "settle"]), few), max_size=60))
def test_whatever_happens_no_more_rows_are_given_than_are_free(
    steps: list[tuple[str, int]],
) -> None:
    jobs = [Job(number, "abc"[number % 3], 4) for number in range(8)]
    queue, free = FairQueue(8), 8
    for what, number in steps:
        job = jobs[number % len(jobs)]
        match what:
            case "add":
                queue.add(job)
            case "discard":
                queue.discard(job)
            case "take":
                given_ = begin(queue, jobs, free)
                free -= sum(given_.values())
                assert free >= 0
                assert all(job.left >= 0 for job in jobs)
            case "settle" if job.held:
                queue.settle(job, 1)
                free += 1


def test_there_is_a_pause_only_where_the_processor_is_short_and_many_jobs_have_few_rows() -> None:
    pace = Pace()
    for _ in range(100):
        pace.ran(1e-3, 0.99e-3)
    assert not any(pace.pause(jobs, jobs) for jobs in range(2 * MANY))
    for _ in range(100):
        pace.ran(1e-3, 0.9e-3)
    assert not any(pace.pause(jobs, jobs) for jobs in range(FEW + 1))
    assert all(pace.pause(jobs, jobs) for jobs in range(FEW + 1, MANY))
    assert not pace.pause(FEW + 1, MANY)
