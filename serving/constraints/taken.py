"""Strings that are not wanted: those of the training part, known by their fingerprints alone."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from serving.errors import BadModel
from serving.fingerprint import fingerprint


@dataclass(frozen=True, eq=False)
class Known:
    """A set of strings by their sorted fingerprints."""

    sorted_fingerprints: npt.NDArray[np.uint64]

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The set that `known.u64` holds; raises BadModel unless it is sorted and whole."""
        if len(content) % 8:
            raise BadModel("known.u64: its length is no multiple of 8 bytes")
        known = cls.of(content)
        found = known.sorted_fingerprints
        if not (found[1:] > found[:-1]).all():
            raise BadModel("known.u64: its fingerprints are not sorted")
        return known

    @classmethod
    def of(cls, content: bytes | bytearray) -> Self:
        """The set that `content` of another has; the bytes are used where they are."""
        return cls(np.frombuffer(content, "<u8").astype(np.uint64, copy=False))

    @property
    def content(self) -> memoryview:
        """The bytes of `known.u64`."""
        return self.sorted_fingerprints.astype("<u8", copy=False).view(np.uint8).data

    def __contains__(self, text: str) -> bool:
        wanted = np.uint64(fingerprint(text))
        place = int(self.sorted_fingerprints.searchsorted(wanted))
        found = place < len(self.sorted_fingerprints)
        return found and bool(self.sorted_fingerprints[place] == wanted)

    def __len__(self) -> int:
        return len(self.sorted_fingerprints)
