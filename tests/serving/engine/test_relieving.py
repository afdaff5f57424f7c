import time
from collections.abc import Sequence

import pytest

from serving.engine import relieving
from serving.engine.admission import Admission
from serving.engine.engine import Engine
from serving.engine.entry import DrawEntry
from serving.engine.job import Draw, FinishReason, Outcome, Sample, Sink
from serving.engine.reference import generate
from serving.engine.sampling import Float32, Int64, SamplingParameters
from serving.engine.stepping import States
from serving.engine.walking import Relief
from serving.errors import ServingError
from serving.testing import FakeSession
from tests.serving.engine.test_engine import GatedSession, expected, job

MANY = 700
"""More than are made ready at once, twice."""


class Gated(GatedSession):
    """Closes its own gate after so many steps as are `left`."""

    left = 10**9

    def step(self, token: Int64, states: States) -> tuple[Float32, States]:
        self.left -= 1
        if self.left == 0:
            self.gate.clear()
        return super().step(token, states)


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


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Work that the engine's door is told of."""
    told: list[int] = []
    monkeypatch.setattr(Admission, "began", lambda self, job, work: told.append(work))
    return told


def outcome(engine: Engine, asked: Draw) -> Outcome:
    engine.submit(asked)
    found: Outcome = asked.result.result(30)
    return found


@pytest.mark.parametrize("cache", [0, 1, 64 << 20])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_drafts_take_the_places_of_those_that_are_done_and_are_what_they_would_be(
    reliefs: list[Relief], begun: list[int], rows: int, cache: int
) -> None:
    engine = Engine(FakeSession(), rows, cache)
    engine.start()
    done = 0
    for prefix in ("", "ab"):
        asked = job(MANY, prefix, seed=3)
        found = outcome(engine, asked)
        assert found.samples == expected(asked)
        drawn = sum(len(sample.text) - len(prefix) for sample in found.samples)
        ends = sum(sample.finish_reason is FinishReason.END for sample in found.samples)
        assert found.usage.characters == drawn + ends
        done += drawn + MANY + (len(prefix) + 1 if prefix else 0)
        assert sum(begun) == MANY * (8 + 1 - len(prefix)) + bool(prefix) * MANY * 9
    assert sum(relief.used for relief in reliefs) > MANY
    engine.stop()
    heavy = engine._lanes[1]
    assert heavy._queue._accounts[""].work == done
    assert not heavy.has_work


def test_what_cannot_simply_be_drawn_on_is_not_relieved(reliefs: list[Relief]) -> None:
    engine = Engine(FakeSession(), 4)
    engine.start()
    asked = job(50, seed=1, temperature=0.5)
    assert outcome(engine, asked).samples == expected(asked)
    assert not reliefs
    engine.stop()


def sink_to(had: list[Sample]) -> Sink:
    def sink(samples: Sequence[Sample]) -> None:
        had.extend(samples)

    return sink


def under_way(reliefs: list[Relief]) -> tuple[Engine, Gated, Draw, list[Sample]]:
    """A long stream that stands in the midst of a relief, and what it has given."""
    session, had = Gated(), list[Sample]()
    engine = Engine(session, 4, 0)
    engine.start()
    long = Draw([], MANY, SamplingParameters(seed=1), 30, sink=sink_to(had))
    session.left = 20
    engine.submit(long)
    assert session.waiting.wait(30)
    assert reliefs[0].used
    assert not reliefs[0].is_used_up
    return engine, session, long, had


def test_another_job_that_comes_meanwhile_gets_its_rows(reliefs: list[Relief]) -> None:
    engine, session, long, had = under_way(reliefs)
    late = Draw([], 80, SamplingParameters(seed=2), 30, caller="another")
    assert not late.is_light  # both are in one lane
    when_done: list[int] = []
    late.result.add_done_callback(lambda _: when_done.append(len(had)))
    engine.submit(late)
    session.gate.set()
    samples = late.result.result(30).samples
    assert samples == generate(FakeSession(), [], 80, late.parameters, 30)
    long.result.result(30)
    engine.stop()
    assert had == generate(FakeSession(), [], MANY, long.parameters, 30)
    assert when_done[0] < 200  # as many as of the late one, and those before


