import asyncio
import string
from collections.abc import Callable
from typing import Any

import pytest

from serving.api.bounding import KEPT, Bounding
from serving.api.compiling import Room
from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.errors import InvalidArgument
from serving.kept import Kept

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
