"""A server that follows its repository."""

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from makemore.v1 import model_service_pb2 as model_pb
from makemore.v1.model_service_pb2_grpc import ModelServiceStub
from serving import aliases
from serving.client import Client
from serving.config import ServerConfig
from serving.errors import NotFound
from serving.reload import Reloader
from serving.testing import running
from tests.serving.graphs import manifest, model_bytes, publish
from tests.serving.process import WORKER, children, serving, wait_until


def test_it_is_looked_at_again_whatever_happened_the_last_time() -> None:
    looks: list[int] = []
    enough = asyncio.Event()

    async def fail() -> None:
        looks.append(len(looks))
        if len(looks) == 3:
            enough.set()
        raise OSError("gone")

    async def scenario() -> None:
        task = asyncio.create_task(Reloader(0.001, fail).run())
        await enough.wait()
        task.cancel()

    asyncio.run(scenario())


def test_without_an_interval_it_is_looked_at_when_it_is_asked_for_alone() -> None:
    looked = asyncio.Event()

    async def look() -> None:
        looked.set()

    async def scenario() -> None:
        reloader = Reloader(0, look)
        task = asyncio.create_task(reloader.run())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not looked.is_set()
        reloader.ask()
        await looked.wait()
        task.cancel()

    asyncio.run(scenario())


def version_of(client: Client, name: str = "") -> int:
    return client.get_model(name).version


def test_a_signal_reloads_at_once_and_a_removed_version_is_not_found(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    with (
        serving(tmp_path, "--reload-interval", "0") as (process, address),
        Client(address) as client,
    ):
        publish(tmp_path, model_bytes(manifest(max_length=5)), version=2)
        shutil.rmtree(tmp_path / "good" / "1")
        assert version_of(client) == 1
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: version_of(client) == 2)
        with pytest.raises(NotFound, match="no version 1; it has: 2"):
            client.generate(model="good@1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_every_worker_reloads_at_a_signal(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    flags = ("--reload-interval", "0", "--workers", "2")
    with serving(tmp_path, *flags) as (process, address):
        workers = children(process.pid, WORKER)
        publish(tmp_path, model_bytes(), version=2)
        process.send_signal(signal.SIGHUP)
        clients = [Client(address) for _ in range(8)]  # the kernel gives each to either
        wait_until(lambda: all(version_of(client) == 2 for client in clients))
        for client in clients:
            client.close()
        assert children(process.pid, WORKER) == workers
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_callers_see_aliases_and_what_they_mean_now(tmp_path: Path) -> None:
    for version in (1, 2):
        publish(tmp_path, model_bytes(), version=version)
    with (
        running(ServerConfig(tmp_path, "127.0.0.1:0", reload_interval=0.01)) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        aliases.write(tmp_path / "good", "stable", 1)
        aliases.write(tmp_path / "good", "old", 1)
        wait_until(lambda: list(client.get_model("good@1").aliases) == ["old", "stable"])
        assert client.generate(model="models/good@stable").model == "models/good@1"
        assert [list(m.aliases) for m in client.list_models()] == [["old", "stable"], []]
        aliases.write(tmp_path / "good", "stable", 2)
        wait_until(lambda: client.generate(model="good@stable").model == "models/good@2")


def test_health_follows_the_models(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    publish(tmp_path, model_bytes(manifest("other")), "other")
    with (
        running(ServerConfig(tmp_path, "127.0.0.1:0", reload_interval=0.01)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)

        def is_serving(name: str) -> bool:
            try:
                status = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
            except grpc.RpcError as error:
                call: Any = error
                assert call.code() == grpc.StatusCode.NOT_FOUND
                return False
            return bool(status == health_pb2.HealthCheckResponse.SERVING)

        assert is_serving("models/other@1")
        shutil.rmtree(tmp_path / "other")
        wait_until(lambda: not (is_serving("models/other") or is_serving("models/other@1")))
        aliases.write(tmp_path / "good", "stable", 1)
        wait_until(lambda: is_serving("models/good@stable"))
        assert all(is_serving(name) for name in ("", "models/good", "models/good@1"))


def test_a_page_goes_on_where_it_ended_though_its_last_model_is_gone(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        publish(tmp_path, model_bytes(), version=version)
    with (
        running(ServerConfig(tmp_path, "127.0.0.1:0", reload_interval=0.01)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = ModelServiceStub(channel)
        first = stub.ListModels(model_pb.ListModelsRequest(page_size=2))
        shutil.rmtree(tmp_path / "good" / "2")
        wait_until(lambda: len(server.host.models()) == 2)
        rest = stub.ListModels(model_pb.ListModelsRequest(page_token=first.next_page_token))
        assert [model.name for model in rest.models] == ["models/good@10"]