def test_nothing_of_a_job_that_is_cancelled_takes_a_place(reliefs: list[Relief]) -> None:
    engine, session, long, _ = under_way(reliefs)
    late = Draw([], 80, SamplingParameters(seed=2), 30)
    engine.submit(late)
    assert long.result.cancel()
    used = reliefs[0].used
    session.gate.set()
    samples = late.result.result(30).samples
    assert samples == generate(FakeSession(), [], 80, late.parameters, 30)
    engine.stop()
    assert reliefs[0].used == used


def test_a_job_that_is_cancelled_is_not_kept(reliefs: list[Relief]) -> None:
    engine, session, long, _ = under_way(reliefs)
    assert long.result.cancel()
    session.gate.set()
    engine.stop()
    assert engine._lanes[1]._relieving._under_way is None


@pytest.mark.parametrize("window", [5, 300])
def test_a_stream_gets_no_more_than_its_window(reliefs: list[Relief], window: int) -> None:
    engine = Engine(FakeSession(), 2)
    engine.start()
    had = expected(job(20, seed=5))
    asked = Draw([], MANY, SamplingParameters(seed=5), 8, start=20, window=window, collected=20)
    asked.sink = sink_to(had)
    engine.submit(asked)
    for end in range(20 + window, 20 + 2 * window + 1, window):
        until = time.monotonic() + 30
        while (len(had) < end or engine.rows != [0, 0]) and time.monotonic() < until:
            time.sleep(0.001)
        assert len(had) == end
        assert not any(lane.has_work for lane in engine._lanes)
        engine.collected(asked, end)
    asked.window = MANY
    engine.collected(asked, len(had))
    asked.result.result(30)
    assert had == expected(job(MANY, seed=5))
    assert reliefs
    engine.stop()


@pytest.mark.parametrize(("while_", "fewest", "most"), [(0, 1, 30), (1000, 200, 255 + 9)])
def test_what_is_done_is_told_when_it_is_time_or_there_is_much(
    monkeypatch: pytest.MonkeyPatch, begun: list[int], while_: int, fewest: int, most: int
) -> None:
    monkeypatch.setattr(relieving, "WHILE", while_)
    engine = Engine(FakeSession(), 4, 0)
    engine.start()
    outcome(engine, job(MANY, seed=5))
    engine.stop()
    assert sum(begun) == MANY * 9
    assert fewest <= max(begun) / 9 <= most


def test_what_is_done_when_the_time_is_up_is_not_lost(
    reliefs: list[Relief], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relieving, "AT_ONCE", 1000)  # nothing is told before
    monkeypatch.setattr(relieving, "WHILE", 1000)
    session = Gated()
    engine = Engine(session, 4, 0)
    engine.start()
    asked = Draw([], MANY, SamplingParameters(seed=1), 30)
    at_once: list[int] = []
    asked.result.add_done_callback(lambda result: at_once.append(len(result.result().samples)))
    session.left = 60
    engine.submit(asked)
    assert session.waiting.wait(30)
    asked.partial_at = time.monotonic()
    engine._due = asked.partial_at
    session.gate.set()
    found: Outcome = asked.result.result(30)
    engine.stop()
    assert at_once == [len(found.samples)]
    assert found.samples == generate(FakeSession(), [], at_once[0], asked.parameters, 30)
    assert at_once[0] >= sum(relief.used for relief in reliefs) - 3 * 31  # who wait for one before
    assert at_once[0] > 4


def test_a_sink_that_fails_is_no_fault_of_a_job_that_comes(reliefs: list[Relief]) -> None:
    """As ever: the engine has failed, and every caller hears of it."""
    engine, session, long, _ = under_way(reliefs)
    late = Draw([], 80, SamplingParameters(seed=2), 30)

    def fail(samples: Sequence[Sample]) -> None:
        raise RuntimeError("nobody takes them")

    long.sink = fail
    engine.submit(late)
    session.gate.set()
    for asked in (long, late):
        with pytest.raises(ServingError, match="the model failed"):
            asked.result.result(30)
    assert engine.failure
