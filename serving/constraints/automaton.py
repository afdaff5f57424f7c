"""Several rules about a string's characters as one table of states."""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.constraints.pattern import MAX_SECONDS, Expression, Patience, TooComplex
from serving.constraints.substrings import Forbidden
from serving.vocabulary import BOUNDARY

MAX_STATES = 20_000
MAX_CELLS = 2**22  # states times characters
MAX_LIST_STATES = 2**19
MAX_LIST_CELLS = 2**26
"""What the automaton of an operator's list may have: 256 MiB."""
MAX_PRODUCT_CELLS = 2**25
"""What a request's automaton may have together with that of a long list: 128 MiB."""
CELLS_A_SECOND = 1_000_000
"""Cells of a long list that give an intersection another second."""
AT_ONCE = 2**20
"""Cells that an intersection looks at together."""


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


def everything_without(substrings: Sequence[str], alphabet: Sequence[str]) -> Automaton:
    """The automaton of all texts that have none of many substrings in them.

    As Rules.compile of the same substrings, but for lists of any size: a state's row is that of its
    fallback with a few changes.

    Raises:
        TooComplex: the automaton would be too large.
    """
    machine = Forbidden(substrings, alphabet, MAX_LIST_STATES)
    nodes = machine.live_nodes()
    states, place = len(nodes), {node: state for state, node in enumerate(nodes)}
    if states * (len(alphabet) + 1) > MAX_LIST_CELLS:
        raise TooComplex("", f"needs a table of more than {MAX_LIST_CELLS:,} cells")
    table = np.empty((states, len(alphabet) + 1), np.int32)
    table[0] = 0
    table[0, BOUNDARY] = states
    for state, node in enumerate(nodes):
        if state:
            table[state] = table[place[machine.fallback(node)]]
        for character, child in machine.children(node):
            table[state, character + 1] = place.get(child, states)
    return Automaton(table, np.ones(states, np.bool_))


def intersection(left: Automaton, right: Automaton) -> Automaton:
    """The automaton of what two automata of one alphabet both accept.

    Raises:
        TooComplex: it would be too large, or take too long to build; both limits grow with the right one.
    """
    states, size = len(right.next), left.next.shape[1]
    most = max(MAX_CELLS, min(8 * right.next.size, MAX_PRODUCT_CELLS))
    patience = Patience(MAX_SECONDS + right.next.size / CELLS_A_SECOND)

    def after(pairs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The pairs of states after each token, and which of them are alive: [pairs, V]."""
        first, second = left.next[pairs // states], right.next[pairs % states]
        return first.astype(np.int64) * states + second, (first < len(left.next)) & (
            second < states
        )

    seen, frontier = {0}, np.zeros(1, np.int64)  # pairs; 0 is that of the two starts
    while len(frontier):
        new: set[int] = set()
        for part in _parts(frontier, size):
            pairs, is_alive = after(part)
            new.update(np.unique(pairs[is_alive]).tolist())
            patience.check()
        new -= seen
        seen |= new
        if len(seen) * size > most:
            raise TooComplex("pattern", f"is too complex: more than {most // size:,} states")
        frontier = np.fromiter(new, np.int64, len(new))
    found = np.sort(np.fromiter(seen, np.int64, len(seen)))
    table = np.full((len(found), size), len(found), np.int32)
    for begin, part in zip(range(0, len(found), _rows(size)), _parts(found, size), strict=True):
        pairs, is_alive = after(part)
        table[begin : begin + len(part)][is_alive] = found.searchsorted(pairs[is_alive])
    accepting = left.accepting[found // states] & right.accepting[found % states]
    return Automaton(table, accepting)


def _rows(size: int) -> int:
    """Rows of a table that are looked at together."""
    return max(1, AT_ONCE // size)


def _parts(pairs: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Consecutive pairs whose rows are looked at together."""
    return [pairs[begin : begin + _rows(size)] for begin in range(0, len(pairs), _rows(size))]


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
