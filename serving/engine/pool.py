"""Numbered things with a column an attribute: arrays of which only what was taken takes memory."""

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine.compiled import address
from serving.engine.sampling import Bool, Int64

Column = tuple[Any, tuple[int, ...]]
"""Dtype, and shape of one value."""
IS_TAKEN = "is taken"
"""A column of the pool's own."""


class Pool:
    """Columns of equal length, and which of their places are taken.

    Memory is had of the system a page at a time, as places are taken for the first time: nothing is copied as
    it grows, nor zeroed in advance.

    Args:
        columns: by name; whatever was there before is found in a place that is taken.
        cleared: other columns, which are 0 there.
        most: places that there may be.
    """

    def __init__(
        self, columns: Mapping[str, Column], cleared: Mapping[str, Column], most: int
    ) -> None:
        self._most = self._length = most
        cleared = {**cleared, IS_TAKEN: (np.bool_, ())}
        self._cleared = list(cleared)
        self._arrays = {
            name: _zeros(most, column) for name, column in {**columns, **cleared}.items()
        }
        self._free = np.zeros(0, np.int64)  # a stack, of which the first `_spare` count
        self._spare = 0
        self._high = 0  # no place from here on was ever taken
        self._at: dict[str, int] = {}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]

    def at(self, name: str) -> int:
        """Where a column begins in memory, until the pool grows."""
        found = self._at.get(name)
        if found is None:
            found = self._at[name] = address(self[name])
        return found

    def __len__(self) -> int:
        return self._high - self._spare

    @property
    def room(self) -> int:
        """How many more places may be taken."""
        return max(self._most - len(self), 0)

    @property
    def are_taken(self) -> Bool:
        """Whether places are taken, of all that ever were."""
        taken: Bool = self[IS_TAKEN][: self._high]
        return taken

    @property
    def taken(self) -> Int64:
        """The places that are taken."""
        return np.flatnonzero(self.are_taken)

    def take(self, count: int) -> Int64:
        """So many places; more than `most` where `room` does not suffice."""
        again = min(count, self._spare)
        first, self._high = self._high, self._high + count - again
        if self._high > self._length:
            self._grow(first, self._high + self._high // 8)
        places = np.arange(first - again, self._high)
        if again:
            places[:again] = self._free[self._spare - again : self._spare]
            self._spare -= again
        self[IS_TAKEN][places] = True
        return places

    def _grow(self, used: int, length: int) -> None:
        self._length = length
        self._at.clear()
        for name, array in self._arrays.items():
            self._arrays[name] = _zeros(length, (array.dtype, array.shape[1:]))
            self._arrays[name][:used] = array[:used]

    def give(self, places: Int64) -> None:
        """Give places back."""
        for name in self._cleared:
            self._arrays[name][places] = 0
        spare = self._spare + len(places)
        if spare > len(self._free):
            self._free = np.concatenate([self._free, np.zeros(spare, np.int64)])
        self._free[self._spare : spare] = places
        self._spare = spare


def _zeros(count: int, column: Column) -> npt.NDArray[Any]:
    """An array that is 0, by pages of its own: numpy's come in blocks of 2 MiB where the system has them."""
    dtype, shape = column
    elements = count * int(np.prod(shape, dtype=np.int64))
    size = max(elements * np.dtype(dtype).itemsize, 1)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, dtype, elements).reshape(count, *shape)
