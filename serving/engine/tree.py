"""The prefix tree: what a model says after a text is computed once, for all rows and calls.

A node is a text. It keeps the logits after it, its children, and, as long as there is room, the states
that a new child is computed from. Least recently used goes first: leaves, and states on their own, those
that much was computed from later. All of it in arrays, so that a turn's rows are looked up at once.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Callable

import numpy as np

from serving.engine.contexts import Context, Shared
from serving.engine.figures import TreeFigures
from serving.engine.pool import Pool
from serving.engine.rows import Records
from serving.engine.sampling import Bool, Float32, Int64
from serving.engine.stepping import States, StepSession
from serving.engine.storage import storage_of
from serving.engine.walking import Known, Relief, Walked, Walker, Ways, known_of

ROOT = 0
NONE = 0
"""No node, where a child is meant, which the root never is; no slot, since the first is set aside."""
WIDE = 128
"""Rows of a step at most: more take as long for each, and whoever comes meanwhile waits."""
PRIME = 7919
CHILD = 500
"""A state counts as used so many turns later for each child that was computed from it: where many were,
more will be."""
SHARE = 8
"""When there is no room, this part of all leaves, or of all states, goes at once."""


class Tree(Shared):
    """Contexts as nodes; see Contexts.

    Args:
        session: computes what is not there.
        root: the context after the boundary that starts every string.
        budget: bytes that it may take; more only while rows need more, since the way to each stays.
        most: rows that may be about at once.
        in_use: the nodes that rows are at, which stay.
    """

    root = ROOT

    def __init__(
        self,
        session: StepSession,
        root: Context,
        budget: int,
        most: int,
        in_use: Callable[[], Int64],
    ) -> None:
        self._session = session
        self._in_use = in_use
        self._vocabulary = len(session.manifest.vocabulary)
        v = (self._vocabulary,)
        columns = {
            "logits": (np.float32, v),
            "cumulative": (np.float64, v),
            "log_partition": (np.float64, ()),
            "parent": (np.int32, ()),
            "token": (np.int32, ()),
            "used": (np.int64, ()),
        }
        cleared = {"child": (np.int32, v), "slot": (np.int32, ())}
        self._storage = storage_of(session.manifest)
        self._node_bytes = 16 * v[0] + 32
        self._slot_bytes = self._storage.slot_bytes + 4
        nodes, slots = budget // 2 // self._node_bytes, budget // 2 // self._slot_bytes
        if self._storage.is_chained:  # every node has a slot, for as long as it is there
            nodes = slots = budget // (self._node_bytes + self._slot_bytes)
        least = 4 * most + 64
        self._nodes = Pool(columns, cleared, max(nodes, least))
        kept = {"node": (np.int32, ()), **self._storage.columns}
        self._slots = Pool(kept, {}, 1 + max(slots, least))
        self._slots.take(1)
        self.walker = Walker(session.manifest.max_length)
        self._look()
        self._clock = 0
        self._cuts = 0
        self.steps = self.hits = 0
        self._fill(self._nodes.take(1), root.known.logits, tuple(s[None] for s in root.states))

    def known(self) -> Known:
        """See Contexts."""
        return self._known

    @property
    def figures(self) -> TreeFigures:
        """What it has done, and its size."""
        return TreeFigures(self.hits, self.steps, self.bytes_used)

    @property
    def bytes_used(self) -> int:
        """Memory of the nodes and states that are there."""
        nodes = len(self._nodes) * self._node_bytes
        return nodes + (len(self._slots) - 1) * self._slot_bytes

    def walk(self, live: Records, relief: Relief | None = None) -> Walked:
        """See Contexts."""
        walked = self.walker.walk(live, self._known, self._ways, self._clock, relief)
        self.hits += walked.hits
        return walked

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """See Contexts."""
        self._clock += 1
        after = self._nodes["child"][places, tokens].astype(np.int64)
        missing = np.flatnonzero(after == NONE)
        self._nodes["used"][after[after != NONE]] = self._clock  # lest they go to make room now
        self.hits += len(places) - len(missing)
        if len(missing) > WIDE:  # others every time, whichever lanes take turns
            self._cuts += 1
            missing = missing[(np.arange(WIDE) + PRIME * self._cuts) % len(missing)]
        if len(missing):
            sources, wanted = places[missing], tokens[missing]
            self._compute(sources, wanted)
            after[missing] = self._nodes["child"][sources, wanted]
        moved = after != NONE
        after = np.where(moved, after, places)
        self._nodes["used"][after] = self._clock
        return after, moved

    def step(self, place: int, token: int) -> int:
        """See Contexts."""
        after = int(self._nodes["child"][place, token])
        if after == NONE:
            return self._step_alone(place, token)
        self.hits += 1
        self._nodes["used"][after] = self._clock
        return after

    def _step_alone(self, place: int, token: int) -> int:
        """Compute one context, which is not there; the same as `advance`, without what many rows need."""
        slot = int(self._nodes["slot"][place])
        if slot == NONE or not self._nodes.room or not self._slots.room:
            return super().step(place, token)
        self._clock += 1
        self.steps += 1
        states = self._storage.gathered(self._nodes, self._slots, np.array([place]))
        logits, states = self._session.advance(np.array([token]), states)
        nodes, slots = self._nodes, self._slots
        node, slot = nodes.take_one(), slots.take_one()
        nodes["parent"][node], nodes["token"][node], nodes["slot"][node] = place, token, slot
        nodes["child"][place, token], slots["node"][slot] = node, node
        nodes["used"][node] = self._clock
        self._known.put(slice(node, node + 1), known_of(logits))
        self._storage.put(nodes, slots, np.array([node]), states)
        return node

    def _compute(self, sources: Int64, tokens: Int64) -> None:
        """Step the model from nodes with tokens, each pair once; where states are gone, nearer the root."""
        sources, tokens = self._with_states(sources, tokens)
        if len(sources) > 1:
            pairs = np.unique(sources * self._vocabulary + tokens)
            sources, tokens = np.divmod(pairs, self._vocabulary)
        states = self._storage.gathered(self._nodes, self._slots, sources)
        logits, states = self._session.advance(tokens, states)
        self.steps += len(tokens)
        nodes = self._nodes["child"][sources, tokens].astype(np.int64)
        is_new = nodes == NONE
        nodes[is_new] = self._add(sources[is_new], tokens[is_new])
        self._fill(nodes, logits, states)

    def _with_states(self, sources: Int64, tokens: Int64) -> tuple[Int64, Int64]:
        """The nearest nodes towards the root that have their states, and the tokens that lead on."""
        slot = self._nodes["slot"]
        bare = slot[sources] == NONE
        while bare.any():
            tokens = np.where(bare, self._nodes["token"][sources], tokens)
            sources = np.where(bare, self._nodes["parent"][sources], sources).astype(np.int64)
            bare = slot[sources] == NONE
        return sources, tokens

    def _look(self) -> None:
        """Find the columns that rows walk in."""
        self._known = Known(*(self._nodes[name] for name in Known._fields))
        self._ways = Ways(*(self._nodes[name] for name in Ways._fields))

    def _add(self, sources: Int64, tokens: Int64) -> Int64:
        if len(sources) > self._nodes.room:
            self._drop_leaves(sources)
        nodes = self._nodes.take(len(sources))
        if self._known.logits is not self._nodes["logits"]:  # the pool has grown
            self._look()
        self._nodes["parent"][nodes] = sources
        self._nodes["token"][nodes] = tokens
        self._nodes["child"][sources, tokens] = nodes
        return nodes

    def _children(self) -> Int64:
        """How many each node has."""
        parents = self._nodes["parent"][self._nodes.taken]  # the root is its own
        return np.bincount(parents, minlength=len(self._nodes.are_taken))

    def _fill(self, nodes: Int64, logits: Float32, states: States) -> None:
        self._known.put(nodes, known_of(logits))
        self._nodes["used"][nodes] = self._clock
        lacking = nodes[self._nodes["slot"][nodes] == NONE]
        if len(lacking) > self._slots.room and not self._storage.is_chained:
            self._drop_states(len(lacking))
        slots = self._slots.take(len(lacking))
        self._nodes["slot"][lacking] = slots
        self._slots["node"][slots] = lacking
        self._storage.put(self._nodes, self._slots, nodes, states)

    def _drop_leaves(self, sources: Int64) -> None:
        """Make room for nodes."""
        taken = self._nodes.are_taken
        may_go = taken & (self._children() == 0)
        may_go &= self._nodes["used"][: len(taken)] < self._clock
        for stays in (ROOT, sources, self._in_use()):
            may_go[stays] = False
        old = np.flatnonzero(may_go)
        leaves = _least(old, self._nodes["used"][old], len(sources))
        parents = self._nodes["parent"][leaves]
        self._nodes["child"][parents, self._nodes["token"][leaves]] = NONE
        slots = self._nodes["slot"][leaves]
        self._slots.give(slots[slots != NONE].astype(np.int64))
        self._nodes.give(leaves)

    def _drop_states(self, at_least: int) -> None:
        """Make room for states; the root's stay, from which all others can be had again."""
        taken = self._slots.taken[1:]
        taken = taken[self._slots["node"][taken] != ROOT]
        nodes = self._slots["node"][taken]
        worth = self._nodes["used"][nodes] + CHILD * self._children()[nodes]
        worth[np.isin(nodes, self._in_use())] = np.iinfo(np.int64).max  # they will be gone on from
        slots = _least(taken, worth, at_least)
        self._nodes["slot"][self._slots["node"][slots]] = NONE
        self._slots.give(slots)


def _least(candidates: Int64, worth: Int64, at_least: int) -> Int64:
    """So many at least of those that are worth the least: [B] of [N], each with its worth."""
    count = min(len(candidates), max(len(candidates) // SHARE, at_least))
    if count == len(candidates):
        return candidates
    return candidates[np.argpartition(worth, count)[:count]]
