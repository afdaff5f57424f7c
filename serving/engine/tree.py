"""The prefix tree: what a model says after a text is computed once, for all rows and calls.

A node is a text. It keeps the logits after it, its children, and, as long as there is room, the states
that a new child is computed from. Least recently used goes first: leaves, and states on their own, those
that much was computed from later. All of it in arrays, so that a turn's rows are looked up at once.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Callable

import numpy as np

from serving.engine.alone import Alone
from serving.engine.branching import NONE, Plan
from serving.engine.compiled_branching import branching_of
from serving.engine.contexts import Context, Shared
from serving.engine.figures import TreeFigures
from serving.engine.pool import Pool
from serving.engine.rows import Records
from serving.engine.sampling import Bool, Int64
from serving.engine.stepping import StepSession
from serving.engine.storage import storage_of
from serving.engine.walking import Known, Relief, Walked, Walker, Ways

ROOT = 0
OFF = 1
"""The node of a row that has left the tree; it has neither states, nor children, nor a way to it."""
WIDE = 128
"""Rows of a step at most: more take as long for each, and whoever comes meanwhile waits."""
PRIME = 7919
RARE, SOON = 0.3, 3
"""A new text is rare if its probability times the number of texts that there is room for is less than this.
Its state is kept only for so many turns after a row has come by: mostly none ever does again."""
DOORS = 4096
"""So many ways out of the tree are remembered: what is wanted there a second time is kept."""
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

    root, off = ROOT, OFF

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
            "chance": (np.float64, ()),  # that a string comes by
        }
        cleared = {"child": (np.int32, v), "slot": (np.int32, ())}
        self._storage = storage_of(session.manifest)
        self._node_bytes = 16 * v[0] + 40
        self._slot_bytes = self._storage.slot_bytes + 4
        nodes, slots = budget // 2 // self._node_bytes, budget // 2 // self._slot_bytes
        if self._storage.is_chained:  # every node has a slot, for as long as it is there
            nodes = slots = budget // (self._node_bytes + self._slot_bytes)
        least = 4 * most + 64
        self._nodes = Pool(columns, cleared, max(nodes, least))
        kept = {"node": (np.int32, ()), **self._storage.columns}
        self._slots = Pool(kept, {}, 1 + max(slots, least))
        self._slots.take(1)
        self._rare = RARE / max(slots, least)
        chance = 0.0 if self._storage.is_chained else self._rare
        self._branching = branching_of(self._nodes, self._slots, WIDE, chance)
        self.walker = Walker(session.manifest.max_length)
        self._look()
        self._clock = 0
        self._cuts = 0
        self.steps = self.hits = 0
        self._left_at = np.zeros(DOORS, np.int64)
        self._alone = Alone(session)
        self._begin(root)

    def _begin(self, root: Context) -> None:
        self._nodes.take(2)
        self._nodes["used"][OFF] = np.iinfo(np.int64).max  # it stays
        self._known.put(slice(0, 1), root.known)
        self._nodes["chance"][ROOT] = 1.0
        (self._nodes["slot"][ROOT],) = self._slots.take(1)
        at = np.array([ROOT])
        self._storage.put(self._nodes, self._slots, at, tuple(s[None] for s in root.states))

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
        if len(rare := self._branching.spare(self._clock - SOON)):
            self._slots.give(rare)
        plan = self._branching.plan(places, tokens, self._clock, PRIME * self._cuts)
        self._cuts += plan.missing > WIDE  # others every time, whichever lanes take turns
        self.hits += len(places) - plan.missing
        if plan.pairs:
            self._compute(plan)
        return self._branching.arrive()

    def step(self, place: int, token: int, *, may_leave: bool = False) -> int:
        """See Contexts."""
        if place != OFF:
            if not (may_leave and self._storage.is_chained and self._leaves(place, token)):
                return super().step(place, token)
            at = np.array([place])
            self._alone.states = self._storage.gathered(self._nodes, self._slots, at)
        self._alone.token[:] = token
        self._branching.note(OFF, self._alone.step())
        self.steps += 1
        return OFF

    def go_on(self, live: Records, goes_on: Callable[[], bool]) -> int:
        """See Contexts."""
        if live["place"][0] != OFF:
            return 0
        steps = self.walker.go_on(live, self._known, self._ways, self._alone, goes_on)
        self.steps += steps
        return steps

    def _leaves(self, place: int, token: int) -> bool:
        """Whether what comes after a node is too rare to be kept, and was not wanted before.

        A chained state is there for as long as its node, so that nothing of a rare text can go early; and a
        cache that is only added to needs neither be put away nor found again for the next step.
        """
        nodes, pair = self._nodes, place * self._vocabulary + token
        cumulative = nodes["cumulative"][place]
        weight = (cumulative[token] - cumulative[token - 1]) / cumulative[-1]
        if nodes["chance"][place] * weight >= self._rare:
            return False
        was_here = self._left_at[pair % DOORS] == pair
        self._left_at[pair % DOORS] = pair
        return not was_here

    def _compute(self, plan: Plan) -> None:
        """Step the model where the plan says."""
        states = self._storage.gathered(self._nodes, self._slots, plan.sources)
        logits, states = self._session.advance(plan.tokens, states)
        self.steps += plan.pairs
        if plan.added > self._nodes.room:
            self._drop_leaves(plan.sources)
        if plan.pairs > self._slots.room and not self._storage.is_chained:
            self._drop_states(plan.pairs)
        fresh = self._nodes.take(plan.added)
        if self._known.logits is not self._nodes["logits"]:  # the pool has grown
            self._look()
        slots = self._slots.take(plan.pairs)
        nodes = self._branching.enter(logits, fresh, slots)
        self._storage.put(self._nodes, self._slots, nodes, states)

    def _look(self) -> None:
        """Find the columns that rows walk in."""
        self._known = Known(*(self._nodes[name] for name in Known._fields))
        self._ways = Ways(*(self._nodes[name] for name in Ways._fields))

    def _children(self) -> Int64:
        """How many each node has."""
        parents = self._nodes["parent"][self._nodes.taken]  # the root is its own
        return np.bincount(parents, minlength=len(self._nodes.are_taken))

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
