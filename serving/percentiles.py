"""How likely a model finds the held-out strings of each length, so that a score can be compared."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from serving.errors import BadModel

QUANTILES = 101
MAX_LENGTHS = 4097
MAX_LOG_PROB = 1e9
NO_TABLE = "manifest: held_out: is no table of lengths and quantiles"


@dataclass(frozen=True)
class HeldOut:
    """For some lengths, the quantiles of the log-probability of held-out strings of like length.

    Attributes:
        lengths: in characters, rising.
        quantiles: for each of them the log-probabilities at 0, 1, ... 100 per cent, not falling.
    """

    lengths: Sequence[int]
    quantiles: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if not self._is_whole():
            raise BadModel(NO_TABLE)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The table from its JSON object; raises BadModel."""
        match value:
            case {"lengths": list(lengths), "quantiles": list(quantiles)}:
                return cls(lengths, quantiles)
        raise BadModel(NO_TABLE)

    def _is_whole(self) -> bool:
        return (
            0 < len(self.lengths) == len(self.quantiles) <= MAX_LENGTHS
            and all(type(length) is int and 0 <= length < MAX_LENGTHS for length in self.lengths)
            and _is_rising(self.lengths)
            and all(
                isinstance(row, list)
                and len(row) == QUANTILES
                and all(isinstance(x, float) and abs(x) <= MAX_LOG_PROB for x in row)
                and _is_rising(row)
                for row in self.quantiles
            )
        )

    def percentile(self, length: int, log_prob: float) -> float:
        """How many in a hundred strings of like length are less likely: 0 to 100."""
        place = min(bisect_left(self.lengths, length), len(self.lengths) - 1)
        if place and length - self.lengths[place - 1] < abs(self.lengths[place] - length):
            place -= 1
        row = self.quantiles[place]
        above = bisect_right(row, log_prob)
        if above in (0, len(row)):
            return 0.0 if above == 0 else 100.0
        low, high = row[above - 1], row[above]
        return above - 1 + (log_prob - low) / (high - low)

    def to_dict(self) -> Mapping[str, Any]:
        """The JSON object that `parse` reads."""
        return {"lengths": list(self.lengths), "quantiles": [list(row) for row in self.quantiles]}


def _is_rising(values: Sequence[float]) -> bool:
    return all(a <= b for a, b in pairwise(values))
