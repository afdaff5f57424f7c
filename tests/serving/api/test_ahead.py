"""What is made ahead is made when it is wanted, given to one call each, and the same as what a call draws."""

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makemore.v1 import generation_service_pb2 as pb
from serving.api import ahead, plan
from serving.api.ahead import FIRST, LARGEST, OFTEN, REQUESTS, SPAN, WHILE, Ahead
from serving.engine.job import LIGHT
from serving.errors import ServingError
from serving.repository import Model, load_version
from tests.conftest import COMMITTED
from tests.serving.api.stocks import (
    MOST,
    PLAIN,
    Asked,
    Clock,
    drawing,
    expect,
    now,
    sizes,
    stock_of,
    taken,
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_version(COMMITTED / "names" / "2")


@pytest.fixture
def engine() -> Any:
    return Asked()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ahead, "monotonic", clock)
    return clock


@pytest.mark.parametrize("rounds", [(50,), (OFTEN - 1, 1), (1,) * OFTEN])
def test_nothing_is_made_ahead_of_few_calls_or_of_many_that_come_once(
    model: Model, engine: Any, rounds: tuple[int, ...]
) -> None:
    expect(stock_of(engine), model, engine, *rounds)
    assert engine.jobs == []


@pytest.mark.parametrize("calls", [1, OFTEN - 1, 50])
def test_nothing_is_made_ahead_of_what_is_asked_for_now_and_then(
    model: Model, engine: Any, clock: Clock, calls: int
) -> None:
    stock = stock_of(engine)
    for _ in range(50):
        expect(stock, model, engine, calls)
        clock.now += SPAN
    assert engine.jobs == []


@pytest.mark.parametrize("rounds", [(50, 50), (1,) * (OFTEN + 1)])
def test_when_calls_come_again_and_again_one_has_others_made(
    model: Model, engine: Any, rounds: tuple[int, ...]
) -> None:
    expect(stock_of(engine), model, engine, *rounds)
    (job,) = engine.jobs
    assert job.n == len(set(job.seeds)) == FIRST
    assert not job.is_awaited
    assert job.deadline is None


def test_each_answer_is_given_once_in_the_order_of_the_seeds_whatever_their_length(
    model: Model, engine: Any, clock: Clock
) -> None:
    stock = stock_of(engine)
    expect(stock, model, engine)
    job = engine.answer()
    clock.now += WHILE
    responses = taken(stock, engine, FIRST)
    assert stock.take(engine) is None
    assert [response.seed for response in responses] == list(job.seeds)
    for place, response in enumerate(responses):
        (sample,) = response.samples
        assert (sample.text, sample.index) == ("ab"[: 1 + place % 2], 0)
        assert response.settings.sampling.seed == response.seed
        assert response.usage.characters == len(sample.text) + 1
        assert response.model == model.full_name


