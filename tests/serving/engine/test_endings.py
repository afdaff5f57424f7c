import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from serving.engine import endings, lane
from serving.engine.engine import Engine
from serving.engine.job import FinishReason, Sample, Shortfall
from serving.engine.stepping import States
from serving.testing import FakeSession
from tests.serving.engine.test_engine import expected, job


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings wait as long as they may."""
    monkeypatch.setattr(endings, "AT_ONCE", 10**9)
    monkeypatch.setattr(endings, "WHILE", 10**9)


def test_strings_of_a_job_that_goes_on_are_handed_on_many_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "WHILE", 10**9)
    parts: list[list[Sample]] = []
    asked = job(640, seed=1)
    asked.sink = lambda samples: parts.append(list(samples))
    engine.submit(asked)
    outcome = asked.result.result(timeout=30)
    samples = [sample for part in parts for sample in part]
    assert samples == expected(asked)
    ended = sum(sample.finish_reason is FinishReason.END for sample in samples)
    assert outcome.usage.characters == ended + sum(len(sample.text) for sample in samples)
    assert len(parts) <= 640 // (endings.AT_ONCE - 8) + 9


def test_no_string_waits_for_long_where_steps_take_long() -> None:
    class Slow(FakeSession):
        def step(
            self, token: npt.NDArray[np.int64], states: States
        ) -> tuple[npt.NDArray[np.float32], States]:
            time.sleep(endings.WHILE)
            return super().step(token, states)

    parts: list[int] = []
    engine = Engine(Slow(), max_rows=2, prefix_cache=0)
    engine.start()
    asked = job(40, seed=1)
    asked.sink = lambda samples: parts.append(len(samples))
    engine.submit(asked)
    asked.result.result(timeout=30)
    engine.stop()
    assert sum(parts) == 40
    assert max(parts) <= 2 * (lane.ROUNDS + 1)


@pytest.mark.usefixtures("patient")
def test_what_waits_is_part_of_what_there_is_when_time_is_up(engine: Engine) -> None:
    asked = replace(job(10**6, seed=1), partial_at=time.monotonic() + 0.3)
    engine.submit(asked)
    outcome = asked.result.result(timeout=30)
    assert outcome.shortfall is Shortfall.DEADLINE
    assert len(outcome.samples) > 8
    first = min(len(outcome.samples), 500)
    assert outcome.samples[:first] == expected(replace(asked, n=first))


@pytest.mark.usefixtures("patient")
def test_what_waits_for_a_job_that_was_cancelled_is_counted_and_keeps_nobody(
    engine: Engine,
) -> None:
    asked, after = job(10**6, seed=1), job(20, seed=2)
    engine.submit(asked)
    while engine.beats < 100:
        time.sleep(0.01)
    asked.result.cancel()
    engine.submit(after)
    assert after.result.result(timeout=30).samples == expected(after)
    own = after.result.result().usage.characters
    assert engine.figures().counts["characters", "draw"] > own
