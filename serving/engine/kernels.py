"""The engine's innermost loops in C, where they were compiled; without them, numpy does the same.

They are compiled when the package is installed (`hatch_build.py`), if there is a compiler. `walking.py` and
`sampling.py` have the same in numpy, bit for bit.
"""

import ctypes
import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from serving.engine.rows import Records, record_type
from serving.engine.sampling import Edges, Float32

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernels.c")
FILE = Path(__file__).with_name("kernels.compiled")

_FIELDS = (
    *("token", "at", "first", "length", "max_length", "seed", "simple"),
    *("place", "index", "attempt", "log_prob", "uniform", "text"),
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


class Walked(ctypes.Structure):
    """What has come of a walk; see kernels.c."""

    _fields_ = [(name, ctypes.c_int64) for name in ("hits", "done", "unchosen")]


class Piece(ctypes.Structure):
    """Where a slot of the prefix tree has what of a state; see kernels.c."""

    _fields_ = [(name, ctypes.c_int64) for name in ("within", "outer", "entries", "inner")]


class Kernels:
    """The compiled loops, for records of one kind.

    Args:
        library: that was compiled.
        longest: the longest text that a record has room for.
    """

    def __init__(self, library: Any, longest: int) -> None:
        self._walk, self._fill = library.walk, library.fill_uniforms
        self._layout = layout_of(record_type(longest))
        self._walked = Walked()
        self._layout_at = ctypes.addressof(self._layout)
        self._walked_at = ctypes.addressof(self._walked)

    def fill_uniforms(self, records: Records) -> None:
        """Make the numbers that records keep for their first steps."""
        self._fill(self._layout_at, records.ctypes.data, len(records))

    def walk(
        self,
        places: Places,
        records: Records,
        clock: int,
        enough: int,
        relief: Relief | None,
        done: int,
    ) -> Walked:
        """See Walker.walk; `done` is the address of [B] bytes, which are set."""
        what = ctypes.addressof(places), records.ctypes.data, len(records), clock, enough
        relief_at = ctypes.addressof(relief) if relief else None
        self._walk(self._layout_at, *what, relief_at, done, self._walked_at)
        return self._walked


def edges(library: Any, logits: Float32) -> Edges:
    """As `sampling.edges`, to the last bit."""
    found = Edges(np.empty(logits.shape), np.empty(len(logits)))
    fill_edges(library, logits, found, *(column.ctypes.data for column in found))
    return found


def fill_edges(
    library: Any, logits: Float32, into: Edges, cumulative_at: int, log_partition_at: int
) -> None:
    """The same, into arrays whose addresses are known: to ask for one takes as long as a part of the work."""
    logits = np.ascontiguousarray(logits, np.float32)
    cumulative, log_partition = into
    library.centre(logits.ctypes.data, *logits.shape, cumulative_at, log_partition_at)
    np.exp(cumulative, out=cumulative)  # which no C library has the same bits of
    library.accumulate(cumulative_at, *logits.shape)
    log_partition += np.log(cumulative[:, -1])  # to the largest logit


def layout_of(kind: np.dtype[Any]) -> Layout:
    """Where records of a kind have their fields."""
    fields = kind.fields
    assert fields is not None
    offsets = {name: fields[name][1] for name in _FIELDS}
    return Layout(size=kind.itemsize, kept=kind["uniform"].shape[0], **offsets)


@cache
def library(file: Path = FILE) -> Any:
    """What was compiled; None if nothing was, or for another kind of machine, or of another source."""
    try:
        digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest().encode()
        # Not CDLL: the calls are too short to let go of the interpreter's lock for.
        found = ctypes.PyDLL(str(file))
        if (ctypes.c_char * len(digest)).in_dll(found, "source_digest").value != digest:
            raise ValueError("it was compiled of another source")
    except (OSError, ValueError) as error:
        what = "the engine does without its compiled loops, which takes longer"
        log.warning("%s; install it anew where there is a C compiler: %s", what, error)
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    found.walk.argtypes = [pointer, pointer, pointer, number, number, number, *[pointer] * 3]
    found.fill_uniforms.argtypes = [pointer, pointer, number]
    columns = [pointer, pointer, pointer, pointer]
    found.centre.argtypes = [pointer, number, number, pointer, pointer]
    found.accumulate.argtypes = [pointer, number, number]
    found.gather.argtypes = [pointer, number, number, *columns, number, pointer]
    found.put.argtypes = found.gather.argtypes
    for name in ("walk", "fill_uniforms", "centre", "accumulate", "gather", "put"):
        getattr(found, name).restype = None
    return found
