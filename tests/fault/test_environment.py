"""What a machine may do to a server that is asked for strings meanwhile: nobody loses anything."""

import glob
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.client import Client
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import Load
from tests.fault.test_reload import put
from tests.serving.process import SERVE, serving, wait_until

MAKEMORE = [sys.executable, "-m", "serving"]
PLANTED = [sys.executable, "-m", "tests.fault.planted"]
RELOADING = ("--reload-interval", "0.05")
STRINGS = 10_000
LEAPS = ("+1d", "-1d", "+1h", "-1h", "+3650d", "+0")
FAKETIME = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))

needs_faketime = pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`good` in version 1."""
    put(tmp_path / "repository", 1)
    return tmp_path / "repository"


def version_of(client: Client) -> int:
    return client.get_model("good").version


# --- disks


def test_a_log_that_cannot_be_written_costs_no_call_and_no_reload(repository: Path) -> None:
    with (
        open("/dev/full", "w") as full,
        serving(repository, *RELOADING, stderr=full) as (process, address),
        Client(address) as client,
        Load(address) as load,
    ):
        load.wait_for(20)
        for version in (2, 7, 3):  # 7 is a bad one
            put(repository, version)
        wait_until(lambda: version_of(client) == 3)
        load.wait_for(20)
        process.send_signal(signal.SIGHUP)
        load.wait_for(20)
        assert process.poll() is None
        assert load.failures == {}


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, full up to its last page."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk takes a mount, and that takes root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@pytest.mark.fault
def test_a_disk_that_fills_leaves_what_is_published_and_what_is_served(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        put(disk, 1)
        alias = [*MAKEMORE, "alias", "good", "stable", "1", "--repository", str(disk)]
        assert subprocess.run(alias).returncode == 0
        with (
            serving(disk, *RELOADING) as (process, address),
            Client(address) as client,
            Load(address) as load,
        ):
            rate = load.rate()
            fill(disk)
            before = sorted(disk.rglob("*"))
            with pytest.raises(Exception, match="No space left on device"):
                put(disk, 2)
            told = subprocess.run(alias, capture_output=True, text=True)
            assert told.returncode == 1
            assert "aliases.json: No space left on device" in told.stderr
            assert sorted(disk.rglob("*")) == before
            load.wait_for(200)
            assert client.get_model("good@stable").version == 1
            (disk / "filler").unlink()
            put(disk, 2)
            wait_until(lambda: version_of(client) == 2)
            assert process.poll() is None
        assert load.failures == {}
        record("disk_that_fills", calls_a_second_before=round(rate), calls=load.calls, errors=0)


# --- a repository that is taken away


def taken_away(repository: Path, load: Load, client: Client) -> None:
    """Take it away, put an empty folder in its place, give it back with a new version in it."""
    away = repository.with_name("away")
    repository.rename(away)
    load.wait_for(40)
    repository.mkdir()
    load.wait_for(40)
    assert version_of(client) == 1
    put(away, 2)
    away.rename(repository)  # which may be done to an empty folder
    wait_until(lambda: version_of(client) == 2)
    load.wait_for(20)


def test_a_repository_that_disappears_is_served_on_and_followed_again(
    repository: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        serving(repository, *RELOADING, stderr=stderr) as (_, address),
        Client(address) as client,
        Load(address) as load,
    ):
        load.wait_for(20)
        taken_away(repository, load, client)
    assert load.failures == {}
    assert log.read_text().count("is no folder of models") == 1


@pytest.mark.fault
def test_a_repository_that_disappears_under_load(repository: Path) -> None:
    with (
        serving(repository, *RELOADING) as (_, address),
        Client(address) as client,
        Load(address) as load,
    ):
        rate = load.rate()
        taken_away(repository, load, client)
    assert load.failures == {}
    record(
        "repository_that_disappears", calls_a_second_before=round(rate), calls=load.calls, errors=0
    )


# --- ports


def test_a_port_in_use_is_named_and_who_has_it_loses_no_call(repository: Path) -> None:
    with serving(repository) as (process, address), Load(address) as load:
        load.wait_for(20)
        second = [*SERVE, "--repository", str(repository), "--listen", address]
        told = subprocess.run(second, capture_output=True, text=True, timeout=60)
        load.wait_for(20)
        assert process.poll() is None
    assert told.returncode == 1
    assert f"cannot listen on {address}: the port is in use" in told.stderr.splitlines()[-1]
    assert load.failures == {}


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
def test_a_clock_that_jumps_matters_to_nobody(repository: Path, tmp_path: Path) -> None:
    leap(repository, tmp_path, SERVE, floor=True)


@needs_faketime
@pytest.mark.fault
def test_a_deadline_by_the_time_of_day_is_found(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        leap(repository, tmp_path, [*PLANTED, "time_of_day", "serve"], floor=False)


# --- a process that is stopped and goes on


def stopped(command: Sequence[str], seconds: float, floor: bool) -> Load:
    """Stop the process for a time longer than its watchdog's, while calls are under way; go on."""
    with (
        serving(COMMITTED, "--watchdog", "1", command=command) as (process, address),
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
    with pytest.raises((AssertionError, grpc.RpcError)):
        stopped([*PLANTED, "impatient", "serve"], 5, floor=False)
