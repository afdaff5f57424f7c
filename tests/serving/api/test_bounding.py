import asyncio
import string
from collections.abc import Callable
from typing import Any

import pytest

from serving.api.bounding import KEPT, Bounding
from serving.api.compiling import Room
from serving.constraints import automaton as automata
from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.errors import InvalidArgument
from serving.forbidden import ForbiddenList
from serving.kept import Kept
from serving.text_files import Line
from tests.serving.graphs import manifest

ALPHABET = tuple(string.ascii_lowercase)
LENGTHS = (0, 8)


class Counting(Room):
    """Counts what enters it."""

    entered = 0

    async def run(
        self, caller: str, key: Any, work: Callable[[], Any], deadline: float | None = None
    ) -> Any:
        self.entered += 1
        return await super().run(caller, key, work, deadline)


def ask(
    bounding: Bounding,
    rules: Rules,
    lengths: tuple[int, int] = LENGTHS,
    prefix: tuple[int, ...] = (),
) -> Bounds:
    return asyncio.run(bounding.bounds(ALPHABET, rules, lengths, prefix))


def test_what_is_known_does_not_enter_the_room_whatever_the_prefix() -> None:
    room = Counting()
    bounding = Bounding(room=room)
    first = ask(bounding, Rules("ab?c*"))
    assert ask(bounding, Rules("ab?c*")) is first
    after = ask(bounding, Rules("ab?c*"), prefix=(1, 2))
    assert after is ask(bounding, Rules("ab?c*"), prefix=(1, 2))
    assert after.ends is first.ends
    assert room.entered == 1
    assert ask(bounding, Rules("ab?c*"), (2, 3)).automaton is first.automaton


def test_lengths_alone_do_not_wait_behind_patterns() -> None:
    room = Counting()
    ask(Bounding(room=room), Rules(), (3, 8))
    assert room.entered == 0


@pytest.mark.parametrize(
    ("rules", "lengths", "prefix", "field"),
    [
        (Rules("a+"), LENGTHS, (2,), "pattern"),
        (Rules(suffix="b", allowed_characters="a"), LENGTHS, (), "suffix"),
        (Rules("a{5}"), (6, 8), (), "pattern"),
        (Rules(), (0, 2), (1, 1, 1), "min_length"),
        (Rules("("), LENGTHS, (), "pattern"),
    ],
)
def test_what_cannot_be_kept_names_its_field(
    rules: Rules, lengths: tuple[int, int], prefix: tuple[int, ...], field: str
) -> None:
    bounding = Bounding()
    for _ in range(2):
        with pytest.raises(InvalidArgument) as error:
            ask(bounding, rules, lengths, prefix)
        assert error.value.field == f"constraints.{field}"


def test_a_prefix_is_kept_to() -> None:
    bounds = ask(Bounding(), Rules("ab?c*"), prefix=(1, 2))
    alone = Bounds(Rules("ab?c*").compile(ALPHABET), *LENGTHS, (1, 2))
    assert (bounds.start, bounds.is_satisfiable) == (alone.start, True)


