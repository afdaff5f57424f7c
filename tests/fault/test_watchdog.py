"""An engine that hangs or fails: health goes, calls have an answer, the process ends and not with 0."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.server import FAILED
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import Load
from tests.serving.process import planted, serving

CALLS = 20
EXPECTED = {"hang": grpc.StatusCode.UNAVAILABLE, "crash": grpc.StatusCode.INTERNAL}


class Aftermath:
    """What is seen of a server once its engine is broken."""

    def __init__(self, process: "Popen[str]", address: str, trigger: Path, patience: float) -> None:
        begun = time.monotonic()
        with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(CALLS + 1) as pool:
            health = pool.submit(watched, channel, patience)
            trigger.touch()
            stub = GenerationServiceStub(channel)
            calls = [pool.submit(status_of, stub, patience) for _ in range(CALLS)]
            self.statuses = [call.result() for call in calls]
            self.seconds_to_answers = time.monotonic() - begun
            self.is_healthy = not health.result()
        self.exit_status: int | None = None
        with suppress(TimeoutExpired):
            self.exit_status = process.wait(max(patience - (time.monotonic() - begun), 0.1))
        self.seconds_to_end = time.monotonic() - begun


def status_of(stub: GenerationServiceStub, patience: float) -> tuple[grpc.StatusCode, str]:
    """How a call ends that retries nothing."""
    try:
        stub.Generate(pb.GenerateRequest(n=100), timeout=patience)
    except grpc.RpcError as error:
        call: Any = error
        return call.code(), call.details()
    return grpc.StatusCode.OK, ""


def watched(channel: grpc.Channel, patience: float) -> bool:
    """Whether health says NOT_SERVING in that time."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        for answer in stub.Watch(health_pb2.HealthCheckRequest(), timeout=patience):
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                return True
    except grpc.RpcError:
        pass
    return False


def broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str, patience: float, floor: bool = False
) -> tuple[Aftermath, float]:
    """A server whose engine breaks while calls come; how many there were a second before."""
    trigger = tmp_path / "now"
    monkeypatch.setenv("PLANTED", str(trigger))
    command = planted(bug, "serve")
    with serving(COMMITTED, "--watchdog", "1", command=command) as (process, address):
        with Load(address) as load:
            load.wait_for(20)
            rate = load.rate() if floor else 0.0
        return Aftermath(process, address, trigger, patience), rate


def check(seen: Aftermath, bug: str) -> None:
    assert not seen.is_healthy
    codes = {code for code, _ in seen.statuses}
    # Calls that come when it is over already are told to go elsewhere.
    assert EXPECTED[bug] in codes
    assert codes <= {EXPECTED[bug], grpc.StatusCode.UNAVAILABLE}
    assert not any("secret" in details for _, details in seen.statuses)
    assert seen.exit_status == FAILED


@pytest.mark.parametrize("bug", ["hang", "crash"])
def test_a_broken_engine_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    seen, _ = broken(tmp_path, monkeypatch, bug, patience=60)
    check(seen, bug)


@pytest.mark.parametrize("bug", ["hang", "crash"])
@pytest.mark.fault
def test_a_server_that_does_not_look_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    seen, _ = broken(tmp_path, monkeypatch, f"deaf_{bug}", patience=6)
    with pytest.raises(AssertionError):
        check(seen, bug)


@pytest.mark.parametrize("bug", ["hang", "crash"])
@pytest.mark.fault
def test_how_soon_a_broken_engine_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    seen, rate = broken(tmp_path, monkeypatch, bug, patience=60, floor=True)
    check(seen, bug)
    assert seen.seconds_to_end < 10
    record(
        f"engine_{bug}",
        calls_a_second_before=round(rate),
        calls_under_way=CALLS,
        seconds_to_answers=round(seen.seconds_to_answers, 2),
        seconds_to_end=round(seen.seconds_to_end, 2),
        exit_status=FAILED,
    )
