"""64-bit fingerprints of strings, so that "was it in the training data?" needs no text.

A fingerprint is the 8-byte BLAKE2b digest of the string's UTF-8, read little-endian. With n training
strings a new string is mistaken for one of them with probability n / 2**64.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

FUNCTION = "BLAKE2b-64 of the NFC string's UTF-8, little-endian"


def fingerprint(text: str) -> int:
    """The fingerprint of normalised text, from 0 to 2**64 - 1."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def fingerprints(strings: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Sorted fingerprints of the distinct strings, as `known.u64` holds them: [N] '<u8'."""
    return np.unique(np.array([fingerprint(s) for s in strings], dtype="<u8"))
