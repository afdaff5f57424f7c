"""No call can name a file, a folder or an address: nothing that a caller sends is ever opened."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from makemore.v1 import generation_service_pb2, model_service_pb2

SUSPICIOUS = ("path", "file", "folder", "dir", "uri", "url", "location", "address", "host")
METHODS = [
    method
    for pb in (generation_service_pb2, model_service_pb2)
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def fields(message: Descriptor, seen: set[str] | None = None) -> Iterator[FieldDescriptor]:
    """Every field that a message can hold, however deep."""
    seen = set() if seen is None else seen
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from fields(field.message_type, seen)


def test_there_are_methods_to_look_at() -> None:
    assert len(METHODS) >= 7
    assert sum(1 for method in METHODS for _ in fields(method.input_type)) > 40


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_request_has_a_path(method: "object") -> None:
    for field in fields(method.input_type):  # type: ignore[attr-defined]
        assert not any(word in field.name for word in SUSPICIOUS), field.full_name
        assert field.type != FieldDescriptor.TYPE_BYTES, field.full_name
