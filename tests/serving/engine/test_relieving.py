import threading
import time

import numpy as np
import pytest

from serving.engine import relieving
from serving.engine.engine import Engine
from serving.engine.entry import DrawEntry
from serving.engine.job import Draw, Outcome, Sample
from serving.engine.sampling import SamplingParameters
from serving.engine.walking import Relief
from serving.testing import FakeSession
from tests.serving.engine.test_engine import GatedSession, expected, job

MANY = 700
"""More than are made ready at once, twice."""


@pytest.fixture
def reliefs(monkeypatch: pytest.MonkeyPatch) -> list[Relief]:
    """All that are made."""
    made: list[Relief] = []
    next_ = relieving.Relieving._next

    def noted(self: relieving.Relieving) -> tuple[DrawEntry, Relief] | None:
        under_way = next_(self)
        made.extend([under_way[1]] if under_way else [])
        return under_way

    monkeypatch.setattr(relieving.Relieving, "_next", noted)
    return made


def outcome(engine: Engine, asked: Draw) -> Outcome:
    engine.submit(asked)
    found: Outcome = asked.result.result(30)
    return found


@pytest.mark.parametrize("cache", [0, 1, 64 << 20])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_drafts_take_the_places_of_those_that_are_done_and_are_what_they_would_be(
    reliefs: list[Relief], rows: int, cache: int
) -> None:
    engine = Engine(FakeSession(), rows, cache)
    engine.start()
    for prefix in ("", "ab"):
        asked = job(MANY, prefix, seed=3)
        found = outcome(engine, asked)
        assert found.samples == expected(asked)
        ends = sum(sample.finish_reason.name == "END" for sample in found.samples)
        drawn = sum(len(sample.text) - len(prefix) for sample in found.samples)
        assert found.usage.characters == drawn + ends
    assert sum(relief.used for relief in reliefs) > MANY
    engine.stop()
    assert [queue.jobs for queue in engine.admission.queues] == [0, 0]
    assert [queue.work for queue in engine.admission.queues] == [0, 0]


def test_what_cannot_simply_be_drawn_on_is_not_relieved(reliefs: list[Relief]) -> None:
    engine = Engine(FakeSession(), 4)
    engine.start()
    asked = job(50, seed=1, temperature=0.5)
    assert outcome(engine, asked).samples == expected(asked)
    assert not reliefs
    engine.stop()


def test_another_job_that_comes_meanwhile_gets_its_rows(reliefs: list[Relief]) -> None:
    session = GatedSession()
    engine = Engine(session, 4, 0)
    engine.start()
    session.gate.clear()
    long, late = job(MANY, seed=1, max_length=30), job(40, seed=2, max_length=30)
    late.caller = "another"
    done: list[object] = []
    long.result.add_done_callback(done.append)
    late.result.add_done_callback(done.append)
    engine.submit(long)
    assert session.waiting.wait(30)
    assert reliefs
    engine.submit(late)
    session.gate.set()
    assert late.result.result(30).samples == expected(late)
    assert long.result.result(30).samples == expected(long)
    engine.stop()
    assert done == [late.result, long.result]


@pytest.mark.parametrize("window", [1, 5, 300])
def test_a_stream_gets_no_more_than_its_window(reliefs: list[Relief], window: int) -> None:
    engine = Engine(FakeSession(), 8)
    engine.start()
    had: list[Sample] = []
    most: list[int] = []

    def sink(samples: list[Sample]) -> None:
        had.extend(samples)
        most.append(len(had) - asked.collected)
        engine.collected(asked, len(had))

    ids, parameters = FakeSession().manifest.vocabulary.encode(""), SamplingParameters(seed=5)
    asked = Draw(ids, MANY, parameters, 8, start=20, sink=sink, window=window, collected=20)
    had.extend(expected(job(20, seed=5)))
    outcome(engine, asked)
    assert had == expected(job(MANY, seed=5))
    assert max(most) <= window
    engine.stop()


class Slow(FakeSession):
    """Takes a while for a step."""

    def step(self, token: np.ndarray, states: tuple) -> tuple:  # type: ignore[type-arg]
        time.sleep(0.005)
        return super().step(token, states)


def test_strings_of_a_slow_model_do_not_wait_until_they_are_many(reliefs: list[Relief]) -> None:
    engine, first = Engine(Slow(), 4, 0), threading.Event()
    engine.start()
    counts: list[int] = []

    def sink(samples: list[Sample]) -> None:
        counts.append(len(samples))
        first.set()

    asked = Draw([], 200, SamplingParameters(seed=5), 8, sink=sink)
    engine.submit(asked)
    assert first.wait(30)
    asked.result.result(60)
    engine.stop()
    assert reliefs
    assert max(counts) < 32


def test_what_is_done_when_the_time_is_up_is_not_lost(
    reliefs: list[Relief], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relieving, "AT_ONCE", 1000)  # nothing is told before
    monkeypatch.setattr(relieving, "WHILE", 1000)
    engine = Engine(Slow(), 4, 0)
    engine.start()
    asked = job(100_000, seed=1)
    asked.partial_at = time.monotonic() + 0.15
    at_once: list[int] = []
    asked.result.add_done_callback(lambda result: at_once.append(len(result.result().samples)))
    found = outcome(engine, asked)
    engine.stop()
    assert at_once == [len(found.samples)]
    assert reliefs
    assert len(found.samples) > 4
    assert found.samples == expected(job(len(found.samples), seed=1))
    done = sum(relief.used for relief in reliefs)
    assert len(found.samples) >= done - 3 * 9  # but for those that wait for one before them
