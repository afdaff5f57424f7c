"""A client of the service: typed, with deadlines and retries. Needs neither numpy nor onnxruntime.

with Client("127.0.0.1:50051") as client:
    for sample in client.generate("em", 10).samples:
        print(sample.text)
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import grpc

from makemore.v1 import generation_service_pb2 as generation_pb
from makemore.v1 import model_service_pb2 as model_pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from makemore.v1.model_service_pb2_grpc import ModelServiceStub
from serving import checks
from serving.errors import InvalidArgument, NoServer, Unavailable
from serving.status import error_of

TIMEOUT = 30.0
MAX_TIMEOUT = 86400.0
_LOOPBACK = re.compile(r"localhost[:]|127[.]|\[::1\]|unix:")

# Calls have no side effect, so a lost one may be sent again; CANCELLED is what a call gets that reaches
# a server just as it stops. The throttle keeps retries from burying a server that is overloaded.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": "makemore.v1.GenerationService"},
                {"service": "makemore.v1.ModelService"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

Response = TypeVar("Response")


class Client:
    """A connection to a server; a context manager.

    Args:
        address: host:port.
        timeout: seconds that a call may take, retries included; at most a day.

    Every method raises an error of serving.errors: InvalidArgument, NotFound, DeadlineExceeded,
    Unavailable, or ServingError for any other status.
    """

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        checks.real("timeout", timeout, 0.0, MAX_TIMEOUT)
        self.address = address
        self.timeout = timeout
        options: list[tuple[str, Any]] = [("grpc.service_config", json.dumps(SERVICE_CONFIG))]
        if _LOOPBACK.match(address):
            options.append(("grpc.enable_http_proxy", 0))  # no proxy leads to this machine
        self._channel = grpc.insecure_channel(address, options)
        self._generation = GenerationServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def generate(
        self,
        prefix: str = "",
        n: int = 1,
        *,
        model: str = "",
        temperature: float | None = None,
        top_k: int | None = None,
        seed: int | None = None,
        max_length: int | None = None,
    ) -> generation_pb.GenerateResponse:
        """`n` strings that begin with `prefix`; what is None is left to the model."""
        request = _built(
            lambda: generation_pb.GenerateRequest(
                prefix=prefix,
                n=n,
                model=model,
                sampling=generation_pb.Sampling(temperature=temperature, top_k=top_k, seed=seed),
                constraints=generation_pb.Constraints(max_length=max_length),
            )
        )
        return self._call(self._generation.Generate, request)

    def get_model(self, name: str = "") -> model_pb.Model:
        """One model."""
        request = _built(lambda: model_pb.GetModelRequest(name=name))
        return self._call(self._models.GetModel, request).model

    def list_models(self) -> Iterator[model_pb.Model]:
        """All models, page by page."""
        token = ""
        while True:
            request = model_pb.ListModelsRequest(page_token=token)
            response = self._call(self._models.ListModels, request)
            yield from response.models
            token = response.next_page_token
            if not token:
                return

    def _call(self, method: Callable[..., Response], request: Any) -> Response:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as call:
            error = error_of(call)  # type: ignore[arg-type]  # grpc raises the call itself
            if isinstance(error, Unavailable) and "failed to connect" in str(error):
                error = NoServer(f"no server answers at {self.address}: {error}")
            raise error from None


def _built(build: Callable[[], Response]) -> Response:
    """A message; a value that no field can hold is the caller's error, like one that is refused."""
    try:
        return build()
    except (ValueError, TypeError) as error:
        raise InvalidArgument("request", str(error)) from None
