"""Rows of drafts that are made ready many at a time, since few cost as much as many."""

from collections.abc import Callable

import numpy as np

from serving.engine import rows as table
from serving.engine.job import Draw
from serving.engine.rows import Records
from serving.engine.walking import Walker

AT_ONCE, ALONE = 256, 1024
"""So many, if the job wants as many, amid others and by itself."""


class Ready:
    """Rows of one job's first attempts, complete but for their places.

    Args:
        draw: the job.
        longest: the longest text that the model can make.
    """

    def __init__(self, draw: Draw, longest: int) -> None:
        self._draw = draw
        self._type = table.record_type(longest)
        self._from = 0
        self._records: Records = np.zeros(0, self._type)

    def ahead(
        self, shared: Callable[[], bytes], begin: int, count: int, walker: Walker, at_once: int
    ) -> Records:
        """All rows from an index on that are made ready, [B]; each is used once.

        Args:
            shared: makes what they begin with, see `rows.packed`.
            begin: the index.
            count: how many there are to be at least.
            walker: makes their numbers.
            at_once: how many are made if some must be.
        """
        if begin < self._from or begin + count > self._from + len(self._records):
            most = min(max(count, at_once), self._draw.n - begin)
            self._from, self._records = begin, self._made(shared(), begin, most)
            walker.fill_uniforms(self._records)
        return self._records[begin - self._from :]

    def _made(self, shared: bytes, begin: int, count: int) -> Records:
        records = table.begun(self._type, [(shared, count)])
        records["index"] = np.arange(begin, begin + count)
        if seeds := self._draw.seeds:
            records["seed"] = seeds[begin : begin + count]
        else:
            records["sample"] = records["index"]
        if prefix := self._draw.prefix:
            records["text"][:, : len(prefix)] = prefix
        return records
