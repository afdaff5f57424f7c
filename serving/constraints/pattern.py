"""Regular expressions as automata over an alphabet.

Python's own parser reads the expression and Python's own matcher says which characters each of its
single-character parts takes, so that `re.fullmatch` and the automaton agree. Between them stands
Glushkov's construction: a state is the set of parts that may take the next character ("The abstract
theory of automata", 1961), held as the bits of a whole number.
"""

import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]  # see above
from typing import Any

from serving.errors import InvalidArgument

MAX_PARTS = 5_000
MAX_SECONDS = 0.5
"""Of this thread's time, for reading the expressions and building their table."""

_ONE = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_STARTS = (_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING)
_ENDS = (_constants.AT_END, _constants.AT_END_STRING)
_NAMES = {
    _constants.AT: "^, $ and \\b inside it",
    _constants.ASSERT: "what looks ahead or back",
    _constants.ASSERT_NOT: "what looks ahead or back",
    _constants.GROUPREF: "references to groups",
    _constants.GROUPREF_EXISTS: "references to groups",
    _constants.POSSESSIVE_REPEAT: "possessive repeats",
    _constants.ATOMIC_GROUP: "atomic groups",
}


class TooComplex(InvalidArgument):
    """A pattern whose automaton would be too large."""


class Patience:
    """The time that compiling may take, from now on, in seconds of this thread."""

    def __init__(self, seconds: float = MAX_SECONDS) -> None:
        self._seconds = seconds
        self._begun = time.thread_time()

    def check(self) -> None:
        """Raise TooComplex when it is over."""
        if time.thread_time() - self._begun > self._seconds:
            raise TooComplex("pattern", f"is too complex: {self._seconds:.1f} s were not enough")


@dataclass(frozen=True)
class Piece:
    """A part of an expression: what it may begin and end with, as bits, and whether it may be empty."""

    first: int
    last: int
    is_nullable: bool


EMPTY = Piece(0, 0, True)


class Expression:
    """The parts of an expression that take one character each, and which may follow which.

    Raises:
        InvalidArgument: the expression is malformed, or asks for what no automaton can do.
        TooComplex: it has too many parts, or the patience is over.
    """

    def __init__(
        self, pattern: str, alphabet: Sequence[str], patience: Patience | None = None
    ) -> None:
        self.alphabet = alphabet
        self._patience = patience or Patience()
        self.takes: list[frozenset[str]] = []  # of each part
        self.follow: list[int] = []
        self._known: dict[str, frozenset[str]] = {}
        whole = self._whole(pattern)
        end = self._part(frozenset())
        self.start = self._chain([whole, end]).first
        self.end = end.first
        self._takers = [self._takers_of(character) for character in alphabet]

    def _takers_of(self, character: str) -> int:
        self._patience.check()
        return sum(1 << part for part, taken in enumerate(self.takes) if character in taken)

    def _whole(self, pattern: str) -> Piece:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tree = _parser.parse(pattern)
            return self._sequence(_without_ends(list(tree)), tree.state, tree.state.flags)
        except InvalidArgument:
            raise
        except (re.error, Warning, OverflowError, ValueError) as error:
            raise InvalidArgument("pattern", f"is not a regular expression: {error}") from None
        except RecursionError:
            raise TooComplex("pattern", "is nested too deeply") from None

    def _part(self, takes: frozenset[str]) -> Piece:
        if len(self.takes) >= MAX_PARTS:
            raise TooComplex("pattern", f"is too complex: it has more than {MAX_PARTS:,} parts")
        self.takes.append(takes)
        self.follow.append(0)
        bit = 1 << (len(self.takes) - 1)
        return Piece(bit, bit, False)

    def _chain(self, pieces: list[Piece]) -> Piece:
        return reduce(self._then, pieces, EMPTY)

    def _then(self, left: Piece, right: Piece) -> Piece:
        self._link(left.last, right.first)
        return Piece(
            left.first | (right.first if left.is_nullable else 0),
            right.last | (left.last if right.is_nullable else 0),
            left.is_nullable and right.is_nullable,
        )

    def _link(self, sources: int, targets: int) -> None:
        self._patience.check()
        for source in bits(sources):
            self.follow[source] |= targets

    def _sequence(self, nodes: list[Any], state: Any, flags: int) -> Piece:
        return self._chain([self._node(op, value, state, flags) for op, value in nodes])

    def _node(self, op: Any, value: Any, state: Any, flags: int) -> Piece:
        if op in _ONE:
            return self._part(self._characters((op, value), state, flags))
        if op is _constants.BRANCH:
            branches = [self._sequence(list(branch), state, flags) for branch in value[1]]
            return Piece(
                reduce(or_, (b.first for b in branches)),
                reduce(or_, (b.last for b in branches)),
                any(b.is_nullable for b in branches),
            )
        if op is _constants.SUBPATTERN:
            _, added, removed, inner = value
            return self._sequence(list(inner), state, (flags | added) & ~removed)
        if op in _REPEATS:
            low, high, inner = value
            return self._repeat(low, high, lambda: self._sequence(list(inner), state, flags))
        raise InvalidArgument("pattern", f"must do without {_NAMES.get(op, str(op))}")

    def _repeat(self, low: int, high: int, piece: Any) -> Piece:
        first = piece()
        if not first.first:  # nothing, however often
            return EMPTY
        needed = [first, *(piece() for _ in range(low - 1))][:low]
        if high is _constants.MAXREPEAT or high >= MAX_PARTS:
            again = needed.pop() if needed else piece()
            self._link(again.last, again.first)
            tail = [again if low else Piece(again.first, again.last, True)]
        else:
            rest = [piece() for _ in range(high - low)]
            tail = [Piece(p.first, p.last, True) for p in rest]
        return self._chain([*needed, *tail])

    def _characters(self, node: Any, state: Any, flags: int) -> frozenset[str]:
        key = f"{node} {flags}"
        if key not in self._known:
            matcher = _compiler.compile(_parser.SubPattern(state, [node]), flags)
            self._known[key] = frozenset(c for c in self.alphabet if matcher.fullmatch(c))
        return self._known[key]

    def next(self, state: int, character: int) -> int:
        """The state after a character, by its place in the alphabet; 0 where there is none."""
        after = 0
        for part in bits(state & self._takers[character]):
            after |= self.follow[part]
        return after

    def kind(self, character: int) -> int:
        """See automaton.Machine: the parts that take it."""
        return self._takers[character]

    def accepts(self, state: int) -> bool:
        """Whether the text up to here is a whole match."""
        return bool(state & self.end)


def bits(number: int) -> Iterator[int]:
    """The places of the ones in a whole number."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _without_ends(nodes: list[Any]) -> list[Any]:
    """Without anchors at the outer ends: the whole string is matched anyway."""
    if nodes and nodes[0][0] is _constants.AT and nodes[0][1] in _STARTS:
        nodes = nodes[1:]
    if nodes and nodes[-1][0] is _constants.AT and nodes[-1][1] in _ENDS:
        nodes = nodes[:-1]
    return nodes
