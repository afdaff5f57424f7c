from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine import compiled, kernels, sampling, walking
from serving.engine import rows as table
from serving.engine.contexts import Context
from serving.engine.engine import Engine
from serving.engine.rows import Records, begun, packed, record_type
from serving.engine.walking import Known, Relief, Walker, Ways, known_of
from serving.testing import FakeSession
from tests.serving.engine.test_engine import expected, job

VOCABULARY = 5
RELIEVER = 8


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled."""
    monkeypatch.setattr(compiled, "library", lambda: None)


def walkers(longest: int) -> tuple[Walker, Walker]:
    """The compiled one, and the one of numpy."""
    in_c = Walker(longest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        return in_c, Walker(longest)


@dataclass
class Scene:
    """Rows somewhere in a tree of which a part is known."""

    longest: int
    known: Known
    ways: Ways
    live: Records


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    longest = draw(st.sampled_from([3, 12, 40]))  # more than numbers are kept for
    places = draw(st.integers(1, 30))
    scale = draw(st.sampled_from([0.0, 1.0, 30.0, 700.0]))
    logits = random.normal(size=(places, VOCABULARY)).astype(np.float32) * np.float32(scale)
    child = random.integers(-places, places, (places, VOCABULARY)).clip(0).astype(np.int32)
    return Scene(
        longest,
        known_of(logits),
        Ways(child, np.zeros(places, np.int64)),
        some_rows(random, draw(st.integers(0, 9)), places, longest),
    )


def some_rows(random: np.random.Generator, count: int, places: int, longest: int) -> Records:
    first, most = int(random.integers(0, longest + 1)), longest
    shared = packed(
        (
            7,
            -1,
            first,
            first,
            first,
            first,
            most,
            0,
            2**63 + 5,
            *(1.0, 0, 1.0, 0.0),
            True,
            False,
            False,
        )
    )
    live = begun(record_type(longest), [(shared, count)])
    live["simple"] = random.random(count) < 0.8
    live["place"] = random.integers(0, places, count)
    live["index"] = live["sample"] = random.integers(0, 2**32, count)
    live["attempt"] = random.integers(0, 3, count)
    live["length"] = random.integers(first, longest + 1, count)
    live["log_prob"] = random.normal(size=count)
    has_token = random.random(count) < 0.3
    live["token"] = np.where(has_token, random.integers(1, VOCABULARY, count), -1)
    kept = live["uniform"].shape[1]
    live["uniform"] = table.make_uniforms(live, (live["length"] - first) // kept * kept)
    return live


def fields(live: Records) -> list[bytes]:
    """The rows' bits, without what lies between their fields."""
    return [live[name].tobytes() for name in live.dtype.names or ()]


@given(scenes(), st.booleans())
def test_compiled_or_not_rows_walk_the_same_way_to_the_last_bit(scene: Scene, is_led: bool) -> None:
    found = []
    for walker in walkers(scene.longest):
        live, ways = scene.live.copy(), scene.ways._replace(used=scene.ways.used.copy())
        walked = walker.walk(live, scene.known, ways if is_led else None, 5)
        are_done, *counts, are_new = walked
        assert are_new is None
        found.append((fields(live), are_done.tolist(), counts, ways.used.tolist()))
    assert found[0] == found[1]


@given(scenes())
def test_a_row_that_walks_ends_or_waits_for_what_is_not_known(scene: Scene) -> None:
    for walker in walkers(scene.longest):
        live = scene.live.copy()
        walked = walker.walk(live, scene.known, scene.ways, 1)
        assert walked.unchosen == np.count_nonzero(live["token"] < 0)
        assert not (live["simple"] & (live["token"] < 0)).any()
        rows = live[live["token"] >= 0]
        waits = scene.ways.child[rows["place"], rows["token"]] == 0
        over = walked.are_done[live["token"] >= 0]
        assert (waits | over).all()
        assert walked.done == np.count_nonzero(walked.are_done)
        assert walked.hits == (live["at"] - scene.live["at"]).sum()


def relief_of(longest: int, count: int, known: Known) -> Relief:
    """Rows of another owner that go on from the first place."""
    records = some_rows(np.random.default_rng(count), count, 1, longest)
    records["length"], records["log_prob"] = records["first"], 0
    records["token"], records["simple"], records["owner"] = -1, True, RELIEVER
    records["index"] = records["sample"] = np.arange(count)
    records["attempt"] = 0
    records["uniform"] = table.make_uniforms(records)
    return Relief(records, Context(known.at(0), ()))


@given(scenes(), st.integers(1, 12), st.booleans())
def test_rows_of_a_relief_go_the_way_that_they_would_go_on_their_own(
    scene: Scene, count: int, is_led: bool
) -> None:
    """In the places of rows that are done, until there are no more of either."""
    walker, live, ways = Walker(scene.longest), scene.live.copy(), scene.ways if is_led else None
    relief = relief_of(scene.longest, count, scene.known)
    walked = walker.walk(live, scene.known, ways, 1, relief)
    assert relief.is_used_up or not walked.are_done.any()
    assert walked.relieved == relief.used
    is_new = live["owner"] == RELIEVER
    assert np.array_equal(
        is_new, np.zeros_like(is_new) if walked.are_new is None else walked.are_new
    )
    if not is_led:
        assert np.array_equal(live["place"], scene.live["place"])
    alone = {}
    for row in [*scene.live, *relief.records[: relief.used]]:
        (went,) = one = np.array([row])
        walker.walk(one, scene.known, ways, 1)
        alone[went["owner"], went["index"], went["attempt"]] = went
    found = [*relief.done(), *live]
    assert len(found) == len(alone)
    for row in found:
        went = alone[row["owner"], row["index"], row["attempt"]]
        row["place"] = went["place"] if not is_led else row["place"]
        assert fields(row) == fields(went)


