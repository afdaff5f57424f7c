"""Which part a string belongs to: decided by the string alone.

A hash places each string at a point of [0, 1); the first share of that line is train, the next dev, the
last test. So a string stays in its part when the file is reordered or grows, and whatever the seed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from serving.errors import InvalidArgument
from serving.fingerprint import FUNCTION, fingerprint

RULE = f"the string's fingerprint ({FUNCTION}) / 2**64, cut at the shares' running sums"
PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Shares:
    """Parts of a hundred for train, dev and test, such as 80/10/10."""

    train: float = 80
    dev: float = 10
    test: float = 10

    def __post_init__(self) -> None:
        if not (all(share >= 0 for share in self) and abs(sum(self) - 100) <= 1e-9):
            raise InvalidArgument("split", f"{self} is not three shares that add up to 100")
        if self.train == 0 or self.dev == 0:
            raise InvalidArgument("split", f"{self} leaves nothing to train on or to measure with")

    def __iter__(self) -> Iterator[float]:
        return iter((self.train, self.dev, self.test))

    def __str__(self) -> str:
        return "/".join(f"{share:g}" for share in self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Shares from text like `97/3/0`."""
        try:
            train, dev, test = map(float, text.split("/"))
        except ValueError:
            raise InvalidArgument("split", f"'{text}' is not of the form 80/10/10") from None
        return cls(train, dev, test)


def point(string: str) -> float:
    """The string's place in [0, 1)."""
    return fingerprint(string) / 2**64


def assign(distinct: Iterable[str], shares: Shares) -> dict[str, str]:
    """The part of each distinct string.

    In a small file chance can leave dev or test empty though its share is not; then the train string
    nearest to that part's end of the line goes there: the last for test, then the last for dev. Such a
    string may change its part when the file grows.
    """
    first, second = shares.train / 100, (shares.train + shares.dev) / 100
    points = sorted((point(string), string) for string in distinct)
    parts = {s: "train" if p < first else "dev" if p < second else "test" for p, s in points}
    for part, share in (("test", shares.test), ("dev", shares.dev)):
        if share > 0 and part not in parts.values():
            donors = [string for _, string in points if parts[string] == "train"]
            parts |= dict.fromkeys(donors[-1:], part)
    return parts
