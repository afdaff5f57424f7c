"""Philox4x32-10, a counter-based random generator, over arrays.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A draw is a
function of its place alone, (seed, sample, attempt, step), so a string does not depend on when, where
or beside what it is made.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]

MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint32)
ROUNDS = 10
_NONE = np.zeros((), np.uint64)
_32 = np.uint64(32)


def philox4x32(counter: Sequence[UInt64], key: Sequence[UInt64]) -> tuple[UInt32, ...]:
    """The four random 32-bit words of each counter: [...] each.

    Words 0 and 2 of the block are the ones that a round multiplies, so they are kept together, and so are
    1 and 3.

    Args:
        counter: four words, whose shapes broadcast to [...]; the lower 32 bits of each count.
        key: two words, likewise.
    """
    shape = np.broadcast_shapes(*(word.shape for word in (*counter, *key)))
    pair = (2, *(1 for _ in shape))
    multipliers, weyl = MULTIPLIERS.reshape(pair), WEYL.reshape(pair)  # [2, 1, ...] each
    even, odd = np.empty((2, 2, *shape), np.uint32)  # [2, ...] each
    even[0], odd[0], even[1], odd[1] = counter
    key_shape = np.broadcast_shapes(*(word.shape for word in key), pair[1:])
    round_key = np.empty((2, *key_shape), np.uint32)  # [2, ...], of which 1 stays 1
    round_key[0], round_key[1] = key
    product = np.empty((2, *shape), "<u8")
    halves = product.view("<u4").reshape(2, *shape, 2)[::-1]  # [2, ..., 2]; words swapped
    low, high = halves[..., 0], halves[..., 1]
    for _ in range(ROUNDS):
        np.multiply(even, multipliers, out=product)
        np.bitwise_xor(high, odd, out=even)
        even ^= round_key
        odd[:] = low
        round_key += weyl  # modulo 2**32
    return even[0], odd[0], even[1], odd[1]


def uniforms(
    seed: UInt64, sample: UInt64, attempt: UInt64, step: UInt64
) -> npt.NDArray[np.float64]:
    """One number in [0, 1) with 53 random bits for each place: [...], to which the four broadcast.

    The key is the seed's two halves, the counter (step, sample, attempt, 0). The upper 27 bits of
    word 0 and the upper 26 of word 1 make the mantissa.
    """
    words = philox4x32((step, sample, attempt, _NONE), (seed, seed >> _32))
    mantissa = (words[0] >> np.uint32(5)).astype(np.float64)
    mantissa *= 2.0**26
    mantissa += words[1] >> np.uint32(6)
    mantissa /= 2.0**53
    return mantissa
