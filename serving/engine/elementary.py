"""exp and log of float64, of basic arithmetic alone: edges.c has the same to the last bit.

Those of numpy and of C's libraries differ from each other, and from processor to processor. These are wrong
by three units in the last place at most, where the result is not close to 0.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import compiled

Float64 = npt.NDArray[np.float64]

LEAST = -708.0
"""Below it, exp is 0; it would be less than what float64 has in full precision."""
ROUND = 1.5 * 2.0**52
"""Added to a number and taken away again it leaves the nearest whole number, which lies in its last bits."""
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""ln 2: a beginning of few bits, whose multiples are exact, and the rest."""
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
SQRT_2 = float.fromhex("0x1.6a09e667f3bcdp+0")
EXP_TERMS = [1.0 / math.factorial(power) for power in range(13, -1, -1)]
"""Of the Taylor series, the highest power first."""
LOG_TERMS = [1.0 / power for power in range(21, 0, -2)]
"""Of log((1 + f) / (1 - f)) / 2 f in f squared, the highest power first."""


def exp(x: Float64) -> Float64:
    """E to the power of x, which is at most 709."""
    library = compiled.library()
    return _exp(x) if library is None else _by_loop(library.exp_each, x)


def log(x: Float64) -> Float64:
    """The natural logarithm of x, which is at least 1."""
    library = compiled.library()
    return _log(x) if library is None else _by_loop(library.log_each, x)


def _by_loop(loop: Any, x: Float64) -> Float64:
    found = np.array(x, order="C")
    loop(compiled.address(found), found.size)
    return found


def _exp(x: Float64) -> Float64:
    bounded = np.maximum(x, LEAST)
    shifted = bounded * LOG2_E + ROUND
    whole = shifted - ROUND
    rest = (bounded - whole * LN2_HIGH) - whole * LN2_LOW  # at most ln 2 / 2
    power = (shifted.view(np.int64) + 1023) << 52  # the bits of 2 ** whole
    found = _polynomial(EXP_TERMS, rest)
    found *= power.view(np.float64)
    found[x < LEAST] = 0.0
    return found


def _log(x: Float64) -> Float64:
    bits = x.view(np.int64)
    exponent = (bits >> 52) - 1023.0
    part = (bits & (1 << 52) - 1 | 1023 << 52).view(np.float64)  # 1 to 2
    is_large = part > SQRT_2
    part[is_large] *= 0.5
    exponent[is_large] += 1.0
    f = (part - 1.0) / (part + 1.0)
    series = _polynomial(LOG_TERMS, f * f) * (2.0 * f) + exponent * LN2_LOW
    # What is no number stays so.
    found: Float64 = exponent * LN2_HIGH + series + (x - x)
    return found


def _polynomial(terms: list[float], x: Float64) -> Float64:
    value = x * terms[0]
    for term in terms[1:-1]:
        value += term
        value *= x
    value += terms[-1]
    return value
