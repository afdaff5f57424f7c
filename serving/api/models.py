"""The methods of ModelService: messages in, messages out."""

from typing import Any

import grpc

from makemore.v1 import model_service_pb2 as model_pb
from makemore.v1 import model_service_pb2_grpc as model_grpc
from serving.catalogue import NAME, VERSION
from serving.errors import InvalidArgument
from serving.host import Host
from serving.manifest import PARTS
from serving.repository import Model

MAX_PAGE = 100

Context = grpc.aio.ServicerContext[Any, Any]


class ModelService(model_grpc.ModelServiceServicer):
    """Tells which models there are."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def GetModel(  # noqa: D102
        self, request: model_pb.GetModelRequest, context: Context
    ) -> model_pb.GetModelResponse:
        model, _ = self._host.find(request.name)
        return model_pb.GetModelResponse(model=model_message(model))

    async def ListModels(  # noqa: D102
        self, request: model_pb.ListModelsRequest, context: Context
    ) -> model_pb.ListModelsResponse:
        models = self._host.models()
        if request.page_size < 0:
            raise InvalidArgument("page_size", f"must not be negative, as {request.page_size} is")
        start = page_start(request.page_token, models)
        page = models[start : start + min(request.page_size or MAX_PAGE, MAX_PAGE)]
        is_last = start + len(page) == len(models)
        return model_pb.ListModelsResponse(
            models=map(model_message, page),
            next_page_token="" if is_last else page[-1].full_name,
        )


def page_start(token: str, models: list[Model]) -> int:
    """How many models come up to and including the one that a page token names, there or gone."""
    if not token:
        return 0
    name, _, version = token.removeprefix("models/").partition("@")
    if not (NAME.fullmatch(name) and VERSION.fullmatch(version)):
        raise InvalidArgument("page_token", "is not one that ListModels gave; start anew")
    place = (name, int(version))
    return sum((model.name, model.version) <= place for model in models)


def model_message(model: Model) -> model_pb.Model:
    """A model as callers get it."""
    manifest = model.manifest
    recommended = manifest.recommended
    return model_pb.Model(
        name=model.full_name,
        version=model.version,
        digest=model.digest,
        arithmetic=model.session.arithmetic,
        aliases=model.aliases,
        architecture=manifest.architecture,
        alphabet=manifest.alphabet,
        max_length=manifest.max_length,
        metrics={
            part: model_pb.Metrics(**manifest.part_metrics(part))
            for part in PARTS
            if part in manifest.metrics
        },
        recommended=model_pb.RecommendedSampling(
            temperature=recommended.get("temperature"), top_k=recommended.get("top_k")
        ),
    )
