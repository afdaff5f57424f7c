import random
import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.engine.engine import Engine
from serving.engine.job import Draw, FinishReason, Sample
from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters
from serving.engine.stepping import States
from serving.errors import DeadlineExceeded, ServingError, Unavailable
from serving.testing import FakeSession


class GatedSession(FakeSession):
    """Steps only while the gate is open, so that a test can look at a turn's middle."""

    def __init__(self) -> None:
        super().__init__(max_length=40)
        self.gate, self.waiting = threading.Event(), threading.Event()
        self.gate.set()

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        if not self.gate.is_set():
            self.waiting.set()
            assert self.gate.wait(30)
        return super().step(token, states)


def job(n: int = 3, prefix: str = "", max_length: int = 8, **parameters: float) -> Draw:
    ids = FakeSession().manifest.vocabulary.encode(prefix)
    return Draw(ids, n, SamplingParameters(**parameters), max_length)  # type: ignore[arg-type]


def expected(asked: Draw) -> list[Sample]:
    return generate(FakeSession(), asked.prefix, asked.n, asked.parameters, asked.max_length)


def fixed(sample: Sample) -> tuple[object, ...]:
    return sample.text, sample.index, sample.finish_reason, sample.attempts


def sums_of(sample: Sample) -> tuple[float, ...]:
    return sample.log_prob, sample.sampling_log_prob, sample.log_weight


def assert_same(found: list[Sample], wanted: list[Sample]) -> None:
    """Equal but for the last bits of a sum over another number of rows."""
    assert [fixed(s) for s in found] == [fixed(s) for s in wanted]
    sums = [[x for s in samples for x in sums_of(s)] for samples in (found, wanted)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-12)


