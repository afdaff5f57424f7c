"""The most likely strings, exactly: best-first search over prefixes.

No string is more likely than any of its prefixes, so a whole string that is at least as likely as every
prefix not looked at comes before all that are still to be found. Knows nothing of models: whoever drives
the search answers what it asks for.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from serving.constraints.masks import Bounds
from serving.engine.sampling import Float64, log_partition
from serving.vocabulary import BOUNDARY

AT_ONCE = 64
"""Prefixes that are looked at together."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A string by its token ids, and its log-probability after the prefix."""

    ids: Ids
    log_prob: float


class TopSearch:
    """The search for the `n` most likely strings that begin with a prefix.

    Args:
        prefix: token ids.
        bounds: what strings keep to, lengths among it.
        n: how many are wanted.
        budget: prefixes that may be looked at.
        is_wanted: whether a string counts, by its token ids.

    Attributes:
        found: the strings, the most likely first.
        expansions: how many prefixes were looked at.
    """

    def __init__(
        self,
        prefix: Sequence[int],
        bounds: Bounds,
        n: int,
        budget: int,
        is_wanted: Callable[[Ids], bool] = lambda ids: True,
    ) -> None:
        self._bounds = bounds
        self._is_wanted = is_wanted
        self._n = n
        self._budget = budget
        self._heap: list[tuple[float, bool, Ids, int]] = []  # -log_prob, is open, ids, state
        self._best: list[float] = []  # of whole strings: the n largest, smallest first
        self._pruned = -math.inf
        self._asked: list[tuple[float, bool, Ids, int]] = []
        self.found: list[Found] = []
        self.expansions = 0
        self._push(0.0, True, tuple(prefix), bounds.start)

    def wanted(self) -> list[Ids]:
        """The prefixes whose next characters are to be told now; empty when the search is over."""
        self._collect()
        if len(self.found) >= self._n:
            return []
        wanted: list[tuple[float, bool, Ids, int]] = []
        whole: list[tuple[float, bool, Ids, int]] = []
        most = min(AT_ONCE, self._budget - self.expansions)
        while self._heap and len(wanted) < most:
            item = heapq.heappop(self._heap)
            (wanted if item[1] else whole).append(item)
        for item in whole:
            heapq.heappush(self._heap, item)
        self._asked = wanted
        return [ids for _, _, ids, _ in wanted]

    def tell(self, logits: Float64) -> None:
        """The logits after each of the wanted prefixes: [len(wanted), V]."""
        log_probs = logits - log_partition(logits)[:, None]
        for (cost, _, ids, state), row in zip(self._asked, log_probs, strict=True):
            self._expand(-cost, ids, state, row)
        self.expansions += len(self._asked)
        self._asked = []
        self._forget()

    def give_back(self) -> None:
        """The prefixes that were wanted will not be told."""
        for item in self._asked:
            heapq.heappush(self._heap, item)
        self._asked = []

    def _forget(self) -> None:
        """Drop what cannot be reached any more with the prefixes that may still be looked at."""
        most = self._budget - self.expansions + self._n
        if len(self._heap) > 2 * most + AT_ONCE:
            # Not sorted: of half a million prefixes that takes a second, in which nothing else runs.
            costs = np.fromiter((item[0] for item in self._heap), np.float64, len(self._heap))
            edge = float(np.partition(costs, most)[most])
            equal = (item for item in self._heap if item[0] == edge)
            kept = [item for item in self._heap if item[0] < edge]
            kept += islice(equal, most - len(kept))
            heapq.heapify(kept)
            self._pruned, self._heap = max(self._pruned, -edge), kept

    def _expand(self, log_prob: float, ids: Ids, state: int, log_probs: Float64) -> None:
        length = np.array([len(ids)])
        allowed = self._bounds.allowed(length, np.array([state]))[0]
        if len(ids) >= self._bounds.longest:  # what goes on from here is too long
            allowed[BOUNDARY + 1 :] = False
            allowed[BOUNDARY] = self._bounds.automaton.accepting[state]
        for token in np.flatnonzero(allowed).tolist():
            total = log_prob + float(log_probs[token])
            if token == BOUNDARY:
                if self._is_wanted(ids):
                    self._push(total, False, ids, state)
            else:
                after = int(self._bounds.automaton.next[state, token])
                self._push(total, True, (*ids, token), after)

    def _push(self, log_prob: float, is_open: bool, ids: Ids, state: int) -> None:
        if len(self._best) == self._n and log_prob < self._best[0]:
            self._pruned = max(self._pruned, log_prob)
            return
        if not is_open:
            heapq.heappush(self._best, log_prob)
            if len(self._best) > self._n:
                heapq.heappop(self._best)
        heapq.heappush(self._heap, (-log_prob, is_open, ids, state))

    def _collect(self) -> None:
        """Move the whole strings that nothing can precede any more."""
        while self._heap and not self._heap[0][1] and len(self.found) < self._n:
            cost, _, ids, _ = heapq.heappop(self._heap)
            self.found.append(Found(ids, -cost))

    @property
    def bound(self) -> float:
        """No string that was not found has a log-probability above this; -inf if there is none."""
        return max(self._pruned, -self._heap[0][0] if self._heap else -math.inf)

    @property
    def is_complete(self) -> bool:
        """Whether all that were wanted, or all that there are, were found."""
        return len(self.found) >= self._n or (not self._heap and self._pruned == -math.inf)
