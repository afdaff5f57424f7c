"""Many samples as columns: to make an object of each takes longer than to draw it.

B is the number of samples, W the longest text.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Self, overload

import numpy as np

from serving.engine.job import FINISH_REASONS, FinishReason, Sample
from serving.engine.rows import Records, joined, picked
from serving.vocabulary import BOUNDARY, Vocabulary, texts


@cache
def sample_type(longest: int) -> np.dtype[np.void]:
    """A sample's fields; `longest` is of a text."""
    fields: list[Any] = [
        ("index", np.uint64),
        ("log_prob", np.float64),
        ("sampling_log_prob", np.float64),
        ("log_weight", np.float64),
        ("attempts", np.int64),
        ("length", np.int64),
        ("has_end", np.bool_),
        ("text", np.uint32, (longest,)),  # code points, of which so many count
    ]
    return np.dtype(fields, align=True)


class Samples(Sequence[Sample]):
    """Samples in the order of `records`, [B]."""

    def __init__(self, records: Records) -> None:
        self.records = records

    @classmethod
    def of(cls, rows: Records, vocabulary: Vocabulary) -> Self:
        """What rows have drawn."""
        records = np.empty(len(rows), sample_type(rows["text"].shape[1]))
        for name in ("index", "log_prob", "log_weight", "length"):
            records[name] = rows[name]
        drawn = np.where(rows["simple"], rows["log_prob"], rows["sampling_log_prob"])
        records["sampling_log_prob"] = drawn
        records["attempts"] = rows["attempt"] + np.uint64(1)
        records["has_end"] = rows["token"] == BOUNDARY
        records["text"] = vocabulary.code_points(rows["text"])
        return cls(records)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Sample | Self:
        if isinstance(place, slice):
            return type(self)(self.records[place])
        at = range(len(self))[place]
        return next(iter(self[at : at + 1]))

    def __iter__(self) -> Iterator[Sample]:
        records = self.records
        return map(
            Sample,
            texts(records["text"], records["length"].tolist()),
            records["index"].tolist(),
            map(FINISH_REASONS.__getitem__, records["has_end"].tolist()),
            *(records[name].tolist() for name in ("log_prob", "sampling_log_prob", "log_weight")),
            records["attempts"].tolist(),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def from_index(self, first: int) -> tuple[Self, Self]:
        """Those that follow one upon the other from an index on, in their order, and the others."""
        order = np.argsort(self.records["index"])
        follows = self.records["index"][order] == np.arange(first, first + len(self))
        count = len(self) if follows.all() else int(follows.argmin())
        parts = (picked(self.records, some) for some in (order[:count], order[count:]))
        ready, rest = map(type(self), parts)
        return ready, rest


def ended(samples: Sequence[Sample]) -> int:
    """How many end by themselves."""
    if isinstance(samples, Samples):
        return int(np.count_nonzero(samples.records["has_end"]))
    return [sample.finish_reason for sample in samples].count(FinishReason.END)


def together(parts: Sequence[Sequence[Sample]]) -> Sequence[Sample]:
    """All of some samples, one after the other."""
    if len(parts) == 1:
        return parts[0]
    records = [part.records for part in parts if isinstance(part, Samples)]
    if parts and len(records) == len(parts):
        return Samples(joined(records))
    return list(chain.from_iterable(parts))
