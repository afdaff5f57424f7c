"""The rows that are being run: one record a string, all in one array.

Knows nothing of requests or models: `owner` and `place` are numbers that the engine gives a meaning to.
B is the number of rows, W the longest text.
"""

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import philox
from serving.engine.sampling import Bool, Float64, Int64, Settings

Records = npt.NDArray[Any]

AHEAD = 8
"""Uniform numbers are made for so many steps at once, unless strings are shorter: most need no more."""

_CODES = {"i": "q", "u": "Q", "f": "d", "b": "?"}

# What becomes of a row:
DRAW = 0  # a draft: it draws on after its job's prefix
PREFIX = 1  # its given text is a job's prefix, whose context all drafts of the job begin with
READ = 2  # its given text is scored
TAKE = 3  # its given text is taken out of what remains to be drawn


SHARED = np.dtype(
    [
        ("owner", np.int64),
        ("token", np.int64),  # what it is to see next; -1 if that is still to be chosen
        ("at", np.int64),  # how many tokens the model has seen, the boundary not counted
        ("first", np.int64),  # length of the prefix
        ("given", np.int64),  # how many tokens of the text were there from the start
        ("length", np.int64),  # how many tokens of the text count
        ("max_length", np.int64),
        ("state", np.int64),  # of the automaton of those
        ("seed", np.uint64),
        ("temperature", np.float64),
        ("top_k", np.int64),
        ("top_p", np.float64),
        ("min_p", np.float64),
        ("simple", np.bool_),  # a draft without bounds, whose settings change nothing
        ("bounded", np.bool_),  # draws only what its bounds allow
        ("watched", np.bool_),  # is given up as soon as it cannot be accepted any more
    ]
)
"""What all rows that go on from a job's prefix begin with: the first fields of a record."""
_PACKED = struct.Struct("=" + "".join(_CODES[SHARED[name].kind] for name in SHARED.names or ()))


@cache
def record_type(longest: int) -> np.dtype[np.void]:
    """A row's fields; `longest` is of a text."""
    own = [
        ("kind", np.int64),
        ("place", np.int64),  # the context after the first `at` tokens
        ("index", np.uint64),  # among those of its job
        ("sample", np.uint64),  # among those of its seed
        ("attempt", np.uint64),
        ("log_prob", np.float64),
        ("sampling_log_prob", np.float64),
        ("log_weight", np.float64),
        ("uniform", np.float64, (min(longest + 1, AHEAD),)),
        ("text", np.int32, (longest + 1,)),
    ]
    return np.dtype([*SHARED.descr, *own], align=True)


def picked(records: Records, rows: Bool | Int64) -> Records:
    """A copy of some records; numpy itself would copy them field by field."""
    return _raw(records)[rows].view(records.dtype)


def copied(records: Records) -> Records:
    """A copy of some records."""
    return _raw(records).copy().view(records.dtype)


def joined(parts: Sequence[Records]) -> Records:
    """All of some records, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([_raw(part) for part in parts]).view(parts[0].dtype)


def put(records: Records, rows: Bool | Int64, values: Records) -> None:
    """Set some records."""
    _raw(records)[rows] = _raw(values)


def _raw(records: Records) -> npt.NDArray[Any]:
    return records.view(_raw_type(records.dtype.itemsize))


@cache
def _raw_type(size: int) -> np.dtype[np.void]:
    return np.dtype((np.void, size))


def begun(kind: np.dtype[np.void], counts: Sequence[tuple[bytes, int]]) -> Records:
    """New records: so many of each that `packed` made."""
    rest = bytes(kind.itemsize - _PACKED.size)
    every = bytearray().join([(shared + rest) * count for shared, count in counts])
    return np.frombuffer(every, kind)


class Rows:
    """Records of B rows at most, of a `kind`; the first `len` of them are running."""

    def __init__(self, longest: int, most: int) -> None:
        self.kind = record_type(longest)
        self._records = np.zeros(most, self.kind)
        self._bytes = _raw(self._records)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> int:
        """How many more there may be."""
        return len(self._records) - self._count

    @property
    def live(self) -> Records:
        """The running rows: a view, [B]."""
        return self._records[: self._count]

    def blank(self, count: int) -> Records:
        """New records to fill in and `add`."""
        return np.zeros(count, self.kind)

    def add(self, records: Records) -> None:
        """Let rows in."""
        self._bytes[self._count : self._count + len(records)] = _raw(records)
        self._count += len(records)

    def picked(self, rows: Bool, begin: int = 0) -> Records:
        """A copy of those running rows from `begin` on where it holds, [B]."""
        return self._bytes[begin : self._count][rows].view(self.kind)

    def remove(self, gone: Bool) -> None:
        """Let the rows out where `gone` [B] holds; the order of the others changes."""
        stay = self._count - int(np.count_nonzero(gone))
        holes = gone[:stay].nonzero()[0]
        if len(holes):
            last = stay + (~gone[stay:]).nonzero()[0]
            self._bytes[holes] = self._bytes[last]
        self._count = stay


def packed(shared: tuple[Any, ...]) -> bytes:
    """The beginning of a record, of its SHARED fields."""
    return _PACKED.pack(*shared)


def give(records: Records, texts: Sequence[Sequence[int]]) -> None:
    """Fill in the texts that rows are fed with."""
    for text, ids in zip(records["text"], texts, strict=True):
        text[: len(ids)] = ids
    records["given"] = records["length"] = [len(ids) for ids in texts]


def make_uniforms(records: Records, first: Int64 | int = 0) -> Float64:
    """The numbers that rows keep for their steps from the first on, [B] or one for all: [B, steps]."""
    steps = np.arange(records["uniform"].shape[1], dtype=np.uint64)
    begin = np.reshape(np.asarray(first, np.uint64), (-1, 1))
    seed, sample, attempt = (records[name][:, None] for name in ("seed", "sample", "attempt"))
    return philox.uniforms(seed, sample, attempt, begin + steps)  # [B, steps]


def work_of(records: Records) -> Int64:
    """Characters that rows have taken, the end of each for one: [B]."""
    work: Int64 = records["length"] - records["first"] + 1
    return work


def uniforms(records: Records) -> Float64:
    """Each row's number for its next step, [B]; makes more where they are used up."""
    count = records["uniform"].shape[1]
    step = records["length"] - records["first"]  # [B]
    if count == records["text"].shape[1]:  # they are enough for the longest
        ready: Float64 = records["uniform"][np.arange(len(records)), step]
        return ready
    used_up = np.flatnonzero((step >= count) & (step % count == 0))
    if len(used_up):
        rows = picked(records, used_up)
        records["uniform"][used_up] = make_uniforms(rows, step[used_up])
    number: Float64 = records["uniform"][np.arange(len(records)), step % count]
    return number


def settings(records: Records) -> Settings:
    """The rows' settings."""
    return Settings(*(records[name] for name in Settings._fields))
