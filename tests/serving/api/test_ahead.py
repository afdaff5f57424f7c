"""What is made ahead is made when it is wanted, given to one call each, and the same as what a call draws."""

import asyncio
import gc
import weakref
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makemore.v1 import generation_service_pb2 as pb
from serving.api import ahead
from serving.api.ahead import LARGEST, MANY, REQUESTS, WHILE, Ahead, Stock
from serving.api.bounding import Bounding
from serving.api.drawing import Drawing, drawing_of
from serving.engine.job import LIGHT, Draw, FinishReason, Outcome, Sample, Usage
from serving.errors import Exhausted, ServingError
from serving.limits import MAX_N
from serving.repository import Model, load_version
from tests.conftest import COMMITTED

MOST = 16
PLAIN = pb.GenerateRequest(n=1)


class Clock:
    """A time of its own."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """An engine that notes what it is asked for, and answers when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Draw] = []
        self.is_closed = False

    def submit(self, job: Draw) -> None:
        if self.is_closed:
            raise Exhausted("too much waits")
        self.jobs.append(job)

    def answer(self) -> Draw:
        job = self.jobs.pop(0)
        samples = [
            Sample("ab"[: 1 + place % 2], place, FinishReason.END, -1.0) for place in range(job.n)
        ]
        job.result.set_result(Outcome(samples, Usage()))
        return job


@pytest.fixture(scope="module")
def model() -> Model:
    return load_version(COMMITTED / "names" / "2")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ahead, "monotonic", clock)
    return clock


def now(call: Any) -> None:
    """A loop that does at once what it is given."""
    call()


def drawing(model: Model, request: pb.GenerateRequest = PLAIN) -> Drawing:
    return asyncio.run(drawing_of(request, model, None, MAX_N, Bounding()))


def expect(stock: Stock, calls: int, model: Model, engine: Any) -> None:
    """So many calls at once find nothing."""
    asked = drawing(model)
    with ExitStack() as under_way:
        for _ in range(calls):
            under_way.enter_context(stock)
            assert stock.take(engine) is None
            stock.expect(asked, model, engine)


def filled(model: Model, engine: Any, most: int = MOST) -> tuple[Stock, Draw]:
    """The stock of a request that many have made, and the job that was done for it."""
    stock = Ahead(most, now).of(PLAIN, engine)
    expect(stock, MANY, model, engine)
    return stock, engine.answer()


def taken(stock: Stock, engine: Any) -> pb.GenerateResponse | None:
    answer = stock.take(engine)
    if answer is None:
        return None
    response = pb.GenerateResponse.FromString(answer.content)
    assert answer.characters == response.usage.characters
    return response


def test_nothing_is_made_ahead_of_few_calls_however_many_come_after_each_other(
    model: Model,
) -> None:
    engine: Any = Asked()
    stock = Ahead(MOST, now).of(PLAIN, engine)
    for _ in range(20):
        expect(stock, MANY - 1, model, engine)
    assert engine.jobs == []


def test_of_many_calls_at_once_one_has_others_made(model: Model) -> None:
    engine: Any = Asked()
    expect(Ahead(MOST, now).of(PLAIN, engine), 50, model, engine)
    (job,) = engine.jobs
    assert (job.n, len(set(job.seeds)), job.deadline) == (MOST, MOST, None)


def test_each_answer_is_given_once_in_the_order_of_the_seeds_whatever_their_length(
    model: Model, clock: Clock
) -> None:
    engine: Any = Asked()
    stock, job = filled(model, engine)
    clock.now += WHILE
    responses = [taken(stock, engine) for _ in range(MOST)]
    assert [response and response.seed for response in responses] == list(job.seeds)
    assert taken(stock, engine) is None
    for place, response in enumerate(responses):
        assert response is not None
        (sample,) = response.samples
        assert (sample.text, sample.index) == ("ab"[: 1 + place % 2], 0)
        assert response.settings.sampling.seed == response.seed
        assert response.usage.characters == len(sample.text) + 1
        assert response.model == model.full_name