def test_many_large_patterns_are_not_kept_for_ever() -> None:
    """256 of them were, 600 MB for the rest of the process's life."""
    bounding = Bounding(kept=Kept(KEPT // 64))
    for character in ALPHABET:
        ask(bounding, Rules(f".*{character}.{{8}}"), (0, 16))
    assert bounding.kept.weight <= KEPT // 64
    assert 0 < len(bounding.kept) < 3 * len(ALPHABET)
    held = [entry.value for entry in bounding.kept._entries.values()]
    automata = {id(bounds.automaton): bounds.automaton for bounds in held if type(bounds) is Bounds}
    assert sum(automaton.next.nbytes for automaton in automata.values()) <= KEPT // 64


def test_the_text_of_what_is_asked_for_counts_too() -> None:
    bounding = Bounding(kept=Kept(KEPT // 64))
    ask(bounding, Rules(allowed_characters="a" + "é" * (KEPT // 64)))
    assert len(bounding.kept) == 0


def with_list(*texts: str, room: Room | None = None) -> Bounding:
    """The constraints of a server with an operator's list."""
    words = ForbiddenList([Line(number, text) for number, text in enumerate(texts, 1)])
    words.compile("good@1", manifest(alphabet=ALPHABET))
    return Bounding(words, room)


def ids(text: str) -> tuple[int, ...]:
    return tuple(ALPHABET.index(character) + 1 for character in text)


@pytest.mark.parametrize("rules", [Rules(), Rules("[abx]*"), Rules(suffix="b", contains="a")])
def test_the_operators_list_holds_with_any_rules(rules: Rules) -> None:
    bounds = ask(with_list("ab", "xx"), rules)
    alone = Bounds(rules.compile(ALPHABET), *LENGTHS)
    for text in ("", "b", "axb", "bab", "xab", "bxxab", "zab", "acb"):
        is_free = "ab" not in text and "xx" not in text
        assert bounds.accepts(ids(text)) == (is_free and alone.accepts(ids(text)))


@pytest.mark.parametrize("rules", [Rules(), Rules("[abx]*"), Rules("(")])
def test_a_prefix_that_is_forbidden_is_the_field_to_name(rules: Rules) -> None:
    with pytest.raises(InvalidArgument) as error:
        ask(with_list("ab"), rules, prefix=ids("xab"))
    assert str(error.value) == "prefix: contains a substring that this server forbids"


@pytest.mark.parametrize(
    ("rules", "lengths", "field"),
    [
        (Rules(suffix="xaby"), LENGTHS, "suffix"),
        (Rules("a*b"), (2, 2), "pattern"),
        (Rules(forbidden_substrings=("b",), contains="ab"), LENGTHS, "contains"),
        (Rules(allowed_characters="ab", forbidden_substrings=("b",)), (3, 8), "allowed_characters"),
    ],
)
def test_only_fields_of_the_caller_are_named_beside_the_list(
    rules: Rules, lengths: tuple[int, int], field: str
) -> None:
    with pytest.raises(InvalidArgument, match="this server's own list") as error:
        ask(with_list("ab", "aaa"), rules, lengths)
    assert error.value.field == f"constraints.{field}"


def test_lengths_alone_are_named_where_the_list_allows_no_longer_strings() -> None:
    pairs = [a + b for a in ALPHABET for b in ALPHABET]
    bounding = with_list(*pairs)
    assert ask(bounding, Rules(), (0, 8)).is_satisfiable
    assert ask(bounding, Rules(), (1, 8)).is_satisfiable
    with pytest.raises(InvalidArgument, match="this server's own list") as error:
        ask(bounding, Rules(), (2, 8))
    assert error.value.field == "constraints.min_length"


def test_what_is_too_complex_names_a_field_that_was_set() -> None:
    many = tuple(
        a + b + c + d for a in "abcdefghij" for b in ALPHABET for c in ALPHABET for d in "xy"
    )
    with pytest.raises(InvalidArgument, match="is too complex: more than") as error:
        ask(Bounding(), Rules(forbidden_substrings=tuple(w + w[::-1] * 2 for w in many)))
    assert error.value.field == "constraints.forbidden_substrings"
    assert "own list" not in error.value.description


def test_what_is_too_complex_with_the_list_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bounding = with_list("abcdefgh", "bbbb")
    rules = Rules(suffix="abcabc")
    assert ask(bounding, rules).is_satisfiable
    monkeypatch.setattr(automata, "MAX_CELLS", 9 * 27)  # enough for the suffix alone
    monkeypatch.setattr(automata, "MAX_PRODUCT_CELLS", 9 * 27)
    with pytest.raises(InvalidArgument, match="more than 9 states together with this") as error:
        ask(with_list("abcdefgh", "bbbb"), rules)
    assert error.value.field == "constraints.suffix"


def test_calls_without_rules_do_not_wait_to_be_compiled() -> None:
    room = Counting()
    bounding = with_list("ab", "xx", room=room)
    first = ask(bounding, Rules(), prefix=ids("x"))
    assert ask(bounding, Rules(), prefix=ids("x")) is first
    assert ask(bounding, Rules(), (0, 5)).automaton is first.automaton
    assert room.entered == 0