def test_more_is_made_when_half_is_left_and_twice_as_many(
    model: Model, engine: Any, clock: Clock
) -> None:
    stock = stock_of(engine)
    expect(stock, model, engine)
    engine.answer()
    clock.now += 0.9 * WHILE
    taken(stock, engine, FIRST // 2)
    assert engine.jobs == []
    taken(stock, engine, 3)
    assert engine.answer().n == 2 * FIRST
    taken(stock, engine, 1 + 2 * FIRST)


@pytest.mark.parametrize(
    ("most", "rows", "light", "wanted"),
    [
        (1024, 256, LIGHT, [8, 16, 32, 64, 128, 128]),
        (20, 256, LIGHT, [8, 16, 20, 20]),
        (1024, 24, LIGHT, [8, 12, 12]),
        (1024, 256, 5 * 16, [5, 5]),
        (3, 256, LIGHT, [3, 3]),
    ],
    ids=["light work", "as set", "half of the rows", "long texts", "few"],
)
def test_as_many_are_made_as_are_wanted_and_no_more_than_is_good_for_others(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    rows: int,
    light: int,
    wanted: list[int],
) -> None:
    monkeypatch.setattr(plan, "LIGHT", light)
    engine: Any = Asked(rows)
    stock = stock_of(engine, most)
    expect(stock, model, engine)
    assert sizes(stock, engine, len(wanted)) == wanted


def test_when_they_went_slowly_no_more_is_made_and_later_as_few_as_at_first(
    model: Model, engine: Any, clock: Clock
) -> None:
    stock = stock_of(engine)
    expect(stock, model, engine)
    assert sizes(stock, engine, 2) == [FIRST, 2 * FIRST]
    engine.answer()
    clock.now += WHILE
    while stock.take(engine):
        pass
    assert engine.jobs == []
    expect(stock, model, engine)
    assert engine.answer().n == FIRST


def test_nothing_is_made_while_calls_wait_for_long_or_something_else_is_made(
    model: Model, engine: Any
) -> None:
    made = Ahead(MOST, now)
    stock, other = (made.of(pb.GenerateRequest(prefix=p), engine) for p in "ab")
    engine.admission.is_calm = False
    expect(stock, model, engine)
    assert engine.jobs == []
    engine.admission.is_calm = True
    expect(stock, model, engine)
    expect(other, model, engine)
    engine.answer()
    assert stock.take(engine) is not None
    assert other.take(engine) is None


def test_what_goes_wrong_costs_calls_nothing_and_is_tried_again(model: Model, engine: Any) -> None:
    stock = stock_of(engine)
    engine.is_closed = True
    expect(stock, model, engine)
    engine.is_closed = False
    expect(stock, model, engine)
    engine.jobs.pop().fail(ServingError("the model failed"))
    assert stock.take(engine) is None
    expect(stock, model, engine)
    engine.jobs.pop().result.cancel()
    expect(stock, model, engine)
    engine.answer()
    assert stock.take(engine) is not None


def test_a_call_that_finds_nothing_makes_nothing_if_there_is_something_by_then(
    model: Model, engine: Any
) -> None:
    stock = stock_of(engine)
    expect(stock, model, engine)
    engine.answer()
    stock.expect(drawing(model), model, engine)
    assert engine.jobs == []


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        (pb.GenerateRequest(n=2), MOST),
        (pb.GenerateRequest(sampling=pb.Sampling(seed=0)), MOST),
        (pb.GenerateRequest(constraints=pb.Constraints(unique=True)), MOST),
        (pb.GenerateRequest(prefix="x" * LARGEST), MOST),
        (PLAIN, 0),
        (PLAIN, 1),
    ],
    ids=["several", "a seed", "constraints", "long", "turned off", "one at a time"],
)
def test_nothing_is_made_ahead_of_others(
    asked: pb.GenerateRequest, most: int, model: Model, engine: Any
) -> None:
    expect(stock_of(engine, most, asked), model, engine)
    assert engine.jobs == []


def test_empty_messages_ask_for_nothing(model: Model, engine: Any) -> None:
    """As those that the client sends."""
    asked = pb.GenerateRequest(n=1, sampling=pb.Sampling(), constraints=pb.Constraints())
    expect(stock_of(engine, MOST, asked), model, engine)
    assert len(engine.jobs) == 1


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


def test_a_caller_cannot_tell_what_others_ask_for(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, found = Ahead(MOST, now), []
    for name in ("token:alice", "token:bob", "token:alice"):
        monkeypatch.setattr(ahead, "caller", lambda name=name: name)
        found.append(made.of(PLAIN, engine))
    assert found[0] is found[2] is not found[1]


def test_requests_that_were_not_made_for_longest_are_forgotten(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Ahead(MOST, now)

    def of(place: int) -> Any:
        monkeypatch.setattr(ahead, "caller", lambda: f"token:{place}")
        return made.of(PLAIN, engine)

    stocks = [of(place) for place in range(REQUESTS)]
    of(0)
    of(REQUESTS)
    assert [of(place) is stocks[place] for place in (0, 2, 1)] == [True, True, False]


def test_a_caller_who_asks_for_many_things_has_half_of_what_is_remembered(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Ahead(MOST, now)
    stock = made.of(PLAIN, engine)
    monkeypatch.setattr(ahead, "caller", lambda: "token:flood")
    requests = [pb.GenerateRequest(prefix=f"a{place}") for place in range(2 * REQUESTS)]
    stocks = [made.of(request, engine) for request in requests]
    half = REQUESTS // 2
    assert made.of(requests[-half], engine) is stocks[-half]
    assert made.of(requests[-half - 1], engine) is not stocks[-half - 1]
    monkeypatch.undo()
    assert made.of(PLAIN, engine) is stock


def test_what_was_made_by_an_engine_goes_with_it(model: Model) -> None:
    engine: Any = Asked()
    made = Ahead(MOST, now)
    stock = made.of(PLAIN, engine)
    expect(stock, model, engine)
    engine.answer()
    gone: list[weakref.ref[Any]] = [weakref.ref(engine), weakref.ref(stock)]
    del engine, stock
    gc.collect()
    assert [one() for one in gone] == [None, None]
