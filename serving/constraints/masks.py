"""Which characters may come next, so that a string can still end well: rules crossed with lengths.

Letters in shape comments: B rows, S states, V tokens, L the longest string.
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
Int64 = npt.NDArray[np.int64]

MAX_WORK = 2**28  # states times characters times lengths


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
    def can_end(self) -> Bool:
        """[L + 2, S + 1]: whether a string of this length in this state can still end well."""
        states, vocabulary = self.automaton.next.shape
        if states * vocabulary * (self.longest + 1 - self._first) > MAX_WORK:
            raise TooComplex("pattern", "is too complex for strings this long")
        can = np.zeros((self.longest + 2, states + 1), np.bool_)
        for length in range(self.longest, self._first - 1, -1):
            goes_on = can[length + 1][self.automaton.next].any(axis=1)  # [S], from [S, V]
            ends = self.automaton.accepting & (length >= self.shortest)
            can[length, :states] = goes_on | ends
        return can

    @property
    def is_satisfiable(self) -> bool:
        """Whether any string keeps to them."""
        return self._first <= self.longest and bool(self.can_end[self._first, self.start])

    def allowed(self, length: Int64, state: Int64) -> Bool:
        """The tokens that may come next: [B, V] from lengths and states [B].

        A string of the longest length that goes on is cut there, so that then anything may come.
        """
        after = self.automaton.next[state]  # [B, V]
        mask = self.can_end[np.minimum(length + 1, self.longest + 1)[:, None], after]
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
