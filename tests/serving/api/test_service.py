"""The service as callers have it: over gRPC, with models that were trained and exported."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1 import model_service_pb2 as model_pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from makemore.v1.model_service_pb2_grpc import ModelServiceStub
from serving.client import Client
from serving.config import ServerConfig
from serving.engine import admission
from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters
from serving.engine.stepping import States, StepSession
from serving.errors import DeadlineExceeded, Exhausted, InvalidArgument, NotFound
from serving.host import Host
from serving.repository import load_version
from serving.testing import running
from tests.serving.process import wait_until
from trainer.models import MODELS


def test_a_prefix_and_a_number_are_a_complete_request(client: Client) -> None:
    response = client.generate("em", 10)
    assert len(response.samples) == 10
    assert all(sample.text.startswith("em") for sample in response.samples)
    assert [sample.index for sample in response.samples] == list(range(10))
    assert all(sample.finish_reason != pb.FINISH_REASON_UNSPECIFIED for sample in response.samples)
    assert all(sample.HasField("log_prob") and sample.log_prob <= 0 for sample in response.samples)
    assert response.model == "models/lstm@1"


def timeless(response: pb.GenerateResponse) -> pb.GenerateResponse:
    """Without what it took."""
    response.ClearField("usage")
    return response


def test_an_empty_request_makes_one_string(client: Client) -> None:
    assert len(client.generate(n=0).samples) == 1


def test_the_seed_used_makes_the_same_strings_again(client: Client) -> None:
    first = client.generate("a", 20)
    assert timeless(client.generate("a", 20, seed=first.seed)) == timeless(first)
    assert client.generate("a", 20).seed != first.seed


def test_the_answer_is_that_of_the_plain_sampler(client: Client, repository: Path) -> None:
    session = load_version(repository / "lstm" / "1").session
    found = client.generate("jo", 30, seed=7, temperature=0.5, top_k=5, max_length=6).samples
    ids = session.manifest.vocabulary.encode("jo")
    wanted = generate(session, ids, 30, SamplingParameters(0.5, 5, 7), 6)
    assert [sample.text for sample in found] == [sample.text for sample in wanted]
    assert [sample.log_prob for sample in found] == pytest.approx([s.log_prob for s in wanted])
    assert max(len(sample.text) for sample in found) <= 6


def test_temperature_zero_makes_the_same_string_for_every_seed(client: Client) -> None:
    texts = {
        s.text for seed in range(3) for s in client.generate(n=5, temperature=0, seed=seed).samples
    }
    assert len(texts) == 1


def test_64_concurrent_callers_get_what_each_gets_alone(client: Client, address: str) -> None:
    chance = random.Random(3)
    calls = [
        {
            "prefix": chance.choice(["", "a", "jo", "mar"]),
            "n": chance.randint(1, 40),
            "seed": chance.getrandbits(64),
            "temperature": chance.choice([0.5, 1.0, 1.5]),
            "model": chance.choice(["lstm", "bigram"]),
        }
        for _ in range(64)
    ]
    alone = [client.generate(**call) for call in calls]  # type: ignore[arg-type]
    together = threading.Barrier(64)

    def ask(call: dict[str, object]) -> pb.GenerateResponse:
        with Client(address) as own:
            together.wait(30)
            while True:
                try:
                    return own.generate(**call)  # type: ignore[arg-type]
                except Exhausted as refused:  # by a server that a busy machine leaves little time
                    time.sleep(refused.retry_after)

    with ThreadPoolExecutor(64) as pool:
        amid_others = list(pool.map(ask, calls))
    for one, other in zip(alone, amid_others, strict=True):
        assert [s.text for s in one.samples] == [s.text for s in other.samples]
        assert timeless(one) == timeless(other)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"prefix": "em?"}, "prefix"),
        ({"prefix": "e" * 100}, "prefix"),
        ({"n": 1001}, "n"),
        ({"n": -1}, "n"),
        ({"temperature": float("nan")}, "sampling.temperature"),
        ({"top_k": -1}, "sampling.top_k"),
        ({"max_length": 100}, "constraints.max_length"),
    ],
)
def test_a_bad_argument_is_told_by_its_field(
    client: Client, asked: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.generate(**asked)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_an_unknown_character_is_told_with_its_position(client: Client) -> None:
    with pytest.raises(InvalidArgument, match=r"'\?' .* at position 2"):
        client.generate("em?")


@pytest.mark.parametrize("model", ["nothing", "lstm@2", "models/lstm@x"])
def test_a_model_that_is_not_there_is_not_found(client: Client, model: str) -> None:
    with pytest.raises(NotFound):
        client.generate(model=model)
    with pytest.raises(NotFound):
        client.get_model(model)


def test_a_call_out_of_time_ends_and_the_next_is_answered(address: str) -> None:
    with Client(address, timeout=0.001) as hurried, pytest.raises(DeadlineExceeded):
        hurried.generate(n=1000)
    with Client(address) as client:
        assert client.generate(n=1).samples


class Slow:
    """A session whose steps take their time."""

    def __init__(self, session: StepSession) -> None:
        self.manifest, self.arithmetic = session.manifest, session.arithmetic
        self._step = session.step

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        time.sleep(0.005)
        return self._step(token, states)

    advance = step


def test_a_cancelled_call_frees_its_rows(repository: Path) -> None:
    """1,000 strings through 2 rows would take over 1,000 turns."""
    with running(ServerConfig(repository, "127.0.0.1:0", "lstm", max_rows=2)) as server:
        _, engine = server.host.find("lstm")
        engine.session = Slow(engine.session)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = GenerationServiceStub(channel).Generate.future(pb.GenerateRequest(n=1000))
            wait_until(lambda: sum(engine.figures().rows) > 0)
            assert call.cancel()
            wait_until(lambda: sum(engine.figures().rows) == 0)
        assert engine.beats < 500


def test_bytes_that_are_no_message_are_an_invalid_argument(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/makemore.v1.GenerationService/Generate")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\x0a\xff\xff", timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_health_is_serving_for_the_server_its_services_and_its_models(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in (
            "",
            "makemore.v1.GenerationService",
            "makemore.v1.ModelService",
            "models/lstm",
            "models/bigram@1",
        ):
            request = health_pb2.HealthCheckRequest(service=service)
            assert stub.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_a_client_that_knows_reflection_alone_can_generate(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="makemore.v1.GenerationService"
        )
        answer = next(iter(stub.ServerReflectionInfo(iter([asked]))))
        pool = descriptor_pool.DescriptorPool()
        for content in reversed(answer.file_descriptor_response.file_descriptor_proto):
            pool.Add(descriptor_pb2.FileDescriptorProto.FromString(content))
        method = pool.FindServiceByName("makemore.v1.GenerationService").methods_by_name["Generate"]
        request = message_factory.GetMessageClass(method.input_type)()
        json_format.ParseDict({"prefix": "em", "n": 3, "model": "lstm"}, request)
        generate_: Any = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        assert len(generate_(request, timeout=10).samples) == 3


def test_models_are_told_as_their_manifests_have_them(client: Client, repository: Path) -> None:
    manifest = load_version(repository / "lstm" / "1").manifest
    model = client.get_model("lstm")
    assert (model.name, model.version, model.architecture) == ("models/lstm@1", 1, "lstm")
    assert tuple(model.alphabet) == manifest.alphabet
    assert model.max_length == manifest.max_length
    assert model.metrics["dev"].nll == manifest.metrics["dev"]["nll"]
    assert model.recommended.temperature == 1.0
    assert model in list(client.list_models())


def test_pages_of_models_come_one_after_the_other(address: str) -> None:
    names, token = [], ""
    with grpc.insecure_channel(address) as channel:
        stub = ModelServiceStub(channel)
        for _ in range(9):
            page = stub.ListModels(model_pb.ListModelsRequest(page_size=3, page_token=token))
            names += [model.name for model in page.models]
            token = page.next_page_token
            if not token:
                break
        bads: list[dict[str, Any]] = [{"page_size": -1}, {"page_token": "no such"}]
        for bad in bads:
            with pytest.raises(grpc.RpcError) as caught:
                stub.ListModels(model_pb.ListModelsRequest(**bad))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert names == [f"models/{name}@1" for name in sorted(MODELS)]


def test_an_exception_of_ours_does_not_reach_the_caller(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Host, asked: str) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(Host, "find", fail)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        GenerationServiceStub(channel).Generate(pb.GenerateRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


def test_a_call_too_many_is_refused_with_the_time_to_come_back(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_JOBS", (1, 1))
    with running(ServerConfig(repository, "127.0.0.1:0", max_rows=2)) as server:
        address = f"127.0.0.1:{server.port}"
        with grpc.insecure_channel(address) as channel, Client(address) as client:
            first = GenerationServiceStub(channel).StreamGenerate(
                pb.StreamGenerateRequest(request=pb.GenerateRequest(model="lstm", n=100_000))
            )
            next(first)
            with pytest.raises(Exhausted, match="1 calls of its kind are under way") as caught:
                client.generate(n=1000, model="lstm")
            assert caught.value.retry_after >= admission.SHORTEST
            assert client.generate(model="lstm").samples
            first.cancel()
            wait_until(lambda: not server.host.find("lstm")[1].admission.pressure)
            assert client.generate(n=1000, model="lstm").samples
