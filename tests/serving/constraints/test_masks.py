import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.constraints.pattern import TooComplex

ALPHABET = ("a", "b")


def strings(shortest: int, longest: int) -> list[tuple[int, ...]]:
    lengths = range(shortest, longest + 1)
    return [ids for n in lengths for ids in itertools.product((1, 2), repeat=n)]


def text(ids: tuple[int, ...]) -> str:
    return "".join(ALPHABET[i - 1] for i in ids)


@given(
    st.sampled_from(["", "a*", "(ab)*", "a.*b", "b{3}", "(a|bb)+", "a?b?a?"]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.lists(st.integers(1, 2), max_size=2),
)
def test_a_token_is_allowed_if_a_whole_string_goes_on_from_it(
    pattern: str, shortest: int, more: int, prefix: list[int]
) -> None:
    longest = max(shortest + more, len(prefix), 1)
    bounds = Bounds(Rules(pattern).compile(ALPHABET), shortest, longest, prefix)
    wanted = [
        ids
        for ids in strings(shortest, longest)
        if re.fullmatch(pattern or ".*", text(ids)) and list(ids[: len(prefix)]) == prefix
    ]
    assert bounds.is_satisfiable == bool(wanted)
    for ids in strings(0, longest):
        is_right = len(ids) >= shortest and re.fullmatch(pattern or ".*", text(ids)) is not None
        assert bounds.accepts(ids) == is_right
    for begun in {ids[:n] for ids in wanted for n in range(len(prefix), len(ids) + 1)}:
        state = np.array([bounds.automaton.run(begun)])
        mask = bounds.allowed(np.array([len(begun)]), state)[0]
        if len(begun) == longest:
            assert mask.all()
            continue
        begins = {ids[: len(begun) + 1] for ids in wanted}
        goes_on = [(*begun, token) in begins for token in (1, 2)]
        assert mask.tolist() == [begun in wanted, *goes_on]


def test_states_follow_the_tokens() -> None:
    bounds = Bounds(Rules("(ab)*").compile(ALPHABET), 0, 4)
    first = bounds.next(np.array([bounds.start]), np.array([1]))
    assert bounds.next(first, np.array([2])).tolist() == [bounds.automaton.run([1, 2])]


def test_what_would_take_too_much_memory_is_refused() -> None:
    assert Bounds(Rules("(a|b)*a(a|b){9}").compile(ALPHABET), 0, 4096).is_satisfiable
    large = Rules("a{4000}").compile(tuple(map(chr, range(97, 97 + 500))))
    with pytest.raises(TooComplex):
        _ = Bounds(large, 0, 4096).is_satisfiable
