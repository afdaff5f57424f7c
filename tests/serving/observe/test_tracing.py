"""Calls are spans, inside their callers' traces."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.config import ServerConfig
from serving.errors import InvalidArgument
from serving.observe import tracing
from serving.observe.config import ObserveConfig
from serving.observe.tracing import Tracing
from serving.server import Server
from serving.testing import running
from tests.conftest import COMMITTED

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GENERATE = "makemore.v1.GenerationService/Generate"
Metadata = Sequence[tuple[str, str]]


def spans_of(
    monkeypatch: pytest.MonkeyPatch, request: pb.GenerateRequest, metadata: Metadata = ()
) -> list[ReadableSpan]:
    """What a server that ends after one call has exported."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "OTLPSpanExporter", lambda: exporter)
    config = ServerConfig(COMMITTED, "127.0.0.1:0", observe=ObserveConfig(trace=True))
    with running(config) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = GenerationServiceStub(channel)
        stub.Generate.future(request, metadata=metadata).exception()
    return list(exporter.get_finished_spans())


def test_a_call_is_a_span_inside_its_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine"))
    (span,) = spans_of(monkeypatch, pb.GenerateRequest(n=2), metadata)
    assert (span.name, span.kind) == (GENERATE, SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.resource.attributes["service.name"] == "makemore"
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.45.0"
    varying = {"makemore.characters": 0, "network.peer.port": 0}
    assert all(isinstance((span.attributes or {})[name], int) for name in varying)
    assert dict(span.attributes or {}) | varying == {
        "rpc.system.name": "grpc",
        "rpc.method": GENERATE,
        "rpc.status_code": "OK",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 0,
        "makemore.request_id": "mine",
        "makemore.caller": "ipv4:127.0.0.1",
        "makemore.model": "models/names@2",
        "makemore.samples": 2,
        "makemore.characters": 0,
    }


def test_a_callers_mistake_is_told_and_is_no_error_of_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (span,) = spans_of(monkeypatch, pb.GenerateRequest(n=-1))
    attributes = dict(span.attributes or {})
    assert attributes["rpc.status_code"] == "INVALID_ARGUMENT"
    assert "error.type" not in attributes
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None


def test_an_error_of_the_servers_is_an_error_of_the_span() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracing(exporter)
    tracer.end(tracer.begin("a/B", [("traceparent", "nonsense")], "x", ""), "INTERNAL", {})
    tracer.stop()
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "INTERNAL"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:10.1.2.3:5678", {"network.peer.address": "10.1.2.3", "network.peer.port": 5678}),
        (
            "ipv6:%5B2001:db8::1%5D:5678",
            {"network.peer.address": "2001:db8::1", "network.peer.port": 5678},
        ),
        ("ipv6:[::1]:5678", {"network.peer.address": "::1", "network.peer.port": 5678}),
        ("unix:/run/client", {"network.peer.address": "/run/client"}),
        ("unix:", {}),
        ("", {}),
    ],
)
def test_the_other_end_of_a_connection_is_told(peer: str, expected: dict[str, Any]) -> None:
    assert tracing.peer_attributes(peer) == expected


def test_the_name_of_the_service_can_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "names")
    exporter = InMemorySpanExporter()
    tracer = Tracing(exporter)
    tracer.end(tracer.begin("a/B", [], "x", ""), "OK", {})
    tracer.stop()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "names"


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serving.observe.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.delattr("serving.observe.tracing", raising=False)

    async def start() -> None:
        Server(ServerConfig(COMMITTED, "127.0.0.1:0", observe=ObserveConfig(trace=True)))

    with pytest.raises(InvalidArgument, match=r"pip install 'makemore\[otel\]'"):
        asyncio.run(start())
