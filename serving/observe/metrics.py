"""The metrics that are counted as things happen; those of the engines are in `collector`."""

from collections.abc import Callable
from functools import partial
from time import monotonic, perf_counter
from typing import Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from serving.host import Host
from serving.observe.collector import EngineCollector, LogCollector
from serving.observe.definitions import CALLS, PREFIX, SERVER

M = TypeVar("M", Counter, Gauge, Histogram)

BUCKETS: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
"""Seconds: from a single short string, alone, to a stream of 100,000."""

OTHER: Final = "unknown"
"""The method of calls that name none of ours, lest callers make as many series as they like."""

CLOSED: Final = ("unread", "excess")
"""Why connections are closed: too many bytes unread, or too many connections of one address."""


class MethodMetrics:
    """One method's calls. What is counted often is looked up by its labels once."""

    def __init__(self, calls: Counter, seconds: Histogram, method: str) -> None:
        self.in_flight = 0
        self._calls = calls
        self._method = method
        self._seconds = seconds.labels(method)
        self._codes = {"OK": calls.labels(method, "OK")}

    def begin(self) -> float:
        """A call begins; what `end` is to be given."""
        self.in_flight += 1
        return perf_counter()

    def end(self, begun: float, code: str) -> float:
        """A call has ended with a canonical code; how many seconds it took."""
        self.in_flight -= 1
        seconds = perf_counter() - begun
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._calls.labels(self._method, code)
        counter.inc()
        self._seconds.observe(seconds)
        return seconds


class Metrics:
    """A server's metrics, in a registry of their own.

    Args:
        host: has the engines.

    Attributes:
        registry: what is told to Prometheus.
        is_ready: whether calls are wanted; set by whoever knows.
    """

    def __init__(self, host: Host) -> None:
        self.registry = CollectorRegistry()
        self.is_ready = False
        self._methods: dict[str, MethodMetrics] = {}
        self._calls = self._make(Counter, "calls_total")
        self._seconds = self._make(partial(Histogram, buckets=BUCKETS), "call_seconds")
        self._in_flight = self._make(Gauge, "calls_in_flight")
        self._closed = self._make(Counter, "connections_closed_total")
        for reason in CLOSED:
            self._closed.labels(reason)
        begun = monotonic()
        self._make(Gauge, "uptime_seconds").set_function(lambda: monotonic() - begun)
        self._make(Gauge, "ready").set_function(lambda: self.is_ready)
        self._make(Gauge, "repository_refused").set_function(lambda: host.refusals)
        self._make(Gauge, "queue_pressure").set_function(lambda: host.pressure)
        self.registry.register(LogCollector())
        self.registry.register(EngineCollector(host))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        ProcessCollector("engines", lambda: host.engines.pid, registry=self.registry)

    def connection_closed(self, reason: str) -> None:
        """Count a connection that was closed, by one of CLOSED."""
        self._closed.labels(reason).inc()

    def _make(self, kind: Callable[..., M], name: str) -> M:
        about = (CALLS | SERVER)[name]
        return kind(PREFIX + name, about.help, about.labels, registry=self.registry)

    def of(self, method: str) -> MethodMetrics:
        """The metrics of a method that the server has, such as `grpc.health.v1.Health/Check`."""
        found = self._methods.get(method)
        if found is None:
            found = self._methods[method] = MethodMetrics(self._calls, self._seconds, method)
            self._in_flight.labels(method).set_function(lambda: found.in_flight)
        return found
