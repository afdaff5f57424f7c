"""Philox4x32-10, a counter-based random generator, over arrays.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A draw is a
function of its place alone, (seed, sample, attempt, step), so a string does not depend on when, where
or beside what it is made.
"""

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]

MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
WEYL = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint32)
ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox4x32(counter: UInt64, key: UInt64) -> UInt64:
    """Four random 32-bit words for each counter: [4, N] from counters [4, N] and keys [2, N].

    All words are given in uint64 with the upper half zero. Words 0 and 2 of the block are the ones
    that a round multiplies, so they are kept together, and so are 1 and 3.
    """
    even, odd = counter[0::2].astype(np.uint32), counter[1::2].astype(np.uint32)  # [2, N] each
    round_key = key.astype(np.uint32)  # [2, N]
    product = np.empty(key.shape, "<u8")
    halves = product.view("<u4").reshape(*key.shape, 2)[::-1]  # [2, N, 2]: low, high; words swapped
    for _ in range(ROUNDS):
        np.multiply(even, MULTIPLIERS, out=product)
        np.bitwise_xor(halves[..., 1], odd, out=even)
        even ^= round_key
        odd[:] = halves[..., 0]
        round_key += WEYL  # modulo 2**32
    return np.stack([even[0], odd[0], even[1], odd[1]]).astype(np.uint64)  # [4, N]


def uniforms(
    seed: UInt64, sample: UInt64, attempt: UInt64, step: UInt64
) -> npt.NDArray[np.float64]:
    """One number in [0, 1) with 53 random bits for each place: [N] from four [N].

    The key is the seed's two halves, the counter (step, sample, attempt, 0). The upper 27 bits of
    word 0 and the upper 26 of word 1 make the mantissa.
    """
    key = np.stack([seed & _LOW, seed >> _32])  # [2, N]
    words = philox4x32(np.stack([step, sample, attempt, np.zeros_like(step)]), key)  # [4, N]
    high, low = words[0] >> np.uint64(5), words[1] >> np.uint64(6)  # [N], 27 and 26 bits
    mantissa: npt.NDArray[np.float64] = high.astype(np.float64)
    mantissa *= 2.0**26
    mantissa += low
    mantissa /= 2.0**53
    return mantissa
