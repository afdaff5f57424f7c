"""The server describes its API to clients of both reflection protocols."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from serving.api.reflection import file_v1
from tests.conftest import ROOT

PROTOCOLS = ("v1", "v1alpha")
SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "makemore.v1.GenerationService",
    "makemore.v1.ModelService",
}
BUF = ROOT / ".venv" / "bin" / "buf"
Ask = pb.ServerReflectionRequest


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


def asked(channel: grpc.Channel, protocol: str, request: Ask) -> pb.ServerReflectionResponse:
    call = channel.stream_stream(
        f"/grpc.reflection.{protocol}.ServerReflection/ServerReflectionInfo",
        request_serializer=Ask.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    (response,) = call(iter([request]), timeout=30)
    return response


def pool_of(channel: grpc.Channel, protocol: str, symbol: str) -> descriptor_pool.DescriptorPool:
    """What a client knows that has asked for a symbol."""
    answer = asked(channel, protocol, Ask(file_containing_symbol=symbol))
    pool = descriptor_pool.DescriptorPool()
    for content in reversed(answer.file_descriptor_response.file_descriptor_proto):
        pool.Add(FileDescriptorProto.FromString(content))
    return pool


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_service_is_listed_and_described(channel: grpc.Channel, protocol: str) -> None:
    listed = asked(channel, protocol, Ask(list_services="")).list_services_response.service
    assert {service.name for service in listed} == SERVICES
    for service in SERVICES:
        assert pool_of(channel, protocol, service).FindServiceByName(service).methods


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("makemore.v1.GenerationService.Generate", "makemore/v1/generation_service.proto"),
        ("makemore.v1.ModelService.GetModel", "makemore/v1/model_service.proto"),
        ("grpc.health.v1.Health.Watch", "grpc_health/v1/health.proto"),
        (
            "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
            "grpc/reflection/v1/reflection.proto",
        ),
        ("makemore.v1.Sample.text", "makemore/v1/generation_service.proto"),
        ("makemore.v1.NOVELTY_ANY", "makemore/v1/generation_service.proto"),
        ("google.rpc.BadRequest", "google/rpc/error_details.proto"),
    ],
)
def test_methods_and_all_else_are_symbols(
    channel: grpc.Channel, protocol: str, symbol: str, file: str
) -> None:
    answer = asked(channel, protocol, Ask(file_containing_symbol=symbol))
    contents = answer.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(contents[0]).name == file


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "request_",
    [
        Ask(file_containing_symbol="makemore.v1.GenerationService.Nothing"),
        Ask(file_containing_symbol="makemore.v1"),
        Ask(file_containing_symbol=""),
        Ask(file_containing_symbol="."),
        Ask(file_by_filename="makemore/onnx/v1/onnx.proto"),
        Ask(all_extension_numbers_of_type="nothing"),
    ],
)
def test_what_is_not_part_of_the_api_is_not_found(
    channel: grpc.Channel, protocol: str, request_: Ask
) -> None:
    answer = asked(channel, protocol, request_)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_file_of_v1_is_that_of_v1alpha_in_another_package() -> None:
    file = file_v1()
    assert "v1alpha" not in str(file)
    descriptor_pool.DescriptorPool().Add(file)  # where every type that it names is found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_buf_lists_describes_and_calls_a_method(
    address: str, protocol: str, tmp_path: Path
) -> None:
    if not BUF.exists():
        pytest.skip("buf is not here")

    def curl(*arguments: str) -> str:
        command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
        command += ["--reflect-protocol", f"grpc-{protocol}", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    server = f"http://{address}"
    assert set(curl("--list-services", server).split()) == SERVICES
    assert "makemore.v1.GenerationService/Generate" in curl("--list-methods", server)
    url = f"{server}/makemore.v1.GenerationService/Generate"
    assert '"samples"' in curl("-d", '{"prefix": "em"}', url)
