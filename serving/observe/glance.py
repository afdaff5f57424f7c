"""The figures of running servers that a person wants to see first."""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.observe.reading import Look


@dataclass(frozen=True)
class ServerGlance:
    """One server process.

    Attributes:
        is_ready: whether it wants calls.
        uptime: seconds since its start.
        pressure: how near it is to refusing calls, 0 to 1.
        processors: how many it kept busy.
        memory: bytes that are resident.
    """

    is_ready: bool
    uptime: float
    pressure: float
    processors: float
    memory: float


@dataclass(frozen=True)
class ModelGlance:
    """One version; rates are a second, times in seconds, None where nothing was counted."""

    name: str
    architecture: str
    digest: str
    rows: float
    capacity: float
    waiting: float
    strings: float
    characters: float
    step_median: float | None
    step_high: float | None
    cached: float | None


WHOSE = ("", "engines_")
"""The processes of a server: its own, and that of its engines if they have one."""


@dataclass(frozen=True)
class MethodGlance:
    """One method's calls; `errors` by code, a second."""

    name: str
    calls: float
    in_flight: float
    median: float | None
    high: float | None
    errors: Mapping[str, float]


def server_glance(now: Look, grown: Look) -> ServerGlance:
    """A server's figures, given what it tells and what of it is new."""
    return ServerGlance(
        now.total("makemore_ready") > 0,
        now.total("makemore_uptime_seconds"),
        now.total("makemore_queue_pressure"),
        sum(grown.total(f"{whose}process_cpu_seconds_total") for whose in WHOSE) / grown.at,
        sum(now.total(f"{whose}process_resident_memory_bytes") for whose in WHOSE),
    )


def model_glances(now: Look, grown: Look) -> list[ModelGlance]:
    """The figures of each version, by name."""
    every = now.by("makemore_model_info", "model", "version", "architecture", "digest")
    found = []
    for name, version, architecture, digest in every:
        its = {"model": name, "version": version}
        hits = grown.total("makemore_prefix_cache_hits_total", **its)
        asked = hits + grown.total("makemore_prefix_cache_misses_total", **its)
        found.append(
            ModelGlance(
                f"{name}@{version}",
                architecture,
                digest,
                now.total("makemore_rows", **its),
                now.total("makemore_rows_capacity", **its),
                now.total("makemore_queue_seconds", **its),
                grown.total("makemore_samples_total", **its) / grown.at,
                grown.total("makemore_characters_total", **its) / grown.at,
                grown.quantile(0.5, "makemore_step_seconds", **its),
                grown.quantile(0.99, "makemore_step_seconds", **its),
                hits / asked if asked else None,
            )
        )
    return found


def method_glances(now: Look, grown: Look) -> list[MethodGlance]:
    """The figures of each method that was called."""
    found = []
    for (method,) in now.by("makemore_calls_total", "method"):
        codes = grown.by("makemore_calls_total", "code", method=method)
        found.append(
            MethodGlance(
                method.rpartition("/")[2],
                sum(codes.values()) / grown.at,
                now.total("makemore_calls_in_flight", method=method),
                grown.quantile(0.5, "makemore_call_seconds", method=method),
                grown.quantile(0.99, "makemore_call_seconds", method=method),
                {code: n / grown.at for (code,), n in codes.items() if n and code != "OK"},
            )
        )
    return found
