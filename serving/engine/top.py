"""The most likely strings, exactly: best-first search over prefixes.

No string is more likely than any of its prefixes, so a whole string that is at least as likely as every
prefix not looked at comes before all that are still to be found. Knows nothing of models: whoever drives
the search answers what it asks for.
"""

import heapq
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np

from serving.constraints.masks import Bounds
from serving.engine.sampling import Float64, log_partition
from serving.vocabulary import BOUNDARY

AT_ONCE = 64
"""Prefixes that are looked at together."""

ROOM = 1.25
"""How many times as many prefixes as may still be looked at are remembered."""

OVERHEAD = 64
"""Bytes that a packed item takes beside its ids."""
HEAD, TAIL = struct.Struct(">d?"), struct.Struct(">BI")

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A string by its token ids, and its log-probability after the prefix."""

    ids: Ids
    log_prob: float


@dataclass(frozen=True)
class Item:
    """A prefix, or a whole string, in the automaton's state after it.

    Its ids are those after the search's own prefix, which all have in common.
    """

    cost: float
    is_open: bool
    ids: Ids
    state: int

    def packed(self) -> bytes:
        """Bytes that are in the order of the fields, and take a quarter of the memory.

        That is the order of doubles that are not negative. UTF-8 keeps the order of its numbers, takes a byte
        for most, and has enough of them: an id stands for one of Unicode's characters. None is 0, the end.
        """
        ids = "".join(map(chr, self.ids)).encode("utf-8", "surrogatepass")
        return HEAD.pack(self.cost, self.is_open) + ids + TAIL.pack(BOUNDARY, self.state)

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """The item of these bytes."""
        cost, is_open = HEAD.unpack_from(packed)
        _, state = TAIL.unpack(packed[-TAIL.size :])
        ids = packed[HEAD.size : -TAIL.size].decode("utf-8", "surrogatepass")
        return cls(cost, is_open, tuple(map(ord, ids)), state)


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
        self._prefix = tuple(prefix)
        self._bounds = bounds
        self._is_wanted = is_wanted
        self._n = n
        self._budget = budget
        self._heap: list[bytes] = []  # packed items
        self._best: list[float] = []  # of whole strings: the n largest, smallest first
        self._pruned = -math.inf
        self._edge = math.inf  # what costs more cannot be reached any more
        self._asked: list[Item] = []
        self.found: list[Found] = []
        self.expansions = 0
        self._push(Item(0.0, True, (), bounds.start))

    @property
    def most_bytes(self) -> int:
        """What it may have to remember: so many bytes, nearly."""
        _, tokens = self._bounds.automaton.next.shape
        longest = self._bounds.longest - len(self._prefix)
        item = OVERHEAD + longest * len(chr(tokens).encode("utf-8", "surrogatepass"))
        return int(ROOM * (self._budget + self._n) * item)

    def wanted(self) -> list[Ids]:
        """The prefixes whose next characters are to be told now; empty when the search is over."""
        self._collect()
        if len(self.found) >= self._n:
            return []
        whole: list[bytes] = []
        most = min(AT_ONCE, self._budget - self.expansions)
        while self._heap and len(self._asked) < most:
            packed = heapq.heappop(self._heap)
            item = Item.unpacked(packed)
            if item.is_open:
                self._asked.append(item)
            else:
                whole.append(packed)
        for packed in whole:
            heapq.heappush(self._heap, packed)
        return [self._prefix + item.ids for item in self._asked]

    def tell(self, logits: Float64) -> None:
        """The logits after each of the wanted prefixes: [len(wanted), V]."""
        log_probs = logits - log_partition(logits)[:, None]
        for item, row in zip(self._asked, log_probs, strict=True):
            self._expand(item, row)
        self.expansions += len(self._asked)
        self._asked = []
        self._forget()

    def give_back(self) -> None:
        """The prefixes that were wanted will not be told."""
        for item in self._asked:
            heapq.heappush(self._heap, item.packed())
        self._asked = []

    def _forget(self) -> None:
        """Drop what cannot be reached any more with the prefixes that may still be looked at."""
        most = self._budget - self.expansions + self._n
        if len(self._heap) > ROOM * most + AT_ONCE:
            # Not sorted: of half a million prefixes that takes a second, in which nothing else runs.
            firsts = (HEAD.unpack_from(packed)[0] for packed in self._heap)
            costs = np.fromiter(firsts, np.float64, len(self._heap))
            costs.partition(most)
            edge = float(costs[most])
            limit = struct.pack(">d", edge)
            equal = (packed for packed in self._heap if packed[:8] == limit)
            kept = [packed for packed in self._heap if packed[:8] < limit]
            kept += islice(equal, most - len(kept))
            heapq.heapify(kept)
            self._pruned, self._heap = max(self._pruned, -edge), kept
            self._edge = edge

    def _expand(self, item: Item, log_probs: Float64) -> None:
        ids, state = item.ids, item.state
        length = len(self._prefix) + len(ids)
        allowed = self._bounds.allowed(np.array([length]), np.array([state]))[0]
        if length >= self._bounds.longest:  # what goes on from here is too long
            allowed[BOUNDARY + 1 :] = False
            allowed[BOUNDARY] = self._bounds.automaton.accepting[state]
        for token in np.flatnonzero(allowed).tolist():
            cost = max(item.cost - float(log_probs[token]), 0.0)  # rounding may make it less
            if token == BOUNDARY:
                if self._is_wanted(self._prefix + ids):
                    self._push(Item(cost, False, ids, state))
            else:
                after = int(self._bounds.automaton.next[state, token])
                self._push(Item(cost, True, (*ids, token), after))

    def _push(self, item: Item) -> None:
        is_late = len(self._best) == self._n and -item.cost < self._best[0]
        if is_late or item.cost > self._edge:
            self._pruned = max(self._pruned, -item.cost)
            return
        if not item.is_open:
            heapq.heappush(self._best, -item.cost)
            if len(self._best) > self._n:
                heapq.heappop(self._best)
        heapq.heappush(self._heap, item.packed())

    def _collect(self) -> None:
        """Move the whole strings that nothing can precede any more."""
        while self._heap and len(self.found) < self._n:
            first = Item.unpacked(self._heap[0])
            if first.is_open:
                return
            heapq.heappop(self._heap)
            self.found.append(Found(self._prefix + first.ids, 0.0 - first.cost))

    @property
    def bound(self) -> float:
        """No string that was not found has a log-probability above this; -inf if there is none."""
        rest = 0.0 - Item.unpacked(self._heap[0]).cost if self._heap else -math.inf
        return max(self._pruned, rest)

    @property
    def is_complete(self) -> bool:
        """Whether all that were wanted, or all that there are, were found."""
        return len(self.found) >= self._n or (not self._heap and self._pruned == -math.inf)