@pytest.mark.parametrize("most", [MOST, 1024])
def test_more_is_made_when_half_is_left_and_it_went_fast(
    model: Model, clock: Clock, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(ahead, "LIGHT", MOST * 16)
    engine: Any = Asked()
    stock, _ = filled(model, engine, most)
    clock.now += 0.9 * WHILE
    for _ in range(MOST // 2):
        taken(stock, engine)
    assert engine.jobs == []
    for _ in range(3):
        taken(stock, engine)
    assert len(engine.jobs) == 1
    engine.answer()
    assert [taken(stock, engine) is None for _ in range(2 * MOST)].count(False) == 2 * MOST - 11


def test_no_more_is_made_when_it_went_slowly(model: Model, clock: Clock) -> None:
    engine: Any = Asked()
    stock, _ = filled(model, engine)
    clock.now += WHILE
    while taken(stock, engine):
        pass
    assert engine.jobs == []


def test_a_refusal_costs_the_calls_nothing_and_it_is_tried_again(model: Model) -> None:
    engine: Any = Asked()
    stock = Ahead(MOST, now).of(PLAIN, engine)
    engine.is_closed = True
    expect(stock, MANY, model, engine)
    engine.is_closed = False
    expect(stock, MANY, model, engine)
    engine.jobs.pop().fail(ServingError("the model failed"))
    assert stock.take(engine) is None
    expect(stock, MANY, model, engine)
    engine.jobs.pop().result.cancel()
    expect(stock, MANY, model, engine)
    engine.answer()
    assert stock.take(engine) is not None


@pytest.mark.parametrize("prefix", ["", "emm", "x" * 10])
def test_what_is_made_at_a_time_is_light_work(model: Model, prefix: str) -> None:
    engine: Any = Asked()
    request = pb.GenerateRequest(prefix=prefix)
    stock = Ahead(1024, now).of(request, engine)
    asked = drawing(model, request)
    with ExitStack() as under_way:
        for _ in range(MANY):
            under_way.enter_context(stock)
        stock.expect(asked, model, engine)
    (job,) = engine.jobs
    assert job.is_light
    assert LIGHT - job.characters < asked.job.characters
    assert job.prefix == asked.job.prefix


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        (pb.GenerateRequest(n=2), MOST),
        (pb.GenerateRequest(sampling=pb.Sampling(seed=0)), MOST),
        (pb.GenerateRequest(constraints=pb.Constraints(unique=True)), MOST),
        (pb.GenerateRequest(prefix="x" * LARGEST), MOST),
        (PLAIN, 0),
    ],
    ids=["several", "a seed", "constraints", "long", "turned off"],
)
def test_nothing_is_made_ahead_of_others(
    asked: pb.GenerateRequest, most: int, model: Model
) -> None:
    engine: Any = Asked()
    expect(Ahead(most, now).of(asked, engine), 2 * MANY, model, engine)
    assert engine.jobs == []


@given(
    st.lists(
        st.builds(
            pb.GenerateRequest,
            prefix=st.sampled_from(["", "a"]),
            n=st.integers(0, 1),
            model=st.sampled_from(["", "names"]),
            sampling=st.builds(pb.Sampling, temperature=st.sampled_from([0.0, 1.0])),
        ),
        min_size=2,
        max_size=2,
    )
)
def test_requests_share_answers_if_they_are_the_same(requests: list[pb.GenerateRequest]) -> None:
    made = Ahead(MOST, now)
    engines: Any = (Asked(), Asked())
    first, second = (made.of(request, engines[0]) for request in requests)
    assert (first is second) == (requests[0] == requests[1])
    assert made.of(requests[0], engines[1]) is not first


def test_requests_that_were_not_made_for_longest_are_forgotten() -> None:
    engine: Any = Asked()
    made = Ahead(MOST, now)
    requests = [pb.GenerateRequest(prefix=f"a{place}") for place in range(REQUESTS + 1)]
    stocks = [made.of(request, engine) for request in requests[:-1]]
    made.of(requests[0], engine)
    made.of(requests[-1], engine)
    again = [made.of(requests[place], engine) is stocks[place] for place in (0, 2, 1)]
    assert again == [True, True, False]


def test_nothing_is_made_ahead_where_a_single_string_is_much_work(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "LIGHT", 31)
    engine: Any = Asked()
    expect(Ahead(MOST, now).of(PLAIN, engine), 2 * MANY, model, engine)
    assert engine.jobs == []


def test_what_was_made_by_an_engine_goes_with_it(model: Model) -> None:
    engine: Any = Asked()
    made = Ahead(MOST, now)
    stock = made.of(PLAIN, engine)
    expect(stock, MANY, model, engine)
    engine.answer()
    gone: list[weakref.ref[Any]] = [weakref.ref(engine), weakref.ref(stock)]
    del engine, stock
    gc.collect()
    assert [one() for one in gone] == [None, None]
