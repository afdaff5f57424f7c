"""All that a server is asked for: our services, health and reflection."""

from typing import Any

from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from makemore.v1 import generation_service_pb2, model_service_pb2
from makemore.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from makemore.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from serving.api.health import HealthServicer
from serving.api.layers import Layers
from serving.api.models import ModelService
from serving.api.reflection import add_reflection
from serving.api.service import GenerationService
from serving.host import Host

SERVICES = tuple(
    pb.DESCRIPTOR.services_by_name[name].full_name
    for pb, name in (
        (generation_service_pb2, "GenerationService"),
        (model_service_pb2, "ModelService"),
    )
)
DESCRIBED = tuple(
    pb.DESCRIPTOR
    for pb in (generation_service_pb2, model_service_pb2, health_pb2, error_details_pb2)
)
"""Files that reflection describes; a client reads the details of a status by the last of them."""


def add_services(
    layers: Layers,
    host: Host,
    health_servicer: HealthServicer,
    ahead: int,
) -> None:
    """Have all methods answered.

    Args:
        layers: around them.
        host: has the models.
        health_servicer: answers for health.
        ahead: see GenerationService.
    """
    server: Any = layers
    add_GenerationServiceServicer_to_server(GenerationService(host, ahead), server)
    add_ModelServiceServicer_to_server(ModelService(host), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    add_reflection(server, (*SERVICES, health.SERVICE_NAME), DESCRIBED)
