"""What servers tell of themselves, read from their /metrics."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from socket import SHUT_RDWR, socket
from typing import Self

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serving import addresses
from serving.errors import NoServer, Unavailable
from serving.quoting import printable

Labels = frozenset[tuple[str, str]]
MOST = 16 * 2**20
"""Bytes that are read of a page at most."""
LARGEST = 1e30
"""What a value may be; far more than ours are, and so little that sums of them are numbers."""
MOMENT = 1e-6
"""Seconds that pass between two looks at least, lest rates be divided by nothing."""


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
        """What a page tells; raises ValueError for what is no page of metrics of ours."""
        return cls(
            at,
            {
                (sample.name, frozenset((k, printable(v)) for k, v in sample.labels.items())): (
                    value_of(sample)
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
        return type(self)(max(self.at - before.at, MOMENT), grown)

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


def value_of(sample: Sample) -> float:
    """Its value; raises ValueError if it is none of ours, which are numbers, and histograms' have bounds."""
    if not 0 <= sample.value <= LARGEST:
        raise ValueError(f"{sample.name} is {sample.value}")
    if sample.name.endswith("_bucket") and math.isnan(float(sample.labels.get("le", ""))):
        raise ValueError(f"{sample.name} has a bound that is no number")
    return sample.value


def look_at(address: str, timeout: float) -> Look:
    """What the server with its metrics at an address tells; it has so many seconds in all.

    Raises:
        NoServer: nothing answers there, or not in time.
        Unavailable: what answers is not ours.
    """
    host, port = addresses.split("metrics", address)
    url = f"http://{addresses.joined(host, port)}/metrics"
    try:
        page = fetched(host, port, timeout)
    except (OSError, HTTPException) as error:
        reason = printable(str(error))
        raise NoServer(
            f"no metrics at {address}: {reason}; start the server with --metrics-listen {address}"
        ) from None
    try:
        look = Look.parse(page.decode(), time.monotonic())
    except ValueError:
        look = Look(0.0, {})
    if not (look.by("makemore_ready") and look.by("makemore_uptime_seconds")):
        raise Unavailable(f"{url} is not of a makemore server")
    return look


def fetched(host: str, port: int, timeout: float) -> bytes:
    """The page /metrics.

    Raises:
        OSError, HTTPException: it does not come, or not in time.
        Unavailable: another page comes, or half of one.
    """
    url = f"http://{addresses.joined(host, port)}/metrics"
    end = time.monotonic() + timeout
    with closing(HTTPConnection(host, port, timeout=timeout)) as connection:
        connection.connect()
        with limited(connection.sock, end - time.monotonic()):
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            answer = connection.getresponse()
            page = answer.read(MOST)
        if answer.status != 200:
            raise Unavailable(f"{url} answers with status {answer.status}")
        if answer.length:
            raise Unavailable(f"{url} ends before its end")
        return page


@contextmanager
def limited(sock: socket, seconds: float) -> Iterator[None]:
    """Hang up after so long, since a time-out of the socket begins anew with each byte; then TimeoutError."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with suppress(OSError):
            sock.shutdown(SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError("timed out")
