"""Several rules about a string's characters as one table of states."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.constraints.pattern import MAX_SECONDS, Expression, TooComplex
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
        expressions = [
            self.pattern,
            self.suffix and f"(?s:.*){re.escape(self.suffix)}",
            self.contains and f"(?s:.*){re.escape(self.contains)}(?s:.*)",
        ]
        machines: list[Machine] = [Expression(e, alphabet) for e in expressions if e]
        if self.forbidden_substrings:
            machines.append(Forbidden(self.forbidden_substrings, alphabet))
        allowed = [
            i
            for i, character in enumerate(alphabet)
            if not self.allowed_characters or character in self.allowed_characters
        ]
        return product(machines, allowed, len(alphabet))


def product(machines: Sequence[Machine], allowed: Sequence[int], alphabet: int) -> Automaton:
    """The automaton of what all machines accept, of the allowed characters alone; raises TooComplex."""
    begun = time.thread_time()
    start = tuple(machine.start for machine in machines)
    numbers, todo = {start: 0}, [start]
    rows: list[dict[int, int]] = []
    kinds: dict[tuple[int, ...], list[int]] = {}
    for character in allowed:
        kinds.setdefault(tuple(m.kind(character) for m in machines), []).append(character)
    for state in todo:  # grows while it is gone through
        row: dict[int, int] = {}
        for alike in kinds.values():
            after = tuple(m.next(s, alike[0]) for m, s in zip(machines, state, strict=True))
            if all(after):
                if after not in numbers:
                    numbers[after] = len(todo)
                    todo.append(after)
                row |= {character + 1: numbers[after] for character in alike}
        rows.append(row)
        if len(todo) > MAX_STATES or len(todo) * (alphabet + 1) > MAX_CELLS:
            raise TooComplex("pattern", f"is too complex: more than {len(todo) - 1:,} states")
        if time.thread_time() - begun > MAX_SECONDS:
            raise TooComplex("pattern", f"is too complex: {MAX_SECONDS} s were not enough")
    table = np.full((len(rows), alphabet + 1), len(rows), np.int32)
    for number, row in enumerate(rows):
        table[number, list(row)] = list(row.values())
    accepting = [all(m.accepts(s) for m, s in zip(machines, t, strict=True)) for t in todo]
    return Automaton(table, np.array(accepting, np.bool_))