def test_jobs_amid_others_give_what_the_plain_sampler_gives(engine: Engine) -> None:
    """64 jobs of all kinds at once through 7 rows, submitted from 8 threads."""
    chance = random.Random(1)
    jobs = [
        job(
            n=chance.randint(1, 20),
            prefix="".join(chance.choices("abc", k=chance.randint(0, 8))),
            seed=chance.randint(0, 2**64 - 1),
            temperature=chance.choice([0, 0.5, 1, 2]),
            top_k=chance.randint(0, 4),
        )
        for _ in range(64)
    ]
    threads = [
        threading.Thread(target=lambda i=i: deque(map(engine.submit, jobs[i::8]))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in jobs:
        assert_same(each.result.result(30).samples, expected(each))
    assert isinstance(engine.session, FakeSession)
    assert max(engine.session.rows) <= 7


def test_a_smaller_n_gives_the_first_of_a_larger(engine: Engine) -> None:
    few, many = job(n=5, seed=9), job(n=50, seed=9)
    engine.submit(few)
    engine.submit(many)
    assert few.result.result(30).samples == many.result.result(30).samples[:5]


def test_a_prefix_is_run_once_a_job() -> None:
    session = FakeSession()
    engine = Engine(session, max_rows=100)
    engine.start()
    asked = job(n=50, prefix="abcab")
    engine.submit(asked)
    asked.result.result(30)
    engine.stop()
    assert session.rows[1:6] == [2] * 5  # the fewest that a step has


def test_a_string_is_cut_at_its_longest_and_one_as_long_may_still_end(engine: Engine) -> None:
    asked = job(n=200, prefix="abc", max_length=3)
    engine.submit(asked)
    samples = asked.result.result(30).samples
    assert {s.text for s in samples} == {"abc"}
    reasons = {s.finish_reason for s in samples}
    assert reasons == {FinishReason.END, FinishReason.MAX_LENGTH}
    for sample in samples:
        assert (sample.log_prob == 0) == (sample.finish_reason is FinishReason.MAX_LENGTH)


def test_a_cancelled_job_frees_its_rows_at_the_next_turn() -> None:
    session = GatedSession()
    engine = Engine(session, max_rows=4)
    engine.start()
    session.gate.clear()
    long, next_ = job(n=1000, max_length=40), job(n=2, seed=5)
    engine.submit(long)
    assert session.waiting.wait(30)
    engine.submit(next_)
    assert long.result.cancel()
    steps = len(session.rows)
    session.gate.set()
    assert_same(next_.result.result(30).samples, expected(next_))
    with pytest.raises(CancelledError):
        long.result.result()
    assert max(session.rows[steps + 1 :]) <= 2  # after the step under way, the other job alone
    engine.stop()


def test_an_expired_job_fails_and_frees_its_rows() -> None:
    session = GatedSession()
    engine = Engine(session, max_rows=4)
    engine.start()
    session.gate.clear()
    late = job(n=1000, max_length=40)
    late.deadline = time.monotonic() + 0.05
    engine.submit(late)
    assert session.waiting.wait(30)
    time.sleep(max(0, late.deadline - time.monotonic()))
    session.gate.set()
    with pytest.raises(DeadlineExceeded):
        late.result.result(30)
    engine.stop()
    assert engine.rows == [0, 0]


def test_stopping_finishes_what_was_submitted_and_refuses_what_comes_after() -> None:
    engine = Engine(FakeSession(), max_rows=2)
    engine.start()
    asked = job(n=100)
    engine.submit(asked)
    engine.stop()
    assert len(asked.result.result(0).samples) == 100
    with pytest.raises(Unavailable):
        engine.submit(job())


def test_a_model_that_fails_answers_every_caller_without_its_text_and_takes_no_more() -> None:
    class Failing(FakeSession):
        is_failing = False

        def step(
            self, token: npt.NDArray[np.int64], states: States
        ) -> tuple[npt.NDArray[np.float32], States]:
            if self.is_failing:
                raise ValueError("secret")
            return super().step(token, states)

    session = Failing()
    engine = Engine(session, max_rows=4)
    engine.start()
    session.is_failing = True
    jobs = [job(n=50, prefix="abcabc") for _ in range(3)]
    with suppress(Unavailable):
        for each in jobs:
            engine.submit(each)
    failure = jobs[0].result.exception(30)
    assert isinstance(failure, ServingError)
    assert "secret" not in str(failure)
    engine.stop()
    assert engine.failure == "the engine of fake failed"
    with pytest.raises(Unavailable):
        engine.submit(job())


def test_an_engine_that_is_given_up_answers_all_that_it_had() -> None:
    """From another thread, while its own is stuck in a step: those under way, and those that wait."""
    session = GatedSession()
    engine = Engine(session)
    engine.start()
    session.gate.clear()
    under_way, waiting, cancelled = job(n=3, prefix="ab"), job(), job()
    engine.submit(under_way)
    assert session.waiting.wait(30)
    engine.submit(waiting)
    engine.submit(cancelled)
    cancelled.result.cancel()
    assert engine.is_busy
    engine.fail("stuck", Unavailable("try again"))
    for each in (under_way, waiting):
        assert isinstance(each.result.exception(0), Unavailable)
    assert engine.failure == "stuck"
    session.gate.set()
    engine.stop()  # its thread comes to itself, finds nothing to do, and ends
    assert not engine.is_busy


def test_a_model_whose_first_step_is_not_finite_does_not_start() -> None:
    class Broken(FakeSession):
        def step(
            self, token: npt.NDArray[np.int64], states: States
        ) -> tuple[npt.NDArray[np.float32], States]:
            logits, after = super().step(token, states)
            return logits * np.float32(np.nan), after

    with pytest.raises(ServingError, match="no usable logits"):
        Engine(Broken()).start()


@pytest.mark.parametrize("cache", [0, 64 << 20])
def test_a_string_on_its_own_may_be_longer_than_the_numbers_made_at_once(cache: int) -> None:
    session = FakeSession("abcdefgh", 100)
    engine = Engine(session, prefix_cache=cache)
    engine.start()
    for seed in range(30):
        asked = Draw([], 1, SamplingParameters(seed=seed), 100, deadline=time.monotonic() + 20)
        engine.submit(asked)
        wanted = generate(FakeSession("abcdefgh", 100), [], 1, asked.parameters, 100)
        assert_same(asked.result.result(30).samples, wanted)
    engine.stop()


def test_long_strings_of_many_rows_fit_into_any_tree() -> None:
    engine = Engine(FakeSession("abcdefgh", 200), max_rows=60, prefix_cache=1)
    engine.start()
    bounds = Bounds(Rules().compile(tuple("abcdefgh")), 200, 200)
    asked = Draw([], 100, SamplingParameters(seed=1), 200, bounds)
    engine.submit(asked)
    assert all(len(sample.text) == 200 for sample in asked.result.result(60).samples)
    engine.stop()


def test_a_job_that_cannot_be_begun_is_answered_and_the_others_go_on(engine: Engine) -> None:
    class Odd(Draw):
        def __getattribute__(self, name: str) -> object:
            if name == "selection":  # which only the engine's thread looks at
                raise ValueError("secret")
            return super().__getattribute__(name)

    odd, other = Odd([], 1, SamplingParameters(), 8), job(n=3, seed=2)
    engine.submit(odd)
    engine.submit(other)
    with pytest.raises(ServingError, match="failed"):
        odd.result.result(30)
    assert_same(other.result.result(30).samples, expected(other))
