"""What a machine may do to a server that is asked for strings meanwhile: nobody loses anything."""

import glob
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.client import Client
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import Load
from tests.fault.test_reload import put, version_of
from tests.serving.process import RELOADING, SERVE, planted, serving, wait_until

STRINGS = 10_000
LEAPS = ("+1d", "-1d", "+1h", "-1h", "+3650d", "+0")
FAKETIME = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))

needs_faketime = pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")


# --- ports


def contended(repository: Path, command: Sequence[str] = SERVE, host: str = "127.0.0.1") -> None:
    """A second server wants the port that the first one has, at a host that may have other addresses, too."""
    with serving(repository, command=command) as (process, address), Load(address) as load:
        load.wait_for(20)
        wanted = address.replace("127.0.0.1", host)
        second = [*command, "--repository", str(repository), "--listen", wanted]
        told = subprocess.run(second, capture_output=True, text=True, timeout=30)
        load.wait_for(20)
        assert process.poll() is None
    assert told.returncode == 1
    assert f"cannot listen on {wanted}: " in told.stderr.splitlines()[-1]
    assert "in use" in told.stderr.splitlines()[-1]
    assert load.failures == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_named_and_who_has_it_loses_no_call(one_version: Path, host: str) -> None:
    contended(one_version, host=host)


@pytest.mark.fault
def test_a_second_server_that_takes_half_the_calls_is_found(one_version: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        contended(one_version, planted("sharing", "serve"))


@pytest.mark.fault
def test_a_second_server_that_takes_one_of_two_addresses_is_found(one_version: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        contended(one_version, planted("partial", "serve"), "localhost")


# --- clocks


def ask_with_deadlines(stub: GenerationServiceStub, number: int) -> None:
    """Calls that would all be late, or none ever, if a deadline were an hour of the day."""
    stub.Generate(pb.GenerateRequest(n=1 + number % 3), timeout=20)


def leap(repository: Path, tmp_path: Path, command: Sequence[str], floor: bool) -> None:
    """Let the clock of the server's process jump, in C and in Python, while calls with deadlines come."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": FAKETIME[0],
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else it breaks waiting by the monotonic clock
    }
    flags = ("--watchdog", "2", *RELOADING)
    with (
        serving(repository, *flags, command=command, environment=environment) as (process, address),
        Load(address, ask_with_deadlines) as load,
    ):
        load.wait_for(20)
        rate = load.rate() if floor else 0
        for version, offset in enumerate(LEAPS, 22):  # among which is no bad one
            clock.write_text(offset)
            time.sleep(1.5)  # until it is read
            put(repository, version)
            load.wait_for(50)
        with Client(address) as client:
            wait_until(lambda: version_of(client) == 21 + len(LEAPS))
        assert process.poll() is None
    assert load.failures == {}
    if floor:
        record(
            "clock_that_jumps",
            calls_a_second_before=round(rate),
            jumps=len(LEAPS),
            calls=load.calls,
            errors=load.failures.total(),
        )


@needs_faketime
@pytest.mark.fault
def test_a_clock_that_jumps_matters_to_nobody(one_version: Path, tmp_path: Path) -> None:
    leap(one_version, tmp_path, SERVE, floor=True)


@needs_faketime
@pytest.mark.fault
def test_a_deadline_by_the_time_of_day_is_found(one_version: Path, tmp_path: Path) -> None:
    found = "DEADLINE|its deadline would pass|do not end|not come to hold"
    with pytest.raises(AssertionError, match=found):
        leap(one_version, tmp_path, planted("time_of_day", "serve"), floor=False)


# --- a process that is stopped and goes on


def stopped(command: Sequence[str], seconds: float, floor: bool) -> Load:
    """Stop the process for a time longer than its watchdog's, while calls are under way; go on."""
    with (
        serving(COMMITTED, "--watchdog", "2", command=command) as (process, address),
        grpc.insecure_channel(address) as channel,
        Load(address) as load,
    ):
        load.wait_for(20)
        rate = load.rate() if floor else 0
        stub = GenerationServiceStub(channel)
        asked = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=STRINGS))
        stream = iter(stub.StreamGenerate(asked, timeout=100))
        next(stream)
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        strings = sum(len(message.samples) for message in stream)
        load.wait_for(100)
        assert process.poll() is None
        assert strings == STRINGS
    if floor:
        record(
            "stop_and_continue",
            calls_a_second_before=round(rate),
            seconds_stopped=seconds,
            calls=load.calls,
            errors=load.failures.total(),
        )
    return load


@pytest.mark.fault
def test_a_process_that_was_stopped_goes_on_where_it_was() -> None:
    assert stopped(SERVE, 5, floor=True).failures == {}


@pytest.mark.fault
def test_a_watchdog_that_counts_seconds_is_found() -> None:
    with pytest.raises((grpc.RpcError, AssertionError)):
        assert stopped(planted("impatient", "serve"), 5, floor=False).failures == {}
