"""One caller's flood of large calls beside another caller's small ones."""

import subprocess
import sys
import time

import grpc
import numpy as np
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import COMMITTED, ROOT
from tests.fault.figures import record
from tests.serving.process import SERVE, planted, serving

CALLS = 200


def latencies(stub: GenerationServiceStub, calls: int) -> list[float]:
    """Seconds that calls for one string take, one after the other."""
    found = []
    for seed in range(calls):
        begun = time.perf_counter()
        stub.Generate(pb.GenerateRequest(sampling=pb.Sampling(seed=seed)), timeout=60)
        found.append(time.perf_counter() - begun)
    return found


def beside_a_flood(command: list[str]) -> dict[str, float]:
    """Milliseconds that small calls take, alone and beside another caller's flood."""
    with (
        serving(COMMITTED, command=command) as (_, address),
        grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel,
    ):
        stub = GenerationServiceStub(channel)
        latencies(stub, CALLS)
        alone = latencies(stub, CALLS)
        program = [sys.executable, "-m", "tests.fault.flood", address]
        with subprocess.Popen(program, stdout=subprocess.PIPE, cwd=ROOT) as flood:
            try:
                assert flood.stdout is not None
                assert flood.stdout.readline() == b"flooding\n"
                beside = latencies(stub, CALLS)
                assert flood.poll() is None, "the flood has ended by itself"
            finally:
                flood.kill()
    quantiles = {"median": 0.5, "p99": 0.99}
    return {
        f"{name}_{when}_ms": round(1e3 * float(np.quantile(seconds, share)), 1)
        for when, seconds in (("alone", alone), ("beside", beside))
        for name, share in quantiles.items()
    }


def is_fair(figures: dict[str, float]) -> bool:
    """Whether small calls wait for parts of large ones, not for all of them."""
    return (
        figures["median_beside_ms"] <= 40 * figures["median_alone_ms"]
        and figures["p99_beside_ms"] <= 1000
    )


@pytest.mark.fault
def test_one_callers_flood_does_not_hold_up_another_callers_small_calls() -> None:
    figures = beside_a_flood(SERVE)
    record("flood_of_one_caller", **figures)
    assert is_fair(figures)


@pytest.mark.fault
def test_long_work_that_is_done_at_once_is_found() -> None:
    assert not is_fair(beside_a_flood(planted("unsliced", "serve")))
