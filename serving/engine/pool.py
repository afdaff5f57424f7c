"""Numbered things with a column an attribute: arrays that grow together up to a limit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine.sampling import Bool, Int64

Column = tuple[Any, tuple[int, ...], int | None]
"""Dtype, shape of one value, and what it is at first; None for whatever was there before."""


class Pool:
    """Columns of equal length, and which of their places are taken.

    Args:
        columns: by name.
        most: places that there may be.
    """

    def __init__(self, columns: Mapping[str, Column], most: int) -> None:
        self._columns = columns
        self._most = most
        self._arrays = {name: _filled(0, column) for name, column in columns.items()}
        self._free: list[int] = []
        self.is_taken: Bool = np.zeros(0, np.bool_)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]

    def __len__(self) -> int:
        return len(self.is_taken) - len(self._free)

    @property
    def room(self) -> int:
        """How many more places may be taken."""
        return self._most - len(self)

    def take(self, count: int) -> Int64:
        """So many places, every column as at first; more than `most` where `room` does not suffice."""
        if count > len(self._free):
            self._grow(count - len(self._free))
        places = np.array([self._free.pop() for _ in range(count)], np.int64)
        self.is_taken[places] = True
        return places

    def _grow(self, at_least: int) -> None:
        old = len(self.is_taken)
        new = max(min(self._most, max(old * 2, 64)), old + at_least)
        for name, column in self._columns.items():
            self._arrays[name] = np.concatenate([self[name], _filled(new - old, column)])
        self.is_taken = np.concatenate([self.is_taken, np.zeros(new - old, np.bool_)])
        self._free.extend(range(new - 1, old - 1, -1))

    def give(self, places: Int64) -> None:
        """Give places back."""
        for name, (_, _, initial) in self._columns.items():
            if initial is not None:
                self._arrays[name][places] = initial
        self.is_taken[places] = False
        self._free.extend(places.tolist())


def _filled(count: int, column: Column) -> npt.NDArray[Any]:
    dtype, shape, initial = column
    if initial is None:
        return np.empty((count, *shape), dtype)
    return np.full((count, *shape), initial, dtype)
