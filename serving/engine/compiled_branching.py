"""How a prefix tree grows, by the loops of `tree.c`; see branching.py."""

import ctypes
from typing import Any

import numpy as np

from serving.engine import compiled, kernels
from serving.engine.branching import Branching, Plain, Plan
from serving.engine.compiled import address
from serving.engine.pool import Pool
from serving.engine.sampling import Bool, Edges, Float32, Int64

MOST_WIDE = 256
"""Pairs that tree.c has buckets for."""
_COLUMNS = (
    *("logits", "cumulative", "log_partition", "child", "parent", "token", "slot"),
    *("used", "chance"),
)


class _Nodes(ctypes.Structure):
    _fields_ = [
        ("vocabulary", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in (*_COLUMNS, "node")),
    ]


class _Plan(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "sources", "tokens", "targets")),
        *((name, ctypes.c_int64) for name in ("missing", "count", "added")),
    ]


class _Rows(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("places", "tokens")),
        ("count", ctypes.c_int64),
    ]


class Compiled:
    """See Branching; the arguments are those of branching.Plain, and the compiled library."""

    def __init__(self, library: Any, nodes: Pool, slots: Pool, wide: int, chance: float) -> None:
        assert wide <= MOST_WIDE
        self._library = library
        self._pools = nodes, slots
        self._wide, self._chance = wide, chance
        size = nodes["child"].shape[1]
        self._nodes, self._plan, self._rows = _Nodes(vocabulary=size), _Plan(), _Rows()
        self._at = tuple(map(ctypes.addressof, (self._nodes, self._rows, self._plan)))
        self._clock = 0
        self._looked_at: tuple[Any, Any] = (None, None)
        # What C reads and writes lies where it always does: to find out where an array is takes three times
        # as long as to copy a few numbers.
        self._sources, self._tokens, self._targets = pairs = np.zeros((3, wide + 1), np.int64)
        self._plan.sources, self._plan.tokens, self._plan.targets = map(address, pairs)
        self._fresh, self._slots = new = np.zeros((2, wide), np.int64)
        self._new_at = tuple(map(address, new))
        self._edges = Edges(np.empty((wide, size)), np.empty(wide))
        self._edges_at = tuple(map(address, self._edges))
        self._some: dict[int, Edges] = {}  # the first of them
        self._rare = np.zeros(4 * wide, np.int64)
        self._are_rare = 0
        self._logits, self._logits_at = np.zeros((0, size), np.float32), 0
        self._make_room(wide)

    def _make_room(self, rows: int) -> None:
        """For so many rows."""
        self._asked = asked = np.zeros((4, rows), np.int64)  # places, tokens, after, missing
        self._moved = np.zeros(rows, np.bool_)
        places, tokens, self._after_at, self._plan.rows = map(address, asked)
        self._rows.places, self._rows.tokens = places, tokens
        self._moved_at = address(self._moved)

    @property
    def rare(self) -> Int64:
        """See Branching."""
        return self._rare[: self._are_rare]

    def _look(self) -> None:
        """Find the columns, which are others when a pool has grown."""
        nodes, slots = self._pools
        seen, kept = self._looked_at
        if seen is not nodes["child"] or kept is not slots["node"]:
            self._looked_at = nodes["child"], slots["node"]
            for name in _COLUMNS:
                setattr(self._nodes, name, nodes.at(name))
            self._nodes.node = slots.at("node")

    def plan(self, places: Int64, tokens: Int64, clock: int, first: int) -> Plan:
        """See Branching."""
        self._look()
        count = self._rows.count = len(places)
        if count > len(self._moved):
            self._make_room(2 * count)
        self._asked[0, :count], self._asked[1, :count] = places, tokens
        self._clock = clock
        nodes_at, rows_at, plan_at = self._at
        self._library.plan(nodes_at, rows_at, clock, self._wide, first, self._after_at, plan_at)
        made, pairs = self._plan, self._pairs()
        return Plan(self._sources[pairs], self._tokens[pairs], made.count, made.added, made.missing)

    def _pairs(self) -> slice:
        """Where pairs are; a single one is there twice."""
        return slice(0, self._plan.count + (self._plan.count == 1))

    def enter(self, logits: Float32, fresh: Int64, slots: Int64) -> Int64:
        """See Branching."""
        self._look()
        count = self._plan.count
        self._learn(logits, count)
        if len(self._rare) < self._are_rare + count:
            self._rare = np.concatenate([self._rare, np.zeros_like(self._rare)])
        self._fresh[: len(fresh)], self._slots[:count] = fresh, slots
        nodes_at, _, plan_at = self._at
        known = self._logits_at, *self._edges_at
        rare = address(self._rare) + self._are_rare * self._rare.itemsize
        what = (nodes_at, plan_at, *self._new_at, self._clock, *known, self._chance, rare)
        self._are_rare += self._library.enter(*what)
        return self._targets[self._pairs()]

    def _learn(self, logits: Float32, count: int) -> Edges:
        """What is known where these are the first logits: [count], good until the next time."""
        if logits is not self._logits:
            self._logits = logits = np.ascontiguousarray(logits, np.float32)
            self._logits_at = address(logits)
        if (edges := self._some.get(count)) is None:
            edges = self._some[count] = Edges(*(column[:count] for column in self._edges))
        kernels.fill_edges(self._library, self._logits_at, edges, self._edges_at)
        return edges

    def note(self, node: int, logits: Float32) -> None:
        """See Branching."""
        nodes, _ = self._pools
        edges = self._learn(logits, 1)
        nodes["logits"][node] = logits[0]
        nodes["cumulative"][node] = edges.cumulative
        nodes["log_partition"][node] = edges.log_partition[0]

    def arrive(self) -> tuple[Int64, Bool]:
        """See Branching."""
        nodes_at, rows_at, plan_at = self._at
        where = self._after_at, self._moved_at
        self._library.arrive(nodes_at, rows_at, self._clock, plan_at, *where)
        count = self._rows.count
        return self._asked[2, :count].copy(), self._moved[:count].copy()

    def spare(self, since: int) -> Int64:
        """See Branching."""
        if not self._are_rare:
            return self._rare[:0]
        self._look()
        gone, are_gone = np.empty(self._are_rare, np.int64), ctypes.c_int64()
        where = address(gone), ctypes.addressof(are_gone)
        some = self._at[0], address(self._rare), self._are_rare
        self._are_rare = self._library.spare(*some, since, *where)
        return gone[: are_gone.value]


def branching_of(nodes: Pool, slots: Pool, wide: int, chance: float) -> Branching:
    """By compiled loops, if there are any."""
    how = nodes, slots, wide, chance
    library = compiled.library()
    return Plain(*how) if library is None else Compiled(library, *how)
