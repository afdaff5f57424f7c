from serving.job import Job
from serving.sampling import SamplingParameters
from serving.scheduler import Entry, Scheduler


def entry(n: int, context: object = "known") -> Entry:
    return Entry(Job([], n, SamplingParameters(), 5), context)


def test_entries_take_turns_one_row_each() -> None:
    scheduler = Scheduler()
    large, small = entry(100), entry(1)
    scheduler.add(large)
    scheduler.add(small)
    assert scheduler.admit_samples(4) == [(large, range(3)), (small, range(1))]
    assert scheduler.admit_samples(2) == [(large, range(3, 5))]


def test_no_sample_is_admitted_twice_or_left_out() -> None:
    scheduler = Scheduler()
    entries = [entry(5), entry(1), entry(9)]
    for each in entries:
        scheduler.add(each)
    seen: dict[Entry, list[int]] = {each: [] for each in entries}
    while admitted := scheduler.admit_samples(4):
        for each, indices in admitted:
            seen[each] += indices
    assert [seen[each] for each in entries] == [list(range(5)), [0], list(range(9))]


def test_samples_wait_until_the_prefix_was_run() -> None:
    scheduler = Scheduler()
    waiting = entry(2, context=None)
    scheduler.add(waiting)
    assert scheduler.admit_samples(9) == []
    assert scheduler.admit_prefills(9) == [waiting]
    assert scheduler.admit_prefills(9) == []
    scheduler.prefilled(waiting, "context")
    assert scheduler.admit_samples(9) == [(waiting, range(2))]


def test_no_more_is_admitted_than_there_is_room_for() -> None:
    scheduler = Scheduler()
    scheduler.add(entry(2))
    scheduler.add(entry(2, context=None))
    assert scheduler.admit_samples(0) == []
    assert scheduler.admit_prefills(0) == []


def test_abandoned_entries_are_forgotten() -> None:
    scheduler = Scheduler()
    left, waiting, stays = entry(2), entry(2, context=None), entry(1)
    for each in (left, waiting, stays):
        scheduler.add(each)
    left.job.result.cancel()
    waiting.job.result.cancel()
    assert scheduler.sweep() == {left, waiting}
    assert scheduler.entries == [stays]
    assert scheduler.admit_prefills(9) == []
    assert scheduler.admit_samples(9) == [(stays, range(1))]
    assert scheduler.sweep() == set()
