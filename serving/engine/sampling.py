"""Drawing the next character: a pure function of logits, settings and one uniform number a row.

Knows nothing of models, strings or requests. Everything is in float64 and row by row, so that a row's
draw does not depend on its neighbours. `docs/sampling.md` is its specification. `trainer` draws its
previews with the same function.
"""

import secrets
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from serving import checks
from serving.engine.elementary import exp, log
from serving.errors import InvalidArgument

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

MAX_TEMPERATURE = 100.0
RANDOM_SEED_BITS = 53
"""Bits of a seed that is chosen at random: a JavaScript number holds every integer of 53 bits exactly."""


def random_seed() -> int:
    """Choose a seed for a request that gives none."""
    return secrets.randbits(RANDOM_SEED_BITS)


@dataclass(frozen=True)
class SamplingParameters:
    """How one request draws.

    Attributes:
        temperature: 0 to 100; 0 takes the most likely character, ties to the smallest id.
        top_k: keep the k most likely characters, ties to the smallest id; 0 keeps all.
        seed: 0 to 2**64 - 1; the same seed gives the same strings.
        top_p: above 0, to 1; keep the fewest most likely characters with that much probability.
        min_p: 0 to 1; keep the characters at least that times as likely as the most likely one.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        checks.real("temperature", self.temperature, 0.0, MAX_TEMPERATURE)
        checks.whole("top_k", self.top_k, 0, 2**31 - 1)
        checks.whole("seed", self.seed, 0, 2**64 - 1)
        checks.real("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0:
            raise InvalidArgument("top_p", "must be above 0; 1 draws among all characters")
        checks.real("min_p", self.min_p, 0.0, 1.0)

    @property
    def is_plain(self) -> bool:
        """Whether it draws from the model's own distribution."""
        return (self.temperature, self.top_k, self.top_p, self.min_p) == (1, 0, 1, 0)


class Settings(NamedTuple):
    """The parameters of B rows: a column each."""

    temperature: Float64  # [B]
    top_k: Int64  # [B]
    top_p: Float64  # [B]
    min_p: Float64  # [B]

    def are_plain(self, vocabulary: int) -> Bool:
        """Which rows draw from the model's own distribution over so many ids: [B]."""
        plain: Bool = (self.temperature == 1) & (self.top_p == 1) & (self.min_p == 0)
        all_kept: Bool = (self.top_k == 0) | (self.top_k >= vocabulary)
        return plain & all_kept

    @classmethod
    def of(cls, parameters: SamplingParameters, rows: int) -> Self:
        """The same parameters for every row."""
        p = parameters
        values = (p.temperature, p.top_k, p.top_p, p.min_p)
        return cls(*(np.full(rows, value) for value in values))


class Drawn(NamedTuple):
    """What was drawn: a column each."""

    ids: Int64  # [B]
    log_prob: Float64  # [B], under the model itself: temperature 1, nothing left out
    sampling_log_prob: Float64  # [B], under the distribution that was drawn from
    log_weight: Float64  # [B], how much likelier the same settings make it without the mask


def ranks(values: Float64) -> Int64:
    """Each value's place in its row from the largest down, ties by id: [B, V]."""
    order = np.argsort(-values, axis=1, kind="stable")  # [B, V]; stable: ties by id
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(values.shape[1])[None, :], axis=1)
    return rank


def keep_top_k(logits: Float64, top_k: Int64) -> Float64:
    """Logits [B, V] with all but each row's k largest at -inf; k = 0 or k >= V keeps the row."""
    vocabulary = logits.shape[1]
    limit = np.where(top_k == 0, vocabulary, top_k)  # [B]
    if not (limit < vocabulary).any():
        return logits
    kept: Float64 = np.where(ranks(logits) < limit[:, None], logits, -np.inf)
    return kept


def keep_top_p(weights: Float64, top_p: Float64) -> Float64:
    """Weights [B, V] with all but the fewest largest that make up `top_p` at 0 (Holtzman et al. 2020)."""
    if (top_p >= 1).all():
        return weights
    rank = ranks(weights)
    falling = np.empty_like(weights)
    np.put_along_axis(falling, rank, weights, axis=1)  # [B, V], the largest first
    cumulative = np.cumsum(falling, axis=1)
    before = cumulative - falling  # what the larger ones make up
    needed = before < (top_p * cumulative[:, -1])[:, None]
    keep = np.take_along_axis(needed, rank, axis=1) | (rank == 0) | (top_p >= 1)[:, None]
    kept: Float64 = np.where(keep, weights, 0.0)
    return kept


