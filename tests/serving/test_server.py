"""A server as a process: it starts, tells where, drains, and says what it cannot do."""

import asyncio
import os
import re
import signal
import socket
import string
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving import repository as repository_module
from serving.addresses import joined
from serving.cli import main
from serving.client import Client
from serving.config import ServerConfig
from serving.credentials import Credentials
from serving.errors import InvalidArgument, NotFound, Unavailable
from serving.observe.config import ObserveConfig
from serving.repository import Model, Repository
from serving.server import Server, run
from serving.testing import running
from tests.conftest import COMMITTED
from tests.serving.graphs import manifest, model_bytes, publish
from tests.serving.observe.asking import page
from tests.serving.process import SERVE, serving
from tests.serving.test_listening import needs_ipv6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_under_way_finish_and_ends_with_status_0(number: int) -> None:
    with serving(COMMITTED) as (process, address):
        with Client(address) as client, ThreadPoolExecutor(1) as pool:
            client.generate(model="names")
            call = pool.submit(client.generate, n=1000, model="names")
            time.sleep(0.02)
            process.send_signal(number)
            assert len(call.result(30).samples) == 1000
        assert process.wait(30) == 0


def test_a_lame_duck_serves_everything_while_health_says_not_serving(repository: Path) -> None:
    with serving(repository, "--lame-duck", "2") as (process, address):
        with grpc.insecure_channel(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with grpc.insecure_channel(address) as late:
                stub = GenerationServiceStub(late)
                answer = stub.Generate(pb.GenerateRequest(n=2, model="gru"), timeout=10)
            assert len(answer.samples) == 2
        assert process.wait(30) == 0


def test_ctrl_c_has_no_lame_duck(repository: Path) -> None:
    with serving(repository, "--lame-duck", "60") as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_second_signal_ends_at_once(repository: Path) -> None:
    """While calls are under way that would take many seconds."""
    with serving(repository) as (process, address), grpc.insecure_channel(address) as channel:
        stub = GenerationServiceStub(channel)
        asked = pb.GenerateRequest(n=1000, model="transformer")
        stub.Generate(pb.GenerateRequest(model="transformer"), timeout=10)
        calls: list[Any] = [stub.Generate.future(asked) for _ in range(60)]
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(3) == 1
        assert any(call.exception() for call in calls)


def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    """grpc's server, stopped a second time while it stops, ended the process."""
    publish(tmp_path, model_bytes())

    async def scenario() -> None:
        server = Server(ServerConfig(tmp_path, "127.0.0.1:0"))
        await server.start()
        await asyncio.gather(server.stop(1), server.stop(0), server.stop(0))
        await server.stop(0)

    for _ in range(20):
        asyncio.run(scenario())


def test_a_watcher_of_the_health_does_not_hold_up_the_end() -> None:
    with serving(COMMITTED) as (process, address), grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.wait(10) == 0  # the grace is 30 s


def test_a_signal_while_models_load_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = threading.Event()
    announced: list[Server] = []

    def load(self: Repository, begin: object) -> None:
        loading.set()
        time.sleep(0.3)

    def interrupt() -> None:
        assert loading.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Repository, "load", load)
    threading.Thread(target=interrupt).start()
    config = ServerConfig(COMMITTED, "127.0.0.1:0")
    asyncio.run(run(config, announced.append))
    assert announced == []


@pytest.mark.parametrize("default", ["nowhere", "lstm@7"])
def test_a_default_model_that_is_not_there_is_told_at_the_start(
    repository: Path, default: str
) -> None:
    with (
        pytest.raises(NotFound, match=default.partition("@")[0]),
        running(ServerConfig(repository, "127.0.0.1:0", default)),
    ):
        pass


