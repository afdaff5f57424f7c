import itertools
import math
import sys
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.engine import top
from serving.engine.sampling import Float64, log_partition
from serving.engine.stepping import initial_states
from serving.engine.top import ROOM, Ids, Item, TopSearch
from serving.testing import FakeSession

LONGEST = 5
SESSION = FakeSession(max_length=LONGEST)
ALPHABET = SESSION.manifest.alphabet


def logits_after(ids: Ids) -> Float64:
    states = initial_states(SESSION.manifest.states, 1)
    for token in (0, *ids):
        logits, states = SESSION.step(np.array([token]), states)
    found: Float64 = logits[0].astype(np.float64)
    return found


def log_prob(ids: Ids, given: int) -> float:
    total = 0.0
    for place, token in enumerate((*ids, 0)):
        if place >= given:
            logits = logits_after(ids[:place])
            total += float(logits[token] - log_partition(logits[None])[0])
    return total


def bounds(pattern: str, prefix: Ids, shortest: int = 0, longest: int = LONGEST) -> Bounds:
    return Bounds(Rules(pattern).compile(ALPHABET), shortest, longest, prefix)


def drive(search: TopSearch) -> TopSearch:
    while wanted := search.wanted():
        search.tell(np.stack([logits_after(ids) for ids in wanted]))
    return search


def brute(found: Bounds, prefix: Ids) -> list[tuple[float, Ids]]:
    every = (
        ids
        for length in range(LONGEST + 1)
        for ids in itertools.product((1, 2, 3), repeat=length)
        if ids[: len(prefix)] == prefix and found.accepts(ids)
    )
    return sorted((-log_prob(ids, len(prefix)), ids) for ids in every)


@pytest.mark.parametrize(
    ("pattern", "prefix", "shortest", "longest"),
    [("", (), 0, 5), ("", (1,), 0, 5), (".*c", (), 2, 4), ("(ab|c)*", (), 0, 5), ("a", (1,), 0, 5)],
)
@pytest.mark.parametrize("n", [1, 7, 500])
def test_the_strings_are_those_of_brute_force_in_its_order(
    pattern: str, prefix: Ids, shortest: int, longest: int, n: int
) -> None:
    limits = bounds(pattern, prefix, shortest, longest)
    search = drive(TopSearch(prefix, limits, n, 10**6))
    wanted = brute(limits, prefix)
    assert [found.ids for found in search.found] == [ids for _, ids in wanted[:n]]
    assert [-f.log_prob for f in search.found] == pytest.approx([cost for cost, _ in wanted[:n]])
    assert search.is_complete
    if len(wanted) > n:
        assert search.bound >= -wanted[n][0]
    else:
        assert search.bound == -math.inf


def test_a_search_that_may_look_at_little_says_so_and_what_it_found_is_right() -> None:
    limits = bounds("", ())
    search = drive(TopSearch((), limits, 300, 70))
    assert not search.is_complete
    assert search.expansions == 70
    wanted = brute(limits, ())
    assert [found.ids for found in search.found] == [ids for _, ids in wanted[: len(search.found)]]
    assert search.bound >= -wanted[len(search.found)][0]


def test_strings_that_do_not_count_are_left_out() -> None:
    limits = bounds("", ())
    wanted = brute(limits, ())
    unwanted = {ids for _, ids in wanted[::2]}
    search = drive(TopSearch((), limits, 9, 10**6, lambda ids: ids not in unwanted))
    assert [found.ids for found in search.found] == [ids for _, ids in wanted[1::2]][:9]


def test_ties_come_in_the_alphabets_order() -> None:
    search = TopSearch((), bounds("", (), 1, 1), 3, 10)
    while wanted := search.wanted():
        search.tell(np.zeros((len(wanted), 4)))
    assert [found.ids for found in search.found] == [(1,), (2,), (3,)]


def test_what_is_given_back_is_still_there() -> None:
    limits = bounds("", ())
    search = TopSearch((), limits, 5, 10**6)
    search.tell(np.stack([logits_after(ids) for ids in search.wanted()]))
    search.wanted()
    search.give_back()
    assert not search.is_complete
    assert search.bound >= -brute(limits, ())[0][0]
    assert [f.ids for f in drive(search).found] == [ids for _, ids in brute(limits, ())[:5]]


def test_a_small_budget_keeps_little_and_is_right_about_the_rest() -> None:
    limits = bounds("", (), 5, 5)  # nothing can be left out before the very end
    search = drive(TopSearch((), limits, 3, 100))
    assert not search.is_complete
    best = -brute(limits, ())[0][0]
    assert search.bound >= best or search.found[0].log_prob == pytest.approx(best)


ITEMS = st.builds(
    Item,
    st.one_of(st.sampled_from([0.0, 1.0, math.inf]), st.floats(0, 1e300)),
    st.booleans(),
    st.lists(st.integers(1, 0x10FFFF) | st.integers(1, 3), max_size=4).map(tuple),
    st.integers(0, 2**32 - 1),
)


@given(ITEMS, ITEMS)
def test_packed_items_are_in_the_order_of_what_they_hold(first: Item, second: Item) -> None:
    assert Item.unpacked(first.packed()) == first
    one, other = astuple(first), astuple(second)
    assert (first.packed() < second.packed()) == (one < other)


def test_no_more_is_remembered_than_may_still_be_looked_at() -> None:
    """It was twice as much, each in 250 bytes: 90 MB for one call, 1.2 GB for 16."""
    search = TopSearch((), bounds("", (), 5, 5), 3, 40)
    while wanted := search.wanted():
        search.tell(np.stack([logits_after(ids) for ids in wanted]))
        assert len(search._heap) <= ROOM * (40 - search.expansions + 3) + 64
    assert search.bound >= -brute(bounds("", (), 5, 5), ())[0][0]


@pytest.mark.parametrize("budget", range(60, 360, 20))
def test_forgetting_changes_nothing_that_is_found(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = bounds("", (), 4, 5)
    monkeypatch.setattr(top, "AT_ONCE", 1)
    found = drive(TopSearch((), limits, 9, budget))
    monkeypatch.setattr(top, "ROOM", math.inf)
    wanted = drive(TopSearch((), limits, 9, budget))
    assert found.found == wanted.found
    assert (found.expansions, found.is_complete) == (wanted.expansions, wanted.is_complete)
    assert found.bound == wanted.bound


def test_what_a_search_says_it_may_remember_bounds_what_it_does() -> None:
    search = TopSearch((1,), bounds("", (1,), 5, 5), 3, 1000)
    while wanted := search.wanted():
        search.tell(np.stack([logits_after(ids) for ids in wanted]))
        assert sum(sys.getsizeof(packed) + 8 for packed in search._heap) <= search.most_bytes
