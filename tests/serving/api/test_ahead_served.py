"""What many callers at once get from a server that draws ahead."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.client import Client
from serving.config import PROCESS, THREAD, ServerConfig
from serving.testing import running
from serving.text_files import Line
from tests.conftest import COMMITTED
from tests.serving.graphs import manifest, model_bytes, publish
from tests.serving.observe.asking import Scrape, observed

PLAIN = pb.GenerateRequest(n=1)


async def asked_at_once(address: str, calls: int) -> list[pb.GenerateResponse]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = GenerationServiceStub(channel)

        async def caller() -> list[pb.GenerateResponse]:
            return [await stub.Generate(PLAIN) for _ in range(calls // 32)]

        found = await asyncio.gather(*(caller() for _ in range(32)))
    return [response for responses in found for response in responses]


@pytest.mark.parametrize("engines", [THREAD, PROCESS])
def test_answers_made_ahead_are_those_of_their_seeds(engines: str) -> None:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0", "names", engines=engines)) as server:
        address = f"127.0.0.1:{server.port}"
        responses = asyncio.run(asked_at_once(address, 1600))
        (engine,) = server.host.running()
        assert engine.admission.spared > 200
        assert len({response.seed for response in responses}) == len(responses)
        assert max(response.seed for response in responses) < 2**53
        with Client(address) as client:
            for response in responses[::20]:
                alone = client.generate(n=1, seed=response.seed)
                for one in (alone, response):
                    one.usage.ClearField("queue_time")
                    one.usage.ClearField("compute_time")
                assert response == alone


def test_answers_made_ahead_have_nothing_that_the_server_forbids() -> None:
    config = ServerConfig(
        COMMITTED, "127.0.0.1:0", "names", forbidden=(Line(1, "a"), Line(2, "in"))
    )
    with running(config) as server:
        responses = asyncio.run(asked_at_once(f"127.0.0.1:{server.port}", 800))
        (engine,) = server.host.running()
        assert engine.admission.spared > 0
    texts = {response.samples[0].text for response in responses}
    assert len(texts) > 100
    assert not any("a" in text or "in" in text for text in texts)


def test_answers_made_ahead_are_of_the_version_that_is_served(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    config = ServerConfig(tmp_path, "127.0.0.1:0", engines=PROCESS, reload_interval=0)
    with running(config) as server:
        address = f"127.0.0.1:{server.port}"
        for version in (1, 2):
            publish(tmp_path, model_bytes(manifest(max_length=4 + version)), version=version + 1)
            responses = asyncio.run(asked_at_once(address, 800))
            assert {response.model for response in responses} == {f"models/good@{version}"}
            _, engine = server.host.find("")
            assert engine.admission.spared > 0
            server.host.reload()


def test_answers_made_ahead_are_counted() -> None:
    with observed() as (server, address):
        asyncio.run(asked_at_once(f"127.0.0.1:{server.port}", 800))
        (engine,) = server.host.running()
        assert engine.admission.spared > 0
        told = Scrape(address).total("makemore_calls_spared_total", model="names")
        assert told == engine.admission.spared
