"""How a prefix tree grows by what rows ask of it: what is to be computed, and where that is put.

B is the number of rows, M that of pairs of a node and a token whose children are computed, V the vocabulary.
"""

from typing import NamedTuple, Protocol

import numpy as np

from serving.engine.pool import Pool
from serving.engine.sampling import Bool, Float32, Float64, Int64
from serving.engine.walking import Known, known_of

NONE = 0
"""No node, where a child is meant, which the root never is; no slot, since the first is set aside."""


class Plan(NamedTuple):
    """What is to be computed for rows: M pairs, or a single one twice, since no step has just one row."""

    sources: Int64  # [max(M, 2)], nodes that have their states
    tokens: Int64  # [max(M, 2)], what is seen there
    pairs: int  # M
    added: int  # how many of the pairs lead to no node yet
    missing: int  # rows whose tokens lead to none


def twice(array: Int64) -> Int64:
    """The same, a single element twice."""
    return np.repeat(array, 2) if len(array) == 1 else array


class Branching(Protocol):
    """Grows a tree; asked in the order of its methods."""

    @property
    def rare(self) -> Int64:
        """Nodes whose states are kept for a short while alone."""

    def plan(self, places: Int64, tokens: Int64, clock: int, first: int) -> Plan:
        """What is to be computed for rows that are at nodes and see tokens, both [B].

        It is for `wide` rows at most, of those whose tokens lead to no node from the one numbered `first` on.
        Where states are gone, it begins nearer to the root.
        """

    def enter(self, logits: Float32, fresh: Int64, slots: Int64) -> Int64:
        """Note what was computed; the nodes that the pairs of the plan lead to, [max(M, 2)].

        Args:
            logits: after them, [max(M, 2), V].
            fresh: nodes for those pairs that led to none.
            slots: for the states of all, [M].
        """

    def arrive(self) -> tuple[Int64, Bool]:
        """Where rows are now, [B], and which of them got there, [B]."""

    def note(self, node: int, logits: Float32) -> None:
        """Note what is known at a node, by the first of its logits, [_, V]."""

    def spare(self, since: int) -> Int64:
        """Take states from rare nodes that nobody has come by since an instant; the slots that these had."""


class Plain:
    """By numpy; see Branching.

    Args:
        nodes: those of the tree.
        slots: where it keeps states.
        wide: rows that are computed at once, at most.
        chance: new nodes that have less of it are rare: the probability that a string comes by there.
    """

    def __init__(self, nodes: Pool, slots: Pool, wide: int, chance: float) -> None:
        self.rare: Int64 = np.zeros(0, np.int64)
        self._nodes, self._slots = nodes, slots
        self._wide, self._chance = wide, chance
        self._size = nodes["child"].shape[1]
        self._clock = 0
        self._places = self._tokens = np.zeros(0, np.int64)
        self._plan = Plan(self._places, self._tokens, 0, 0, 0)

    def plan(self, places: Int64, tokens: Int64, clock: int, first: int) -> Plan:
        """See Branching."""
        child, used = self._nodes["child"], self._nodes["used"]
        self._clock, self._places, self._tokens = clock, places, tokens
        after = child[places, tokens].astype(np.int64)
        used[np.where(after == NONE, places, after)] = clock
        missing = np.flatnonzero(after == NONE)
        count = min(len(missing), self._wide)
        chosen = missing[(first + np.arange(count)) % max(len(missing), 1)]
        sources, tokens = self._with_states(places[chosen], tokens[chosen])
        _, firsts = np.unique(sources * self._size + tokens, return_index=True)
        firsts.sort()
        sources, tokens = sources[firsts], tokens[firsts]
        added = int(np.count_nonzero(child[sources, tokens] == NONE))
        count = len(sources)
        self._plan = Plan(twice(sources), twice(tokens), count, added, len(missing))
        return self._plan

    def _with_states(self, sources: Int64, tokens: Int64) -> tuple[Int64, Int64]:
        """The nearest nodes towards the root that have their states, and the tokens that lead on."""
        slot = self._nodes["slot"]
        bare = slot[sources] == NONE
        while bare.any():
            tokens = np.where(bare, self._nodes["token"][sources], tokens)
            sources = np.where(bare, self._nodes["parent"][sources], sources).astype(np.int64)
            bare = slot[sources] == NONE
        return sources, tokens

    def enter(self, logits: Float32, fresh: Int64, slots: Int64) -> Int64:
        """See Branching."""
        columns, plan = self._nodes, self._plan
        sources, tokens = plan.sources[: plan.pairs], plan.tokens[: plan.pairs]
        is_new = columns["child"][sources, tokens] == NONE
        parents, lead = sources[is_new], tokens[is_new]
        columns["child"][parents, lead] = fresh
        columns["parent"][fresh], columns["token"][fresh] = parents, lead
        columns["chance"][fresh] = chances = self._chances(parents, lead)
        self.rare = np.concatenate([self.rare, fresh[chances < self._chance]])
        nodes = columns["child"][sources, tokens].astype(np.int64)
        columns["slot"][nodes], self._slots["node"][slots] = slots, nodes
        columns["used"][nodes] = self._clock
        Known(*(columns[name] for name in Known._fields)).put(nodes, known_of(logits[: plan.pairs]))
        return twice(nodes)

    def _chances(self, parents: Int64, tokens: Int64) -> Float64:
        """How probable it is that a string comes by children, [M]."""
        cumulative = self._nodes["cumulative"]
        before = np.where(tokens > 0, cumulative[parents, tokens - 1], 0.0)
        weight = cumulative[parents, tokens] - before
        chances: Float64 = self._nodes["chance"][parents] * (weight / cumulative[parents, -1])
        return chances

    def arrive(self) -> tuple[Int64, Bool]:
        """See Branching."""
        after = self._nodes["child"][self._places, self._tokens].astype(np.int64)
        moved = after != NONE
        after = np.where(moved, after, self._places)
        self._nodes["used"][after] = self._clock
        return after, moved

    def note(self, node: int, logits: Float32) -> None:
        """See Branching."""
        at = slice(node, node + 1)
        Known(*(self._nodes[name] for name in Known._fields)).put(at, known_of(logits[:1]))

    def spare(self, since: int) -> Int64:
        """See Branching."""
        stay: Bool = self._nodes["used"][self.rare] >= since
        gone, self.rare = self.rare[~stay], self.rare[stay]
        # A node that was dropped, and taken again, may be there twice.
        gone = gone[np.sort(np.unique(gone, return_index=True)[1])]
        slots = self._nodes["slot"][gone].astype(np.int64)
        self._nodes["slot"][gone] = NONE
        held: Int64 = slots[slots != NONE]
        return held
