"""Rows of drafts that are made ready many at a time, since few cost as much as many."""

from collections.abc import Callable

import numpy as np

from serving.engine import rows as table
from serving.engine import sampling
from serving.engine.job import Draw, Float32
from serving.engine.philox import UInt64
from serving.engine.rows import Records
from serving.vocabulary import BOUNDARY

AT_ONCE = 256
"""So many, if the job wants as many."""


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
        self._are_over = b""

    def take(
        self, shared: Callable[[], bytes], indices: UInt64, logits: Float32
    ) -> tuple[Records, bool]:
        """The rows of these indices, [B], which follow one upon the other; each is taken once.

        Args:
            shared: makes what they begin with, see `rows.packed`.
            indices: [B].
            logits: after the prefix, [V].

        Returns:
            The rows, and whether any of them is over already.
        """
        begin, end = int(indices[0]), int(indices[-1]) + 1
        if begin < self._from or end > self._from + len(self._records):
            most = min(max(end - begin, AT_ONCE), self._draw.n - begin)
            self._from, self._records = begin, self._made(shared(), begin, most, logits)
            self._are_over = table.are_over(self._records).tobytes()
        part = slice(begin - self._from, end - self._from)
        return self._records[part], 1 in self._are_over[part]

    def _made(self, shared: bytes, begin: int, count: int, logits: Float32) -> Records:
        records = table.begun(self._type, [(shared, count)])
        records["index"] = np.arange(begin, begin + count)
        records["uniform"] = table.make_uniforms(records)
        if prefix := self._draw.prefix:
            records["text"][:, : len(prefix)] = prefix
        if records["simple"][0]:
            _draw_first(records, logits)
        return records


def _draw_first(records: Records, logits: Float32) -> None:
    """Give rows their first tokens; one that ends or is cut there does not grow."""
    first = records["first"][0]
    every = np.broadcast_to(logits, (len(records), len(logits)))
    drawn = sampling.draw(every, None, records["uniform"][:, 0])
    ended = drawn.ids == BOUNDARY
    grows = ~ended & (first < records["max_length"])
    records["token"] = drawn.ids
    records["text"][:, first] = drawn.ids
    records["length"] += grows
    records["log_prob"] = np.where(grows | ended, drawn.log_prob, 0.0)
