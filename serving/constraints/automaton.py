"""Several rules about a string's characters as one table of states."""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.constraints.pattern import Expression, Patience, TooComplex
from serving.constraints.substrings import Forbidden

MAX_STATES = 20_000
MAX_CELLS = 2**22  # states times characters


class Machine(Protocol):
    """One rule; a state is a whole number above 0."""

    start: int

    def next(self, state: int, character: int) -> int:
        """The state after a character, by its place in the alphabet; 0 where there is none."""

    def accepts(self, state: int) -> bool:
        """Whether the text up to here keeps the rule."""

    def kind(self, character: int) -> int:
        """A number that characters which lead to the same states have in common."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """S states over V token ids; the start is state 0.

    Attributes:
        next: [S, V], the state after a token; S where there is none, the boundary's column too.
        accepting: [S], whether the text may end here.
    """

    next: npt.NDArray[np.int32]
    accepting: npt.NDArray[np.bool_]

    def run(self, ids: Sequence[int], state: int = 0) -> int:
        """The state after token ids; S where there is none."""
        for token in ids:
            if state == len(self.next):
                break
            state = int(self.next[state, token])
        return state


@dataclass(frozen=True)
class Rules:
    """What a string's characters must keep to; see the request's Constraints."""

    pattern: str = ""
    suffix: str = ""
    contains: str = ""
    allowed_characters: str = ""
    forbidden_substrings: tuple[str, ...] = ()

    def compile(self, alphabet: Sequence[str]) -> Automaton:
        """All rules at once.

        Raises:
            InvalidArgument: the pattern is malformed.
            TooComplex: the automaton would be too large, or take too long to build.
        """
        patience = Patience()
        expressions = [
            self.pattern,
            self.suffix and f"(?s:.*){re.escape(self.suffix)}",
            self.contains and f"(?s:.*){re.escape(self.contains)}(?s:.*)",
        ]
        machines: list[Machine] = [Expression(e, alphabet, patience) for e in expressions if e]
        if self.forbidden_substrings:
            machines.append(Forbidden(self.forbidden_substrings, alphabet))
        allowed = [
            i
            for i, character in enumerate(alphabet)
            if not self.allowed_characters or character in self.allowed_characters
        ]
        return product(machines, allowed, len(alphabet), patience)


def product(
    machines: Sequence[Machine], allowed: Sequence[int], alphabet: int, patience: Patience
) -> Automaton:
    """The automaton of what all machines accept, of the allowed characters alone; raises TooComplex."""
    start = tuple(machine.start for machine in machines)
    numbers, todo = {start: 0}, [start]
    moves = array("i")  # [S, kinds], the state after; -1 where there is none
    kinds: dict[tuple[int, ...], list[int]] = {}
    for character in allowed:
        kinds.setdefault(tuple(m.kind(character) for m in machines), []).append(character)
    for state in todo:  # grows while it is gone through
        for character, *_ in kinds.values():
            after = tuple(m.next(s, character) for m, s in zip(machines, state, strict=True))
            if all(after) and after not in numbers:
                numbers[after] = len(todo)
                todo.append(after)
            moves.append(numbers.get(after, -1))
        if len(todo) > MAX_STATES or len(todo) * (alphabet + 1) > MAX_CELLS:
            raise TooComplex("pattern", f"is too complex: more than {len(todo) - 1:,} states")
        patience.check()
    accepting = [all(m.accepts(s) for m, s in zip(machines, t, strict=True)) for t in todo]
    found = np.array(moves, np.int32).reshape(len(todo), len(kinds))
    return Automaton(_table(found, list(kinds.values()), alphabet), np.array(accepting, np.bool_))


def _table(
    found: npt.NDArray[np.int32], kinds: Sequence[Sequence[int]], alphabet: int
) -> npt.NDArray[np.int32]:
    """[S, V] from the state after each kind of character: [S, kinds]."""
    states = len(found)
    table = np.full((states, alphabet + 1), states, np.int32)
    found = np.where(found < 0, states, found)
    for place, alike in enumerate(kinds):
        table[:, np.array(alike) + 1] = found[:, place, None]
    return table
