"""A client of the service: typed, with deadlines and retries. Needs neither numpy nor onnxruntime.

with Client("127.0.0.1:50051") as client:
    for sample in client.generate("em", 10).samples:
        print(sample.text)
"""

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import grpc

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1 import model_service_pb2 as model_pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from makemore.v1.model_service_pb2_grpc import ModelServiceStub
from serving import checks
from serving.addresses import check_target, is_local
from serving.api.status import error_of
from serving.credentials import Credentials, why_not_connected
from serving.errors import (
    ClientClosed,
    DeadlineExceeded,
    InvalidArgument,
    NoServer,
    ServingError,
    TooLarge,
    Unavailable,
    UnexpectedStatus,
)
from serving.limits import MAX_PREFIXES, MAX_TEXTS
from serving.options import MAX_ANSWER
from serving.proxy import DIRECT, proxy_of
from serving.requests import answers_in_chunks, build, check_size
from serving.service_config import SERVICE_CONFIG

TIMEOUT = 30.0
MAX_TIMEOUT = 86400.0
_NOT_CONNECTED = re.compile("failed to connect to all|connections to all backends failing")
_TIMED_OUT = "Deadline Exceeded"  # grpc's text for a deadline that passed on this side
_NOT_SERVING = "backend unhealthy"  # grpc's text for a server whose health says so

_OF_THE_WAY = (Unavailable, DeadlineExceeded, UnexpectedStatus)
"""Errors that may come from what lies between the client and the server."""
MAX_PAGE = 100
SCORE_BYTES = 64
"""Bytes of a score at most, without what it tells of each character."""

_SAMPLING = set(pb.Sampling.DESCRIPTOR.fields_by_name)

Response = TypeVar("Response")


