"""Drawing the next character: a pure function of logits, settings and one uniform number a row.

Knows nothing of models, strings or requests. Everything is in float64 and row by row, so that a row's
draw does not depend on its neighbours. `trainer` draws its previews with the same function.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving import checks

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

MAX_TEMPERATURE = 100.0


@dataclass(frozen=True)
class SamplingParameters:
    """How one request draws.

    Attributes:
        temperature: 0 to 100; 0 takes the most likely character, ties to the smallest id.
        top_k: keep the k most likely characters, ties to the smallest id; 0 keeps all.
        seed: 0 to 2**64 - 1; the same seed gives the same strings.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        checks.real("temperature", self.temperature, 0.0, MAX_TEMPERATURE)
        checks.whole("top_k", self.top_k, 0, 2**31 - 1)
        checks.whole("seed", self.seed, 0, 2**64 - 1)


def keep_top_k(logits: Float64, top_k: Int64) -> Float64:
    """Logits [B, V] with all but each row's k largest at -inf; k = 0 or k >= V keeps the row."""
    vocabulary = logits.shape[1]
    limit = np.where(top_k == 0, vocabulary, top_k)  # [B]
    if not (limit < vocabulary).any():
        return logits
    order = np.argsort(-logits, axis=1, kind="stable")  # [B, V]; stable: ties by id
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(vocabulary)[None, :], axis=1)
    kept: Float64 = np.where(rank < limit[:, None], logits, -np.inf)
    return kept


def log_partition(logits: Float64) -> Float64:
    """Log sum exp of each row: [B] from [B, V]."""
    top: Float64 = logits.max(axis=1)  # [B]
    partition: Float64 = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return partition


def inverse_cdf(logits: Float64, uniform: Float64) -> Int64:
    """The id at which each row's cumulative probability, in id order, passes its uniform: [B]."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))  # [B, V]
    cumulative = np.cumsum(weights, axis=1)
    target = uniform * cumulative[:, -1]  # [B]
    drawn = (cumulative <= target[:, None]).sum(axis=1)
    # Rounding can lift the target to the very total; the last id that has any weight is meant.
    last = logits.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    ids: Int64 = np.minimum(drawn, last)
    return ids


def draw(
    logits: npt.NDArray[np.float32], temperature: Float64, top_k: Int64, uniform: Float64
) -> tuple[Int64, Float64]:
    """Draw one id a row.

    Args:
        logits: [B, V], raw.
        temperature: [B], 0 for the most likely id.
        top_k: [B], 0 for all ids.
        uniform: [B], in [0, 1).

    Returns:
        Ids [B], and their log-probabilities [B] under the model itself: temperature 1, no top-k.
    """
    raw = logits.astype(np.float64)  # [B, V]
    # Before the temperature, which keeps their order but for differences too small for float64.
    kept = keep_top_k(raw, top_k)
    greedy = temperature == 0
    if greedy.any() or (temperature != 1).any():
        # The maximum goes first, so that no temperature, however small, overflows.
        centred = kept - kept.max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            kept = centred / np.where(greedy, 1.0, temperature)[:, None]
    ids = inverse_cdf(kept, uniform)
    if greedy.any():
        ids = np.where(greedy, raw.argmax(axis=1), ids)
    chosen = np.take_along_axis(raw, ids[:, None], axis=1)[:, 0]  # [B]
    return ids, chosen - log_partition(raw)