def test_the_default_model_may_be_a_version(repository: Path) -> None:
    config = ServerConfig(repository, "127.0.0.1:0", "lstm@1")
    with running(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        assert client.generate().model == "models/lstm@1"


def test_one_odd_model_does_not_take_the_others_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good", "worse"):
        publish(tmp_path, model_bytes(manifest(name)), name)
    load_version = repository_module.load_version

    def load(folder: Path, *how: Any) -> Model:
        if folder.parent.name == "bad":
            raise MemoryError("not of the kind that is looked for")
        model = load_version(folder, *how)
        if model.name == "worse":
            monkeypatch.setattr(model.session, "step", lambda *arguments: 1 / 0)
        return model

    monkeypatch.setattr(repository_module, "load_version", load)
    with running(ServerConfig(tmp_path, "127.0.0.1:0")) as server:
        assert [m.name for m in server.host.models()] == ["good"]
        assert len(server.host.repository.refusals) == 2


def test_two_servers_do_not_share_a_port(repository: Path) -> None:
    with (
        running(ServerConfig(repository, "127.0.0.1:0")) as server,
        pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{server.port}"),
        running(ServerConfig(repository, f"127.0.0.1:{server.port}")),
    ):
        pass


def test_every_address_of_the_host_is_served(repository: Path) -> None:
    needs_ipv6()
    config = ServerConfig(repository, "localhost:0", observe=ObserveConfig("localhost:0"))
    with running(config) as server:
        endpoint = server.observation.endpoint
        assert endpoint
        for host in ("127.0.0.1", "::1", "localhost"):
            with Client(joined(host, server.port)) as client:
                assert client.generate(model="gru").samples
            assert page(joined(host, endpoint.port), "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("owner", "listen"),
    [
        ("127.0.0.1", "localhost"),
        ("::1", "localhost"),
        ("127.0.0.1", "0.0.0.0"),
        ("::1", "0.0.0.0"),
        ("127.0.0.1", "[::]"),
        ("::1", "[::]"),
        ("::", "0.0.0.0"),
        ("::", "localhost"),
    ],
)
def test_a_server_does_not_start_with_a_part_of_its_addresses(
    repository: Path, owner: str, listen: str
) -> None:
    needs_ipv6()
    family = socket.AF_INET6 if ":" in owner else socket.AF_INET
    with socket.create_server((owner, 0), family=family) as taken:
        address = f"{listen}:{taken.getsockname()[1]}"
        with (
            pytest.raises(Unavailable, match=f"^cannot listen on {re.escape(address)}: .*in use"),
            running(ServerConfig(repository, address)),
        ):
            pass


def test_a_unix_socket_is_served_and_removed(tmp_path: Path, repository: Path) -> None:
    path, tokens = tmp_path / "socket", tmp_path / "tokens"
    tokens.write_text(f"alice {'a' * 32}\n")
    address = f"unix:{path}"
    for end in (signal.SIGKILL, signal.SIGTERM):  # the first leaves its socket to the second
        with serving(repository, "--token-file", str(tokens), listen=address) as (process, told):
            assert told == address
            with Client(address, credentials=Credentials(token_file=tokens)) as client:
                assert client.generate(model="gru").samples
            health = CliRunner().invoke(main, ["health", "--address", address])
            assert health.output == "SERVING\n"
            with (
                pytest.raises(Unavailable, match="another server listens there"),
                running(ServerConfig(repository, address)),
            ):
                pass
            process.send_signal(end)
            process.wait(60)
            assert path.exists() is (end == signal.SIGKILL)
    health = CliRunner().invoke(main, ["health", "--address", address])
    assert health.output.startswith(f"error: no server answers at {address}: ")


def test_a_server_that_cannot_start_leaves_no_port_bound(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        observe = ObserveConfig("127.0.0.1:0")
        server = Server(ServerConfig(repository, address, observe=observe))
        with pytest.raises(Unavailable, match="--listen"):
            asyncio.run(server.start())
    with socket.socket() as free:
        assert server.observation.endpoint
        free.bind(("127.0.0.1", server.observation.endpoint.port))


def test_a_server_without_a_model_does_not_start(tmp_path: Path) -> None:
    before = threading.active_count()
    with (
        pytest.raises(NotFound, match="has no model that can be served"),
        running(ServerConfig(tmp_path, "127.0.0.1:0")),
    ):
        pass
    assert threading.active_count() <= before


def test_the_command_names_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    letters = tmp_path / "letters.txt"
    letters.write_text("\n".join(string.ascii_lowercase))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        in_use = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments, reason in (
            (["--repository", str(tmp_path / "missing")], "missing is no folder of models"),
            (
                ["--repository", str(COMMITTED), "--listen", in_use],
                f"cannot listen on {in_use}: Addr",
            ),
            (["--forbidden", str(COMMITTED / "names" / "2" / "model.onnx")], "not UTF-8"),
            (["--listen", "nowhere"], "'nowhere' is not host:port"),
            (["--repository", str(COMMITTED), "--default-model", "x"], "--default-model: there is"),
            (["--repository", str(COMMITTED), "--forbidden", str(letters)], "--forbidden: "),
        ):
            command = [*SERVE, "--listen", "127.0.0.1:0", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode in (1, 2)
            assert reason in done.stderr.splitlines()[-1]
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:65536"),
        ("listen", ":50051"),
        ("listen", "127.0.0.1:99999"),
        ("listen", "unix:"),
        ("max_rows", 1),
        ("prefix_cache", 2**50),
        ("threads", 0),
        ("max_queue", 0.0),
        ("read_timeout", 0.0),
        ("lame_duck", -1.0),
        ("grace", -1.0),
    ],
)
def test_a_configuration_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ServerConfig(Path(), **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