def test_what_a_relief_has_done_is_told_once() -> None:
    known, walker = known_of(np.zeros((1, VOCABULARY), np.float32)), Walker(3)
    relief, live, told = relief_of(3, 9, known), relief_of(3, 2, known).records, list[int]()
    relieved = 0
    while not relief.is_used_up:
        live["token"] = -1
        relieved += walker.walk(live, known, relief=relief).relieved
        assert relief.used == relieved
        assert relief.used == len(told) + relief.waiting
        told += relief.done()["index"].tolist()
        assert relief.waiting == 0
    assert len(told) == 9


@given(
    rows=st.integers(0, 5),
    vocabulary=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.0, 1.0, 800.0]),
    odd=st.sampled_from([None, float("nan"), float("-inf")]),
)
def test_compiled_edges_are_those_of_the_sampler_to_the_last_bit(
    rows: int, vocabulary: int, seed: int, scale: float, odd: float | None
) -> None:
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(rows, vocabulary)) * scale).astype(np.float32)
    if odd is not None and rows and vocabulary > 1:
        logits[0, random.integers(0, vocabulary)] = odd
    ours = kernels.edges(compiled.library(), logits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        plain = sampling.edges(logits.astype(np.float64))
    for found, wanted in zip(ours, plain, strict=True):
        assert np.array_equal(found, wanted, equal_nan=True)


@given(
    logits=st.lists(st.floats(-800, 800, width=32), min_size=1, max_size=40),
    uniform=st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 1 - 2**-53]),
)
def test_a_walk_draws_as_the_sampler_does_to_the_last_bit(
    logits: list[float], uniform: float
) -> None:
    row, plain = (
        np.array([logits], np.float32),
        sampling.Settings.of(sampling.SamplingParameters(), 1),
    )
    drawn = sampling.draw(row, plain, np.array([uniform]))
    for walker in walkers(4):
        live = some_rows(np.random.default_rng(0), 1, 1, 4)
        live["simple"], live["token"], live["log_prob"], live["uniform"] = True, -1, 0, uniform
        live["length"] = live["first"] = 0
        walker.walk(live, known_of(row))
        assert live["token"][0] == drawn.ids[0]
        assert live["log_prob"][0] == drawn.log_prob[0]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_compiled_numbers_are_those_of_the_generator(seed: int, sample: int, attempt: int) -> None:
    compiled, plain = walkers(50)
    found = []
    for walker in (compiled, plain):
        records = np.zeros(2, record_type(50))
        records["seed"], records["sample"], records["attempt"] = seed, [sample, 3], attempt
        walker.fill_uniforms(records)
        found.append(records["uniform"].tobytes())
    assert found[0] == found[1]


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("cache", [0, 1, 64 << 20])
@pytest.mark.parametrize("rows", [1, 5])
def test_an_engine_without_compiled_loops_gives_the_same_strings(cache: int, rows: int) -> None:
    engine = Engine(FakeSession(max_length=40), rows, cache)
    engine.start()
    for seed in range(3):
        engine.submit(asked := job(30, seed=seed))
        assert asked.result.result(timeout=30).samples == expected(asked)
    engine.stop()


def test_a_walk_that_has_seen_enough_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has a token nonetheless, to be seen by a step."""
    monkeypatch.setattr(walking, "ENOUGH", 10)
    logits = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    logits[:, 0] = -30  # hardly ever an end
    leads = np.tile(np.arange(VOCABULARY, dtype=np.int32), (VOCABULARY, 1))
    for walker in walkers(40):
        live = some_rows(np.random.default_rng(2), 4, 1, 40)
        live["simple"], live["token"], live["first"], live["length"] = True, -1, 0, 0
        ways = Ways(leads, np.zeros(VOCABULARY, np.int64))
        walked = walker.walk(live, known_of(logits), ways, 1)
        assert 10 <= walked.hits <= 10 + len(live)
        assert walked.hits == live["length"].sum() - len(live)
        assert (live["token"] > 0).all()
        assert not walked.done


def test_what_is_learned_is_what_is_known_of_the_same_logits() -> None:
    random = np.random.default_rng(1)
    for walker in walkers(4):
        known = known_of(np.zeros((6, VOCABULARY), np.float32)).changed(np.copy)
        for _ in range(2):
            logits = random.normal(size=(6, VOCABULARY)).astype(np.float32)
            walker.learn(known, logits)
            wanted = known_of(logits)
            assert known.logits.tobytes() == wanted.logits.tobytes()
            assert known.cumulative.tobytes() == wanted.cumulative.tobytes()
            assert known.log_partition.tobytes() == wanted.log_partition.tobytes()


def test_what_is_known_of_some_places_is_set_in_every_column() -> None:
    known = known_of(np.zeros((3, VOCABULARY), np.float32)).changed(np.copy)
    other = known_of(np.arange(VOCABULARY, dtype=np.float32)[None])
    known.put(np.array([1]), other)
    columns: list[Any] = [known.logits, known.cumulative, known.log_partition]
    values: list[Any] = [other.logits, other.cumulative, other.log_partition]
    for column, value in zip(columns, values, strict=True):
        assert (column[1] == value[0]).all()
        assert (column[0] != value[0]).any()
