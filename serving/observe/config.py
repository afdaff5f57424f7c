"""What is to be seen of a server: checked when built."""

import logging
from dataclasses import dataclass, replace
from typing import Final, Self

from serving import addresses, checks

FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class ObserveConfig:
    """What is told, and where.

    Attributes:
        metrics_listen: host:port of /metrics, /healthz and /readyz; empty for none, port 0 for a free one.
        log_format: how a record is written: `text` for people, `json` for machines.
        log_level: the least that is logged.
        access_log: whether each call is logged when it ends.
        trace: whether calls are told to OpenTelemetry.
    """

    metrics_listen: str = ""
    log_format: str = "text"
    log_level: str = "info"
    access_log: bool = False
    trace: bool = False

    def __post_init__(self) -> None:
        if self.metrics_listen:
            addresses.split("metrics_listen", self.metrics_listen)
        checks.one_of("log_format", self.log_format, FORMATS)
        checks.one_of("log_level", self.log_level, LEVELS)

    @property
    def level(self) -> int:
        """`log_level` as logging has it."""
        return logging.getLevelNamesMapping()[self.log_level.upper()]

    def of_worker(self, place: int) -> Self:
        """The same for one of several processes, counted from 0; raises InvalidArgument."""
        if not self.metrics_listen:
            return self
        host, port = addresses.split("metrics_listen", self.metrics_listen)
        return replace(self, metrics_listen=addresses.joined(host, port + place if port else 0))
