"""Requests that nobody would send: whatever is in any field of any method, the status is a documented one."""

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from makemore.v1 import generation_service_pb2, model_service_pb2
from serving.client import Client
from serving.config import ServerConfig
from serving.testing import running
from tests.fault.figures import record

METHODS: list[MethodDescriptor] = [
    method
    for file, service in (
        (generation_service_pb2, "GenerationService"),
        (model_service_pb2, "ModelService"),
    )
    for method in file.DESCRIPTOR.services_by_name[service].methods
]
DOCUMENTED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
}
HALF, HALF_OF_A_PAIR = "\ue000".encode(), b"\xed\xa0\x80"
"""A character of three bytes, and the three bytes that stand in its place: half a surrogate pair, which
no library would write."""

ODD_TEXTS = [
    "\0",
    "\u202eolleh",  # right to left
    "\u200d\ufeff\u0301",  # a joiner, a byte order mark, an accent on nothing
    "e\u0301",
    "\U0001f9d1\u200d\U0001f680",
    "\uffff",
    "\ue000",
    "a" * 257,
    "(a|b)*a(a|b){14}",
    "[" * 300,
    "(?P<x>a)(?P=x)",
    "(){3000000}",
    ".{0,100000}",
    "models/lstm@1",
    "lstm@18446744073709551616",
    "../../etc/passwd",
]
TEXTS = (
    st.text(max_size=5)
    | st.text("abcdefghijklmnop", max_size=4)
    | st.sampled_from([*ODD_TEXTS, "", "lstm", "gru"])
)
LONG = st.sampled_from(["a" * 2**20, "\u202e" * 300_000])
FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e-45, 3.4e38])
FLAGS = st.booleans()


def whole_numbers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.sampled_from([low, -1, 0, 1, 2, 1000, 2**31 - 1, high]).filter(
        lambda value: low <= value <= high
    ) | st.integers(low, high)


KINDS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: TEXTS | LONG,
    FieldDescriptor.CPPTYPE_FLOAT: FLOATS,
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: FLAGS,
    FieldDescriptor.CPPTYPE_INT32: whole_numbers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: whole_numbers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: whole_numbers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: whole_numbers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: whole_numbers(-(2**31), 2**31 - 1),
}


@st.composite
def messages(draw: st.DrawFn, descriptor: Any) -> Message:
    """A message with anything in some of its fields; half of the time without what is too long."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.integers(0, 2)):
            continue
        if field.message_type is not None:
            values: st.SearchStrategy[Any] = messages(field.message_type)
        else:
            values = KINDS[field.cpp_type]
            if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and draw(st.integers(0, 20)):
                values = TEXTS
        put(
            message,
            field,
            draw(st.lists(values, max_size=3)) if field.is_repeated else draw(values),
        )
    return message


def put(message: Any, field: FieldDescriptor, value: Any) -> None:
    if field.message_type is None:
        (getattr(message, field.name).extend if field.is_repeated else assign(message, field))(
            value
        )
    elif field.is_repeated:
        getattr(message, field.name).extend(value)
    else:
        getattr(message, field.name).CopyFrom(value)


def assign(message: Any, field: FieldDescriptor) -> Any:
    return lambda value: setattr(message, field.name, value)


@st.composite
def calls(draw: st.DrawFn) -> tuple[MethodDescriptor, bytes]:
    """A method, and the bytes of a request: a message's, with halves of surrogate pairs, or any bytes."""
    method = draw(st.sampled_from(METHODS))
    if draw(st.integers(0, 30)) == 0:
        return method, draw(st.binary(max_size=200))
    message = draw(messages(method.input_type))
    return method, message.SerializeToString().replace(HALF, HALF_OF_A_PAIR)


def status_of(channel: grpc.Channel, method: MethodDescriptor, content: bytes) -> str:
    """The name of the status that a call ends with."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.server_streaming:
            for _ in channel.unary_stream(path)(content, timeout=1.0):  # type: ignore[arg-type]
                pass
        else:
            channel.unary_unary(path)(content, timeout=1.0)  # type: ignore[arg-type]
    except grpc.RpcError as error:
        call: Any = error
        return f"{call.code().name}: {call.details()}"
    return "OK"


def ask(repository: Path, count: int) -> dict[str, int]:
    """Make so many calls; how often each status came."""
    found: dict[str, int] = {}
    with running(ServerConfig(repository, "127.0.0.1:0", "lstm")) as server:
        address = f"127.0.0.1:{server.port}"
        options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(address, options) as channel, Client(address) as client:

            @settings(
                max_examples=count,
                deadline=None,
                database=None,
                print_blob=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(calls())
            def try_out(call: tuple[MethodDescriptor, bytes]) -> None:
                status = status_of(channel, *call)
                code = status.partition(":")[0]
                found[code] = found.get(code, 0) + 1
                assert code in DOCUMENTED, (status, call[0].name, call[1][:500])

            try_out()
            assert client.generate(n=3, model="lstm").samples, "it serves on"
    return found


def test_any_request_has_a_documented_status(repository: Path) -> None:
    found = ask(repository, int(os.environ.get("REQUESTS", "150")))
    assert found["OK"] > 10
    assert found["INVALID_ARGUMENT"] > 10


@pytest.mark.fault
def test_5000_requests_have_documented_statuses(repository: Path) -> None:
    found = ask(repository, 5000)
    assert found["OK"] > 100
    record("requests", requests=sum(found.values()), **dict(sorted(found.items())))


def test_a_method_that_fails_is_found(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector's control: an error that nobody thought of."""
    monkeypatch.setattr("serving.api.request.random_seed", lambda: 1 / 0)
    with pytest.raises(AssertionError, match="INTERNAL"):
        ask(repository, 150)
