"""Server reflection: the server describes its own API, for clients of protocol v1 and of v1alpha.

Both protocols have the same messages but for the name of their package, and grpcio-reflection has v1alpha
alone. Everything lies in a descriptor pool of its own: in the common one the file of v1 would keep other
packages from bringing theirs.
"""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as v1alpha
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

METHOD: Final = "ServerReflectionInfo"
PACKAGE_V1ALPHA: Final = "grpc.reflection.v1alpha"
PACKAGE_V1: Final = "grpc.reflection.v1"
SERVICE_V1: Final = f"{PACKAGE_V1}.ServerReflection"


class SymbolPool:
    """A descriptor pool that finds methods by name, which protobuf's own does not.

    Args:
        files: whose content it has, and that of all files that they import.
    """

    def __init__(self, files: Iterable[FileDescriptor]) -> None:
        self._pool = DescriptorPool()
        self._names: set[str] = set()
        for file in files:
            self._add(file)
        self._pool.Add(file_v1())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def _add(self, file: FileDescriptor) -> None:
        if file.name in self._names:
            return
        self._names.add(file.name)
        for imported in file.dependencies:
            self._add(imported)
        self._pool.AddSerializedFile(file.serialized_pb)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The file that defines a symbol; raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service_name, _, method = symbol.rpartition(".")
            service = self._pool.FindServiceByName(service_name)
            if method not in service.methods_by_name:
                raise
            return service.file


def file_v1() -> FileDescriptorProto:
    """The file that defines protocol v1, made from that of v1alpha."""
    file = FileDescriptorProto.FromString(v1alpha.DESCRIPTOR.serialized_pb)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = PACKAGE_V1
    file.ClearField("options")  # packages of v1alpha in other languages
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = _renamed(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type = _renamed(method.input_type)
            method.output_type = _renamed(method.output_type)
    return file


def _renamed(type_name: str) -> str:
    return type_name.replace(f".{PACKAGE_V1ALPHA}.", f".{PACKAGE_V1}.")


def add_reflection(server: Any, services: Iterable[str], files: Iterable[FileDescriptor]) -> None:
    """Have a server describe its services in both protocols.

    Args:
        server: that is asked.
        services: their full names, without reflection itself.
        files: what defines them, and messages that are sent inside others.
    """
    reflected: Any = v1alpha.DESCRIPTOR
    servicer = reflection.aio.ReflectionServicer(
        (*services, reflection.SERVICE_NAME, SERVICE_V1),
        pool=SymbolPool([*files, reflected]),
    )
    add_v1alpha: Any = add_ServerReflectionServicer_to_server
    add_v1alpha(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=v1alpha.ServerReflectionRequest.FromString,
        response_serializer=v1alpha.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE_V1, {METHOD: handler}),)
    )