def keep_min_p(weights: Float64, min_p: Float64) -> Float64:
    """Weights [B, V] with those below `min_p` times the largest at 0 (Nguyen et al. 2024)."""
    if (min_p == 0).all():
        return weights
    kept: Float64 = np.where(weights >= (min_p * weights.max(axis=1))[:, None], weights, 0.0)
    return kept


def weights_of(logits: Float64, settings: Settings) -> Float64:
    """What each id is drawn in proportion to: [B, V], the largest of a row 1; masked ids are -inf."""
    temperature = settings.temperature
    # Before the temperature, which keeps their order but for differences too small for float64.
    kept = keep_top_k(logits, settings.top_k)
    greedy = temperature == 0
    if greedy.any():
        best = np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]  # [B, V]
        kept = np.where(greedy[:, None] & ~best, -np.inf, kept)
    # The maximum goes first, so that no temperature, however small, overflows.
    centred = kept - kept.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        weights = exp(centred / np.where(greedy, 1.0, temperature)[:, None])
    return keep_min_p(keep_top_p(weights, settings.top_p), settings.min_p)


def log_partition(logits: Float64) -> Float64:
    """Log sum exp of each row: [B] from [B, V]."""
    return edges(logits).log_partition


def inverse_cdf(weights: Float64, uniform: Float64) -> Int64:
    """The id at which each row's cumulative weight, in id order, passes its uniform: [B]."""
    return passed(weights.cumsum(axis=1), uniform)


def passed(cumulative: Float64, uniform: Float64) -> Int64:
    """The first id of each row whose cumulative weight, [B, V], passes its uniform: [B]."""
    total = cumulative[:, -1]  # [B]
    # Rounding may lift it to the very total, which nothing passes: the id that reaches it is meant.
    target = np.minimum(uniform * total, np.nextafter(total, 0.0))
    drawn: Int64 = (cumulative > target[:, None]).argmax(axis=1)  # the first of them
    return drawn


class Edges(NamedTuple):
    """Plain rows, ready to be drawn from."""

    cumulative: Float64  # [B, V], of weights of which a row's largest is 1
    log_partition: Float64  # [B], log sum exp


def edges(raw: Float64) -> Edges:
    """Edges of logits, [B, V]."""
    top = raw.max(axis=1)  # [B]
    cumulative = exp(raw - top[:, None]).cumsum(axis=1)  # [B, V]
    return Edges(cumulative, top + log(cumulative[:, -1]))


def draw(
    logits: npt.NDArray[np.float32],
    settings: Settings,
    uniform: Float64,
    mask: Bool | None = None,
    remaining: Float64 | None = None,
) -> Drawn:
    """Draw one id a row.

    Args:
        logits: [B, V], raw.
        settings: of every row.
        uniform: [B], in [0, 1).
        mask: [B, V], the ids that may be drawn, at least one a row; None for all.
        remaining: [B, V], the share of each id's mass that is still to be had; None for all of it. A row
            in which nothing remains gets the id -1.
    """
    raw = logits.astype(np.float64)  # [B, V]
    weights = free = weights_of(raw, settings)
    if mask is not None:
        weights = weights_of(np.where(mask, raw, -np.inf), settings)
    left = weights if remaining is None else weights * remaining
    ids = inverse_cdf(left, uniform)
    log_prob = _at(raw, ids) - log_partition(raw)
    bounded = np.zeros(len(raw), np.bool_) if mask is None else ~mask.all(axis=1)
    # To the last bit what it is where all rows are plain.
    sampling_log_prob = np.where(
        settings.are_plain(raw.shape[1]) & ~bounded, log_prob, _log_share(weights, ids)
    )
    log_weight = np.zeros(len(raw))
    if mask is not None:
        with np.errstate(invalid="ignore"):  # where nothing remains
            log_weight[bounded] = (_log_share(free, ids) - sampling_log_prob)[bounded]
    if remaining is not None:
        ids = np.where(left.any(axis=1), ids, -1)
    return Drawn(ids, log_prob, sampling_log_prob, log_weight)


def _log_share(weights: Float64, ids: Int64) -> Float64:
    with np.errstate(divide="ignore"):
        share: Float64 = np.log(_at(weights, ids) / weights.cumsum(axis=1)[:, -1])
    return share


def _at(values: Float64, ids: Int64) -> Float64:
    """Each row's value at its id: [B]."""
    chosen: Float64 = values[np.arange(len(ids)), ids]
    return chosen
