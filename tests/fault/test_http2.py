"""Abuse of HTTP/2 costs those who behave little, and the server nothing that lasts."""

import multiprocessing
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.http2 import ATTACKS
from tests.fault.load import LEAST
from tests.serving.process import serving, wait_until


class Healthy:
    """A caller who behaves: one call after another, each timed."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        self._stub = GenerationServiceStub(self._channel)

    def ask(self, seconds: float) -> list[float]:
        """The seconds that each call took; a call that fails raises grpc.RpcError."""
        took, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            self._stub.Generate(pb.GenerateRequest(model="names"), timeout=30)
            took.append(time.perf_counter() - begun)
        return took

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def open_files(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def attacked(attack: str, address: str, seconds: float) -> "multiprocessing.process.BaseProcess":
    host, _, port = address.rpartition(":")
    context = multiprocessing.get_context("spawn")
    return context.Process(target=ATTACKS[attack], args=((host, int(port)), seconds))


@pytest.mark.parametrize("attack", ATTACKS)
def test_calls_are_answered_while_a_peer_misbehaves(attack: str) -> None:
    with serving(COMMITTED) as (server, address):
        healthy = Healthy(address)
        healthy.ask(0.2)
        before = open_files(server.pid)
        attacker = attacked(attack, address, 1.5)
        attacker.start()
        assert healthy.ask(2.5)
        attacker.join()
        assert attacker.exitcode == 0
        assert healthy.ask(0.3)
        # What says nothing is closed after 5 s.
        wait_until(lambda: open_files(server.pid) <= before + 2)
        healthy.close()


@pytest.mark.fault
def test_abuse_costs_others_half_of_their_p99_at_most() -> None:
    """Before and during each attack in turn, several times, since a machine's own noise comes and goes."""
    figures: dict[str, float] = {}
    with serving(COMMITTED) as (server, address):
        healthy = Healthy(address)
        usual = healthy.ask(2)
        if len(usual) / 2 < LEAST:
            pytest.fail(f"void: {len(usual) / 2:.0f} calls a second before the fault, not {LEAST}")
        for attack in ATTACKS:
            calm, under = [], []
            for _ in range(5):
                calm += healthy.ask(2)
                attacker = attacked(attack, address, 4)
                attacker.start()
                time.sleep(1)
                under += healthy.ask(2)
                attacker.join()
            p99 = [float(np.quantile(took, 0.99)) for took in (calm, under)]
            figures[attack] = round(p99[1] / p99[0], 2)
        healthy.close()
        assert server.poll() is None
    record("http2", **figures)
    assert max(figures.values()) <= 1.5, figures
