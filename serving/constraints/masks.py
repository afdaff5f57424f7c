"""Which characters may come next, so that a string can still end well: rules crossed with lengths.

Letters in shape comments: B rows, S states, V tokens, L the longest string, R sets of states.
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from serving.constraints.automaton import Automaton
from serving.constraints.pattern import TooComplex
from serving.vocabulary import BOUNDARY

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

MAX_WORK = 2**28  # states times characters times lengths that differ


class Bounds:
    """The strings that an automaton accepts and whose length is in a range.

    Args:
        automaton: over token ids.
        shortest: of a string, prefix included.
        longest: likewise.
        prefix: token ids that every string begins with.
    """

    def __init__(
        self, automaton: Automaton, shortest: int, longest: int, prefix: Sequence[int] = ()
    ) -> None:
        self.automaton = automaton
        self.shortest = shortest
        self.longest = longest
        self.start = automaton.run(prefix)
        self._first = len(prefix)

    def begun_with(self, prefix: Sequence[int]) -> Self:
        """The same after a prefix, where these have none; what was worked out is shared."""
        begun = copy(self)
        begun.start = self.automaton.run(prefix)
        begun._first = len(prefix)
        return begun

    @cached_property
    def ends(self) -> tuple[Bool, Int32]:
        """The states from which a string can still end well, [R, S + 1], and the row of each length, [L + 2].

        Most lengths have the same states as the next one, and share its row.
        """
        states, vocabulary = self.automaton.next.shape
        rows = [np.zeros(states + 1, np.bool_)]  # beyond the longest
        row_of = np.zeros(self.longest + 2, np.int32)
        work, is_settled = 0, False
        for length in range(self.longest, self._first - 1, -1):
            if length == self.shortest - 1:  # from here on, ending is not enough
                is_settled = False
            if not is_settled:
                work += states * vocabulary
                if work > MAX_WORK:
                    raise TooComplex("pattern", "is too complex for strings this long")
                row = self._can_end_before(rows[-1], length)
                is_settled = np.array_equal(row, rows[-1])
                if not is_settled:
                    rows.append(row)
            row_of[length] = len(rows) - 1
        return np.stack(rows), row_of

    def _can_end_before(self, after: Bool, length: int) -> Bool:
        """The states of a length from those of the next one, [S + 1]."""
        accepting = self.automaton.accepting
        row = np.zeros(len(accepting) + 1, np.bool_)
        if length < self.shortest:
            row[:-1] = after[self.automaton.next].any(axis=1)  # [S], from [S, V]
        elif accepting.all():
            row[:-1] = True
        else:
            row[:-1] = accepting | after[self.automaton.next].any(axis=1)
        return row

    def can_end(self, length: Int64, state: Int32 | Int64) -> Bool:
        """Whether strings of these lengths in these states can still end well."""
        rows, row_of = self.ends
        can: Bool = rows[row_of[length], state]
        return can

    @property
    def is_satisfiable(self) -> bool:
        """Whether any string keeps to them."""
        rows, row_of = self.ends
        return self._first <= self.longest and bool(rows[row_of[self._first], self.start])

    def allowed(self, length: Int64, state: Int64) -> Bool:
        """The tokens that may come next: [B, V] from lengths and states [B].

        A string of the longest length that goes on is cut there, so that then anything may come.
        """
        after = self.automaton.next[state]  # [B, V]
        mask = self.can_end(np.minimum(length + 1, self.longest + 1)[:, None], after)
        mask[:, BOUNDARY] = self.automaton.accepting[state] & (length >= self.shortest)
        mask[length >= self.longest] = True
        return mask

    def next(self, state: Int64, ids: Int64) -> Int64:
        """The states after one more token a row: [B]."""
        after: Int64 = self.automaton.next[state, ids].astype(np.int64)
        return after

    def accepts(self, ids: Sequence[int]) -> bool:
        """Whether a whole string, prefix included, keeps to them."""
        state = self.automaton.run(ids)
        if state == len(self.automaton.next) or not self.shortest <= len(ids) <= self.longest:
            return False
        return bool(self.automaton.accepting[state])
