"""Walks and edges in C; `walking.py` and `sampling.py` have the same in numpy, bit for bit."""

import ctypes
from typing import Any

import numpy as np

from serving.engine.compiled import address
from serving.engine.rows import Records, record_type
from serving.engine.sampling import Edges, Float32, Int64

_FIELDS = (
    *("token", "at", "first", "length", "max_length", "seed", "simple"),
    *("place", "sample", "attempt", "log_prob", "uniform", "text"),
)


class Layout(ctypes.Structure):
    """Where a record has its fields; see kernels.c."""

    _fields_ = [(name, ctypes.c_int64) for name in ("size", *_FIELDS, "kept")]


class Places(ctypes.Structure):
    """What rows draw from; see kernels.c."""

    _fields_ = [
        ("vocabulary", ctypes.c_int64),
        *((n, ctypes.c_void_p) for n in ("logits", "cumulative", "log_partition", "child", "used")),
    ]


class Relief(ctypes.Structure):
    """Rows that take the places of others; see kernels.c."""

    _fields_ = [
        ("records", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("done", ctypes.c_void_p),
        ("are_new", ctypes.c_void_p),
        ("fresh", ctypes.c_void_p),
        ("used", ctypes.c_int64),
    ]


class Walk(ctypes.Structure):
    """A walk, what is given and what comes of it; see kernels.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("layout", "places", "records")),
        *((name, ctypes.c_int64) for name in ("count", "clock", "enough")),
        *((name, ctypes.c_void_p) for name in ("relief", "are_done")),
        *((name, ctypes.c_int64) for name in ("hits", "done", "unchosen", "relieved")),
        *((name, ctypes.c_void_p) for name in ("stepped", "next")),
    ]


class Piece(ctypes.Structure):
    """Where a slot of the prefix tree has what of a state; see tree.c."""

    _fields_ = [(name, ctypes.c_int64) for name in ("within", "outer", "entries", "inner")]


class Kernels:
    """The compiled loops, for records of one kind.

    Args:
        library: that was compiled.
        longest: the longest text that a record has room for.

    Attributes:
        given: the next walk; what stays the same from walk to walk need not be given again.
    """

    def __init__(self, library: Any, longest: int) -> None:
        self._walk, self._follow = library.walk, library.follow
        self._fill = library.fill_uniforms
        self._layout = layout_of(record_type(longest))
        self._layout_at = ctypes.addressof(self._layout)
        self._records: Records | None = None
        self._stepped: Float32 | None = None
        self.given = Walk(layout=self._layout_at)
        self._given_at = ctypes.addressof(self.given)

    def fill_uniforms(self, records: Records) -> None:
        """Make the numbers that records keep for their first steps."""
        self._fill(self._layout_at, records.ctypes.data, len(records))

    def walk(self, records: Records, clock: int, relief: Relief | None) -> Walk:
        """See Walker.walk."""
        given = self.given
        self._take_up(records)
        given.clock = clock
        given.relief = ctypes.addressof(relief) if relief else None
        self._walk(self._given_at)
        return given

    def follow(self, stepped: Float32) -> bool:
        """See kernels.c; `stepped` is what the step gave, [1, V]."""
        if stepped is not self._stepped:  # it is the same array again and again
            self._stepped, self.given.stepped = stepped, address(stepped)
        return bool(self._follow(self._given_at))

    def set_out(self, records: Records, token: Int64) -> None:
        """Let a row that is alone, [1], be the one that follows, whose next token goes into `token`, [1]."""
        self._take_up(records)
        self.given.next = address(token)

    def _take_up(self, records: Records) -> None:
        if records is not self._records:  # a row that is alone comes again and again
            self._records = records
            self.given.records, self.given.count = records.ctypes.data, len(records)


def edges(library: Any, logits: Float32) -> Edges:
    """As `sampling.edges`, to the last bit."""
    found = Edges(np.empty(logits.shape), np.empty(len(logits)))
    logits = np.ascontiguousarray(logits, np.float32)
    fill_edges(library, address(logits), found, tuple(map(address, found)))
    return found


def fill_edges(library: Any, logits_at: int, into: Edges, into_at: tuple[int, ...]) -> None:
    """The same, where it is known where arrays are: to find that out takes as long as a part of the work."""
    library.edges(logits_at, *into.cumulative.shape, *into_at)


def layout_of(kind: np.dtype[Any]) -> Layout:
    """Where records of a kind have their fields."""
    fields = kind.fields
    assert fields is not None
    offsets = {name: fields[name][1] for name in _FIELDS}
    return Layout(size=kind.itemsize, kept=kind["uniform"].shape[0], **offsets)
