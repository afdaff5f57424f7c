"""Disks that are full, and disks that are taken away, while strings are asked for."""

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from serving.client import Client
from serving.errors import NotFound
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import Load
from tests.fault.test_reload import put, version_of
from tests.serving.process import RELOADING, SERVE, planted, serving, wait_until

# --- a log that cannot be written


def mute(repository: Path, command: Sequence[str] = SERVE) -> Load:
    """Serve and reload with a full disk for a log."""
    with (
        open("/dev/full", "w") as full,
        serving(repository, *RELOADING, stderr=full, command=command) as (process, address),
        Client(address) as client,
        Load(address) as load,
    ):
        load.wait_for(20)
        for version in (2, 7, 3):  # 7 is a bad one
            put(repository, version)
        wait_until(lambda: version_of(client) == 3)
        load.wait_for(20)
        process.terminate()
        assert process.wait(30) == 0
    return load


def test_a_log_that_cannot_be_written_costs_no_reload_and_the_end_is_a_good_one(
    one_version: Path,
) -> None:
    assert mute(one_version).calls > 40


@pytest.mark.fault
def test_a_log_that_ends_what_logs_is_found(one_version: Path) -> None:
    with pytest.raises(AssertionError, match="does not come to hold"):
        mute(one_version, planted("loud", "serve"))


# --- a log that nobody reads


def unheard(repository: Path, command: Sequence[str] = SERVE) -> Load:
    """Serve with a full pipe for a log, of which half is read at the end; what was read is looked at."""
    ours, theirs = os.pipe()
    with open(ours) as reader, open(theirs, "w") as pipe:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        with serving(repository, "--access-log", stderr=pipe, command=command) as (
            process,
            address,
        ):
            with Load(address) as load:
                load.wait_for(5000)  # the pipe is full, and so is what waits
            process.terminate()
            assert process.wait(30) == 0
        pipe.close()
        assert 10 < len(reader.readlines()) < 100
    return load


def test_a_log_that_nobody_reads_costs_no_call_and_the_end_is_a_good_one(one_version: Path) -> None:
    assert unheard(one_version).failures == {}


@pytest.mark.fault
def test_a_log_that_waits_for_its_reader_is_found(one_version: Path) -> None:
    with pytest.raises(AssertionError, match="calls do not end"):
        unheard(one_version, planted("loud", "serve"))


# --- a standard output that cannot be written


@contextmanager
def full_disk() -> Iterator[IO[str]]:
    with open("/dev/full", "w") as full:
        yield full


@contextmanager
def pipe_without_reader() -> Iterator[IO[str]]:
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as pipe:
        yield pipe


@pytest.mark.parametrize("output", [full_disk, pipe_without_reader])
@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
def test_a_server_that_cannot_say_where_it_serves_logs_it_and_serves_on(
    output: Callable[[], AbstractContextManager[IO[str]]], flags: Sequence[str]
) -> None:
    command = [*SERVE, "--repository", str(COMMITTED), "--listen", "127.0.0.1:0", *flags]
    with (
        output() as stdout,
        subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stderr is not None
            told = re.match(r"WARNING: serving \S+ on (\S+); stand", process.stderr.readline())
            assert told is not None
            with Client(told[1]) as client:
                assert client.generate("em", 1).samples
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


# --- a disk that fills


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk takes a mount, and that takes root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> None:
    """Up to its last page."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def contents(disk: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}


def crowded(disk: Path, makemore: Sequence[str]) -> tuple[Load, float]:
    """Publish, and give an alias, on a disk that is full; then on one that is not any more."""
    put(disk, 1)
    alias = [*makemore, "alias", "good", "stable", "1", "--repository", str(disk)]
    assert subprocess.run(alias).returncode == 0
    with (
        serving(disk, *RELOADING) as (process, address),
        Client(address) as client,
        Load(address) as load,
    ):
        rate = load.rate()
        fill(disk)
        before = contents(disk)
        with pytest.raises(Exception, match="No space left on device"):
            put(disk, 2)
        told = subprocess.run(alias, capture_output=True, text=True)
        assert contents(disk) == before
        assert told.returncode == 1
        assert "aliases.json: No space left on device" in told.stderr
        load.wait_for(100)
        assert client.get_model("good@stable").version == 1
        (disk / "filler").unlink()
        put(disk, 2)
        wait_until(lambda: version_of(client) == 2)
        assert process.poll() is None
    return load, rate


@pytest.mark.fault
def test_a_disk_that_fills_leaves_what_is_published_and_what_is_served(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        load, rate = crowded(disk, [sys.executable, "-m", "serving"])
    assert load.failures == {}
    record(
        "disk_that_fills",
        calls_a_second_before=round(rate),
        calls=load.calls,
        errors=load.failures.total(),
    )


@pytest.mark.fault
def test_half_a_file_that_is_left_lying_is_found(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, pytest.raises(AssertionError, match="part"):
        crowded(disk, planted("littering"))


# --- a repository that is taken away


LOOKS = 0.5
"""Seconds in which the server looks at its repository several times, whatever calls it answers meanwhile."""


def taken_away(
    repository: Path, command: Sequence[str] = SERVE, floor: bool = False, **options: Any
) -> tuple[Load, float]:
    """Take it away, put an empty folder in its place, give it back with a new version in it."""
    away = repository.with_name("away")
    with (
        serving(repository, *RELOADING, command=command, **options) as (_, address),
        Client(address) as client,
        Load(address) as load,
    ):
        load.wait_for(20)
        rate = load.rate() if floor else 0.0
        repository.rename(away)
        time.sleep(LOOKS)
        load.wait_for(40)
        repository.mkdir()
        time.sleep(LOOKS)
        load.wait_for(40)
        put(away, 2)
        away.rename(repository)  # which may be done to an empty folder
        wait_until(lambda: version_of(client) == 2)
        load.wait_for(20)
    return load, rate


def test_a_repository_that_disappears_is_served_on_and_followed_again(
    one_version: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as stderr:
        load, _ = taken_away(one_version, stderr=stderr)
    assert load.failures == {}
    assert log.read_text().count("is no folder of models") == 1


@pytest.mark.fault
def test_models_that_go_with_their_folder_are_found(one_version: Path) -> None:
    with pytest.raises(NotFound):
        taken_away(one_version, planted("forgetful", "serve"))


@pytest.mark.fault
def test_a_repository_that_disappears_under_load(one_version: Path) -> None:
    load, rate = taken_away(one_version, floor=True)
    assert load.failures == {}
    record(
        "repository_that_disappears",
        calls_a_second_before=round(rate),
        calls=load.calls,
        errors=load.failures.total(),
    )
