"""Calls as spans of OpenTelemetry, which knows by its own environment variables where they go.

The only file that knows OpenTelemetry; it is imported where tracing is asked for. Names of attributes are
those of OpenTelemetry's semantic conventions for gRPC in the version of SCHEMA, the first in which they are
stable. They are written out here, since the oldest packages that the extra `otel` allows have others.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SCHEMA: Final = "https://opentelemetry.io/schemas/1.45.0"

OURS: Final = {
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
}
"""Codes that tell of a server's fault and not of its caller's."""

LAST_WORD: Final = 2.0
"""Seconds that the last spans have, lest a collector that is gone hold up the end."""

_PARENT: Final = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans and has them exported, many at a time, in a thread of its own.

    Args:
        exporter: takes them; by default it is OTLP over gRPC, as OTEL_EXPORTER_OTLP_* say.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        resource = Resource({SERVICE_NAME: "makemore"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("makemore", schema_url=SCHEMA)

    def begin(
        self,
        method: str,
        metadata: Iterable[tuple[str, str | bytes]],
        request_id: str,
        peer: str,
    ) -> Span:
        """A call begins, inside the trace that its caller's `traceparent` tells.

        Args:
            method: `makemore.v1.GenerationService/Generate`.
            metadata: of the call.
            request_id: by which the log knows it.
            peer: the other end of the connection, as ServicerContext.peer() gives it.
        """
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        parent: Context = _PARENT.extract(carrier)
        return self._tracer.start_span(
            method,
            parent,
            SpanKind.SERVER,
            {
                "rpc.system.name": "grpc",
                "rpc.method": method,
                **peer_attributes(peer),
                "makemore.request_id": request_id,
            },
        )

    @staticmethod
    def end(span: Span, code: str, notes: Mapping[str, Any]) -> None:
        """The call has ended with a canonical code; `notes` is what was found worth telling."""
        span.set_attribute("rpc.status_code", code)
        span.set_attributes({f"makemore.{key}": value for key, value in notes.items()})
        if code in OURS:
            span.set_attribute("error.type", code)
            span.set_status(StatusCode.ERROR, code)
        span.end()

    def stop(self) -> None:
        """Export what is left, if somebody takes it, and no more."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(LAST_WORD)


def peer_attributes(peer: str) -> dict[str, str | int]:
    """The attributes that tell the other end of a connection.

    Args:
        peer: `ipv4:10.1.2.3:5678`, `ipv6:%5B::1%5D:5678`, or `unix:` and a path, which a client seldom has.
    """
    kind, _, address = unquote(peer).partition(":")
    if kind in ("ipv4", "ipv6"):
        host, _, port = address.rpartition(":")
        return {"network.peer.address": host.strip("[]"), "network.peer.port": int(port)}
    return {"network.peer.address": address} if address else {}
