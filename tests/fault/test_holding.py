"""Peers that hold calls, requests or responses take nothing from others, and little memory."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.holding import HOLDS
from tests.serving.process import SERVE, planted, serving

CONNECTIONS = {"held_calls": 17, "endless_uploads": 3, "unread_responses": 5, "unread_checks": 9}
CALLS = 50
MEMORY = 220 * 2**20
"""Bytes by which a server may grow: those of the requests and responses that one client may have, and what a
few thousand calls take beside them."""


def resident(process: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def await_service(stub: GenerationServiceStub) -> None:
    """Wait until a call is answered: new ones are refused while those held may be about to send."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(grpc.RpcError):
            stub.Generate(pb.GenerateRequest(), timeout=10)
            return
        time.sleep(0.05)


def held(hold: str, command: Sequence[str] = SERVE) -> dict[str, float]:
    """Have a peer hold what it can, and ask meanwhile; returns the failed calls and the growth in bytes."""
    flags = ("--read-timeout", "2")
    with serving(COMMITTED, *flags, command=command) as (server, address):
        channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        generation = GenerationServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        generation.Generate(pb.GenerateRequest(), timeout=10)
        before = resident(server.pid)
        host, _, port = address.rpartition(":")
        peers = HOLDS[hold]((host, int(port)), CONNECTIONS[hold])
        await_service(generation)
        failed, most = 0, 0
        for _ in range(CALLS):
            try:
                health.Check(health_pb2.HealthCheckRequest(), timeout=10)
                generation.Generate(pb.GenerateRequest(), timeout=10)
            except grpc.RpcError:
                failed += 1
            most = max(most, resident(server.pid))
        assert server.poll() is None
        for peer in peers:
            peer.socket.close()
        channel.close()
    return {"failed": failed, "grown": most - before}


@pytest.mark.parametrize("hold", HOLDS)
def test_what_a_peer_holds_is_bounded_and_others_are_served(hold: str) -> None:
    found = held(hold)
    record(hold, calls_failed=found["failed"], grown_mib=round(found["grown"] / 2**20))
    assert not found["failed"]
    assert found["grown"] < MEMORY


@pytest.mark.fault
@pytest.mark.parametrize("hold", HOLDS)
def test_a_server_that_lets_peers_hold_what_they_like_is_found(hold: str) -> None:
    found = held(hold, planted("unbounded", "serve"))
    assert found["failed"] or found["grown"] >= MEMORY
