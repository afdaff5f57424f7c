"""Calls as spans of OpenTelemetry, which knows by its own environment variables where they go.

The only file that knows OpenTelemetry; it is imported where tracing is asked for. Names of attributes are
those of OpenTelemetry's conventions for gRPC.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

OURS: Final = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"}
"""Codes that tell of a server's fault and not of its caller's."""

LAST_WORD: Final = 2.0
"""Seconds that the last spans have, lest a collector that is gone hold up the end."""

_NUMBERS: Final = {code.name: code.value[0] for code in grpc.StatusCode}
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
        self._tracer = self._provider.get_tracer("makemore")

    def begin(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str
    ) -> Span:
        """A call begins, inside the trace that its caller's `traceparent` tells.

        Args:
            method: `makemore.v1.GenerationService/Generate`.
            metadata: of the call.
            request_id: by which the log knows it.
        """
        service, _, name = method.rpartition("/")
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        parent: Context = _PARENT.extract(carrier)
        return self._tracer.start_span(
            method,
            parent,
            SpanKind.SERVER,
            {
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "makemore.request_id": request_id,
            },
        )

    @staticmethod
    def end(span: Span, code: str, notes: Mapping[str, Any]) -> None:
        """The call has ended with a canonical code; `notes` is what was found worth telling."""
        span.set_attribute("rpc.grpc.status_code", _NUMBERS[code])
        span.set_attributes({f"makemore.{key}": value for key, value in notes.items()})
        if code in OURS:
            span.set_status(StatusCode.ERROR, code)
        span.end()

    def stop(self) -> None:
        """Export what is left, if somebody takes it, and no more."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(LAST_WORD)
