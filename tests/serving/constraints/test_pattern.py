import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.constraints.automaton import MAX_STATES, Automaton, Rules
from serving.constraints.pattern import Expression, TooComplex
from serving.errors import InvalidArgument

ALPHABET = ("a", "b", "É", "é", "ж", "1", "-", " ", "_")


def accepts(automaton: Automaton, text: str) -> bool:
    state = automaton.run([ALPHABET.index(c) + 1 for c in text])
    return state < len(automaton.next) and bool(automaton.accepting[state])


def assert_same_as_re(pattern: str, longest: int = 3) -> None:
    automaton = Rules(pattern=pattern).compile(ALPHABET)
    for length in range(longest + 1):
        for letters in itertools.product(ALPHABET, repeat=length):
            text = "".join(letters)
            assert accepts(automaton, text) == bool(re.fullmatch(pattern, text)), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        "a", "ab|", "(a|b)*", "a{2}", "a{1,2}b?", "a{2,}", "a{,1}", "a{0}b", "a+?b*?", "(a*)*",
        "(a?b?)*1", "(a{0,2}){2}", ".", ".*é", "(?s:.)", "[ab]+", "[^ab]", "[]a]", "[^]]", "[a-c1]",
        r"\w+", r"\W", r"\d", r"\D*", r"\s", r"[^\W\d]", r"[\w-]+", r"\x61", r"\u0436", r"\.|a",
        "(?i)É", "(?i:é)É", "(?i)[à-ü]", "(?a)\\w", "(?x) a b", "(?#what)a", "(?P<n>a)b", "(?:a|b)1",
        "^a", "a$", r"\Aa\Z", "^$", "()", "(|a)b", "-|_",
    ],
)  # fmt: skip
def test_a_pattern_matches_what_python_matches(pattern: str) -> None:
    assert_same_as_re(pattern)


parts = st.recursive(
    st.sampled_from(["a", "b", "é", ".", "[ab]", "[^a]", r"\w", r"\d", "1", "-"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})"),
        inner.map(lambda p: f"(?:{p})*"),
        inner.map(lambda p: f"(?:{p})?"),
        st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
            lambda p: f"(?:{p[0]}){{{p[1]},{p[1] + p[2]}}}"
        ),
    ),
    max_leaves=6,
)


@given(parts)
def test_any_pattern_matches_what_python_matches(pattern: str) -> None:
    assert_same_as_re(pattern, longest=2)


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[", "a**", "*", r"\b", r"a\bb", "a^b", "a$b", "(?=a)", "(?!a)b", "(?<=a)b", r"(a)\1",
     "a++", "(?>a)", r"\p{L}", "a{3,2}", "(?P<n>a)(?(n)a|b)", "[[a]]", "(" * 99 + "a" + ")" * 99 + "("],
)  # fmt: skip
def test_what_no_automaton_can_do_is_refused_with_a_reason(pattern: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Expression(pattern, ALPHABET)
    assert caught.value.field == "pattern"
    assert len(caught.value.description) > 10


@pytest.mark.parametrize("pattern", ["(a|b)*a(a|b){20}", "(((a{99}){99}){99})", "(.{200}){30}"])
def test_a_pattern_that_explodes_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(TooComplex):
        Rules(pattern=pattern).compile(ALPHABET)


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(InvalidArgument):
        Expression("(" * 5000 + ")" * 5000, ALPHABET)


def test_all_rules_hold_together() -> None:
    rules = Rules("[ab1-]*", "b", "1", "ab1", ("bb", "a1"))
    automaton = rules.compile(ALPHABET)
    assert len(automaton.next) < MAX_STATES
    for length in range(6):
        for letters in itertools.product("ab1-", repeat=length):
            text = "".join(letters)
            right = (
                text.endswith("b")
                and "1" in text
                and "-" not in text
                and "bb" not in text
                and "a1" not in text
            )
            assert accepts(automaton, text) == right, text


@pytest.mark.parametrize(
    "pattern", ["(){3000000}", "(?:(?:){4000}){1000}", "(?:){2000000000}", "(?:(?:){9,}|){99}"]
)
def test_nothing_repeated_is_nothing_at_once(pattern: str) -> None:
    automaton = Rules(pattern=pattern).compile(ALPHABET)
    assert accepts(automaton, "")
    assert not accepts(automaton, "a")


def test_reading_a_pattern_takes_no_longer_than_it_may() -> None:
    begun = time.thread_time()
    with pytest.raises(TooComplex):
        Rules(pattern="(?:a?){4990}").compile(ALPHABET)
    assert time.thread_time() - begun < 3


def test_flags_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="is not a regular expression"):
        Expression("(?a)(?u)x", ALPHABET)


def test_several_expressions_and_their_table_share_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(step=0.001)  # seconds pass by being asked for
    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    Rules(pattern="a{100}").compile(ALPHABET)
    with pytest.raises(TooComplex, match="were not enough"):
        Rules(pattern="a{100}", suffix="a" * 100, contains="b" * 100).compile(ALPHABET)
