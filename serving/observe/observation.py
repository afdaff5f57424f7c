"""All that is seen of one server, put together."""

import logging
from typing import TYPE_CHECKING

from serving.errors import InvalidArgument
from serving.host import Host
from serving.observe.calls import Observing
from serving.observe.config import ObserveConfig
from serving.observe.endpoint import Endpoint
from serving.observe.metrics import Metrics
from serving.observe.pulse import Pulse

if TYPE_CHECKING:
    from serving.observe.tracing import Tracing

log = logging.getLogger(__name__)


class Observation:
    """What one server counts, and where it tells it. `start` binds that address, if there is one.

    Args:
        config: what is told, and where.
        host: has the engines.

    Attributes:
        metrics: what is counted.
        layer: counts calls; to be the outermost.
        endpoint: where it is told; None for nowhere.
        tracing: makes spans of calls; None for none.

    Raises:
        InvalidArgument: tracing is asked for, and OpenTelemetry is not installed.
    """

    def __init__(self, config: ObserveConfig, host: Host) -> None:
        self.metrics = Metrics(host)
        self.tracing = tracing() if config.trace else None
        self.layer = Observing(self.metrics, is_logged=config.access_log, tracing=self.tracing)
        self.endpoint: Endpoint | None = None
        self._host = host
        self._pulse = Pulse()
        if config.metrics_listen:
            checks = {"/healthz": self.what_ails, "/readyz": self.what_lacks}
            self.endpoint = Endpoint(config.metrics_listen, self.metrics.registry, checks)

    def start(self) -> None:
        """Tell it from now on; called in the event loop. Raises Unavailable: the address cannot be bound."""
        if self.endpoint is not None:
            self._pulse.start()
            self.endpoint.start()
            log.info("metrics on http://%s/metrics", self.endpoint.address)

    def stop(self) -> None:
        """Tell nothing more, once what is known has been told."""
        self._pulse.stop()
        if self.tracing is not None:
            self.tracing.stop()
        if self.endpoint is not None:
            self.endpoint.stop()

    def set_ready(self, ready: bool) -> None:
        """Say whether calls are wanted: not before all is loaded, nor once the server is to end."""
        self.metrics.is_ready = ready

    def what_ails(self) -> str:
        """What is wrong with the event loop or an engine; empty if all is well."""
        if ill := self._pulse.what_ails():
            return ill
        for engine in self._host.running():
            if engine.failure or not engine.is_alive:
                return engine.failure or f"the engine of {engine.name} has ended"
        return ""

    def what_lacks(self) -> str:
        """Why no calls are wanted; empty if they are."""
        return self.what_ails() or ("" if self.metrics.is_ready else "starting, or about to end")


def tracing() -> "Tracing":
    """What OpenTelemetry's environment variables ask for; raises InvalidArgument where it is missing."""
    try:
        from serving.observe.tracing import Tracing
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            "trace", f"needs the package {error.name}: pip install 'makemore[otel]'"
        ) from None
    return Tracing()
