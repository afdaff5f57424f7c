"""What servers tell of themselves, read from their /metrics."""

import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from itertools import pairwise
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from serving import addresses
from serving.errors import NoServer, Unavailable
from serving.quoting import printable

Labels = frozenset[tuple[str, str]]
MOST = 16 * 2**20
"""Bytes that are read of a page at most."""


@dataclass(frozen=True)
class Look:
    """The values of one moment, by name and labels.

    Attributes:
        at: the instant of time.monotonic().
        values: of every series.
    """

    at: float
    values: Mapping[tuple[str, Labels], float]

    @classmethod
    def parse(cls, text: str, at: float) -> Self:
        """What a page tells; raises ValueError for what is no page of metrics."""
        return cls(
            at,
            {
                (sample.name, frozenset((k, printable(v)) for k, v in sample.labels.items())): (
                    sample.value
                )
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            },
        )

    @classmethod
    def together(cls, looks: Iterable["Look"]) -> Self:
        """Of several servers: their sums."""
        values: Counter[tuple[str, Labels]] = Counter()
        looks = list(looks)
        for look in looks:
            values.update(look.values)
        return cls(max((look.at for look in looks), default=0.0), values)

    def since(self, before: "Look") -> Self:
        """What was counted between; a counter that has begun anew has counted what it tells."""
        grown = {
            key: value - before.values.get(key, 0.0)
            if value >= before.values.get(key, 0.0)
            else value
            for key, value in self.values.items()
        }
        return type(self)(self.at - before.at, grown)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series that have these labels."""
        wanted = labels.items()
        return sum(v for (n, have), v in self.values.items() if n == name and wanted <= have)

    def by(self, name: str, *labels: str, **given: str) -> dict[tuple[str, ...], float]:
        """The sums for each combination of some labels' values, in order."""
        sums: dict[tuple[str, ...], float] = {}
        for (n, have), value in self.values.items():
            if n == name and given.items() <= have:
                values = dict(have)
                key = tuple(values.get(label, "") for label in labels)
                sums[key] = sums.get(key, 0.0) + value
        return dict(sorted(sums.items()))

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Of a histogram, linear between its bounds; the last bound for what is beyond it.

        None where it has counted nothing.
        """
        counts = {float(le): n for (le,), n in self.by(f"{name}_bucket", "le", **labels).items()}
        steps = sorted(counts.items())
        if not steps or not steps[-1][1]:
            return None
        wanted = share * steps[-1][1]
        for (low, below), (high, reached) in pairwise([(0.0, 0.0), *steps]):
            if reached >= wanted and reached > below:
                if high == float("inf"):
                    return low
                return low + (high - low) * (wanted - below) / (reached - below)
        return steps[-1][0]


def look_at(address: str, timeout: float) -> Look:
    """What the server with its metrics at an address tells.

    Raises:
        NoServer: nothing answers there.
        Unavailable: what answers is not ours.
    """
    host, port = addresses.split("metrics", address)
    url = f"http://{addresses.joined(host, port)}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            page = answer.read(MOST)
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{url} answers with status {error.code}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoServer(f"nothing tells metrics at {address}: {reason}") from None
    try:
        look = Look.parse(page.decode(), time.monotonic())
    except ValueError:
        look = Look(0.0, {})
    if not look.by("makemore_ready"):
        raise Unavailable(f"{url} is not of a makemore server")
    return look