class Client:
    """A connection to a server; a context manager.

    Args:
        address: host:port, or any name that grpc resolves: calls go in turn to all addresses that it has and
            that are healthy, such as `ipv4:10.0.0.1:50051,10.0.0.2:50051`.
        timeout: seconds that a call may take, retries included; at most a day.
        credentials: whom it believes and what it shows; by default it speaks without TLS.

    Every method raises an error of serving.errors: InvalidArgument, of which TooLarge is a kind, NotFound,
    FailedPrecondition, DeadlineExceeded, Exhausted, Unauthenticated, Unavailable, ClientClosed, or
    UnexpectedStatus for any other status.
    """

    def __init__(
        self, address: str, timeout: float = TIMEOUT, credentials: Credentials | None = None
    ) -> None:
        checks.real("timeout", timeout, 0.0, MAX_TIMEOUT)
        if not isinstance(address, str):
            raise InvalidArgument("address", f"must be a string, not {type(address).__name__}")
        checks.sendable("address", address)
        check_target("address", address)
        self.address = address
        self.timeout = timeout
        self._is_closed = False
        is_direct = is_local(address)  # no proxy leads to this machine
        self._proxy = "" if is_direct else proxy_of(address)
        self._options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MAX_ANSWER),
            *(DIRECT if is_direct else ()),
        ]
        self._credentials = credentials or Credentials()
        self._metadata = self._credentials.metadata(address)
        self._channel = self._credentials.channel(
            address, [*self._options, ("grpc.service_config", json.dumps(SERVICE_CONFIG))]
        )
        self._generation = GenerationServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end."""
        self._is_closed = True
        self._channel.close()

    def generate(
        self, prefix: str = "", n: int = 1, *, allow_partial: bool = False, **settings: Any
    ) -> pb.GenerateResponse:
        """`n` strings that begin with `prefix`.

        Args:
            prefix: what each string begins with.
            n: how many.
            allow_partial: take what there is when the time is up.
            settings: `model`, and any field of the messages Sampling and Constraints; what is None is left
                to the model.
        """
        request = _generate_request(prefix, n, settings, allow_partial)
        return self._call(self._generation.Generate, request)

    def stream(
        self, prefix: str = "", n: int = 1, *, start_index: int = 0, **settings: Any
    ) -> Generator[pb.StreamGenerateResponse, None, None]:
        """The messages of a stream: a header, then samples in the order of their index, then a trailer.

        Args:
            prefix: what each string begins with.
            n: how many strings, counted from index 0.
            start_index: of the first string to be sent; then `seed` is needed.
            settings: as for `generate`.
        """
        request = build(
            pb.StreamGenerateRequest,
            request=_generate_request(prefix, n, settings),
            start_index=start_index,
        )
        check_size(request)
        with self._errors():
            call = self._generation.StreamGenerate(
                request, timeout=self.timeout, metadata=self._metadata
            )
            try:
                yield from call
            finally:
                call.cancel()

    def score(
        self, texts: Iterable[str], *, model: str = "", characters: bool = False
    ) -> list[pb.TextScore]:
        """How likely each of any number of texts is."""

        def ask(texts: list[str]) -> Sequence[pb.TextScore]:
            request = build(pb.ScoreRequest, texts=texts, model=model, characters=characters)
            return self._call(self._generation.Score, request).scores

        def answer_bytes(text: str) -> int:
            # A log-probability for each character and the end, or the places of unknown ones.
            return SCORE_BYTES + (8 if characters else 3) * (len(text) + 1)

        return list(answers_in_chunks("texts", texts, MAX_TEXTS, ask, answer_bytes))

    def next_characters(
        self, prefixes: Iterable[str], *, model: str = "", top: int = 0
    ) -> list[pb.NextDistribution]:
        """What may follow each of any number of prefixes, the most likely first."""

        def ask(prefixes: list[str]) -> Sequence[pb.NextDistribution]:
            request = build(pb.NextCharactersRequest, prefixes=prefixes, model=model, top=top)
            return self._call(self._generation.NextCharacters, request).distributions

        return list(answers_in_chunks("prefixes", prefixes, MAX_PREFIXES, ask))

    def list_top_strings(
        self,
        prefix: str = "",
        n: int = 10,
        *,
        model: str = "",
        max_expansions: int | None = None,
        **constraints: Any,
    ) -> pb.ListTopStringsResponse:
        """The most likely strings; `constraints` are fields of the message Constraints."""
        request = build(
            pb.ListTopStringsRequest,
            prefix=prefix,
            n=n,
            model=model,
            max_expansions=max_expansions,
            constraints=build(pb.Constraints, **constraints),
        )
        return self._call(self._generation.ListTopStrings, request)

    def get_model(self, name: str = "") -> model_pb.Model:
        """One model."""
        request = build(model_pb.GetModelRequest, name=name)
        return self._call(self._models.GetModel, request).model

    def list_models(self) -> Iterator[model_pb.Model]:
        """All models, page by page."""
        token, page_size = "", MAX_PAGE
        while True:
            request = model_pb.ListModelsRequest(page_token=token, page_size=page_size)
            try:
                response = self._call(self._models.ListModels, request)
            except TooLarge:
                if page_size == 1:
                    raise
                page_size //= 2
                continue
            yield from response.models
            token = response.next_page_token
            if not token:
                return

    def health(self, service: str = "") -> str:
        """SERVING or NOT_SERVING: the whole server, or one service. Needs the extra `serve`."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        if self._is_closed:
            raise ClientClosed
        request = build(health_pb2.HealthCheckRequest, service=service)
        # A connection of its own: the other is not used while the server is not serving.
        with self._credentials.channel(self.address, self._options) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            response = self._call(stub.Check, request)
        status = health_pb2.HealthCheckResponse.ServingStatus
        return status.Name(response.status) if response.status in status.values() else "UNKNOWN"

    def _call(self, method: Callable[..., Response], request: Any) -> Response:
        check_size(request)
        with self._errors():
            return method(request, timeout=self.timeout, metadata=self._metadata)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What grpc raises inside is raised as an error of ours."""
        try:
            yield
        except grpc.RpcError as call:
            raise self._error(call) from None
        except ValueError:
            if not self._is_closed:
                raise
            raise ClientClosed from None

    def _error(self, call: grpc.RpcError) -> ServingError:
        if self._is_closed:
            return ClientClosed()
        error = error_of(call)  # type: ignore[arg-type]  # grpc raises the call itself
        where = self.address + (f" through the proxy {self._proxy}" if self._proxy else "")
        if isinstance(error, Unavailable):
            if _NOT_SERVING in str(error):
                return Unavailable(f"the server at {where} is not serving; try again")
            if _NOT_CONNECTED.search(str(error)):
                if why := why_not_connected(str(error)):
                    return Unavailable(f"no connection to the server at {where}: {why}; {error}")
                return NoServer(f"no server answers at {where}: {error}")
        if str(error) == _TIMED_OUT:
            error = DeadlineExceeded(f"no response within {self.timeout:g} s (timeout)")
        if self._proxy and isinstance(error, _OF_THE_WAY):
            error.args = (f"{error}; asked for {where}",)
        return error


def _generate_request(
    prefix: str, n: int, settings: Mapping[str, Any], allow_partial: bool = False
) -> pb.GenerateRequest:
    given = {name: value for name, value in settings.items() if value is not None}
    model = given.pop("model", "")
    sampling = {name: given.pop(name) for name in list(given) if name in _SAMPLING}
    return build(
        pb.GenerateRequest,
        prefix=prefix,
        n=n,
        model=model,
        sampling=build(pb.Sampling, **sampling),
        constraints=build(pb.Constraints, **given),
        allow_partial=allow_partial,
    )
