"""Who logs never waits for who reads; what is lost is counted, and told where it would have stood."""

import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.observe import writing
from serving.observe.collector import LogCollector
from serving.observe.writing import LineWriter

MOST = 5
LACKS = "lines of the log were dropped: nobody read them, or they could not be written"


class Reader(io.StringIO):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.going = threading.Event(), threading.Event()
        self.going.set()

    def write(self, text: str) -> int:
        self.asked.set()
        self.going.wait()
        return super().write(text)

    def stall(self, log: logging.Logger) -> None:
        """Take nothing from now on; the line that is being written is called `stuck`."""
        self.going.clear()
        self.asked.clear()
        log.info("stuck")
        assert self.asked.wait(10)


class Full(io.StringIO):
    """A disk."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


@contextmanager
def writer(stream: Any) -> Iterator[tuple[LineWriter, logging.Logger]]:
    """A logger of its own whose lines go to a stream."""
    made, log = LineWriter(stream), logging.Logger("test")
    log.addHandler(made)
    yield made, log
    made.close()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST", MOST)


def test_who_logs_does_not_wait_and_is_told_later_what_the_log_lacks() -> None:
    reader = Reader()
    with writer(reader) as (made, log):
        reader.stall(log)
        for number in range(MOST + 3):
            log.info("%d", number)
        assert made.dropped == 3
        reader.going.set()
        made.flush()
        log.info("after")
        made.flush()
        waited = [str(number) for number in range(MOST)]
        assert reader.getvalue().splitlines() == ["stuck", *waited, f"3 {LACKS}", "after"]


def test_what_the_log_lacks_is_told_even_if_nothing_comes_after() -> None:
    reader = Reader()
    with writer(reader) as (made, log):
        reader.stall(log)
        for _ in range(MOST + 1):
            log.info("x")
        reader.going.set()
        made.flush()
        assert reader.getvalue().endswith(f"1 {LACKS}\n")


def test_lines_that_cannot_be_written_are_counted_and_told_once_they_can() -> None:
    disk = Full()
    with writer(disk) as (made, log):
        log.info("lost")
        log.info("lost")
        made.flush()
        assert made.dropped == 2
        disk.is_full = False
        log.info("kept")
        made.flush()
        assert disk.getvalue().splitlines() == [f"2 {LACKS}", "kept"]


def test_the_end_waits_for_a_reader_who_is_slow_and_not_for_one_who_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = Reader()
    with writer(reader) as (made, log):
        reader.stall(log)
        monkeypatch.setattr(writing, "LAST_WORD", 0.1)
        made.flush()
        assert reader.getvalue() == ""
        monkeypatch.setattr(writing, "LAST_WORD", 10.0)
        threading.Timer(0.1, reader.going.set).start()
        made.flush()
        assert reader.getvalue() == "stuck\n"


def test_a_record_that_cannot_be_formatted_is_told_in_the_log() -> None:
    reader = Reader()
    with writer(reader) as (made, log):
        log.info("%d", "no number")
        made.flush()
        assert "test_writing.py logs in line" in reader.getvalue()


def test_who_logs_while_it_logs_is_not_held_up() -> None:
    """As a collection of garbage does, which may begin anywhere."""
    reader = Reader()
    with writer(reader) as (made, log), made._counting:
        log.info("inside")
        made.flush()
        assert reader.getvalue() == "inside\n"


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_log_that_is_closed_costs_nothing(stream: io.StringIO | None) -> None:
    if stream:
        stream.close()
    with writer(stream) as (made, log):
        log.info("x")
        made.flush()


def test_lines_are_written_whole_where_the_reader_takes_a_few_bytes_at_a_time() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    text = "é" * 100_000
    with (
        open(ours, encoding="utf-8") as reader,
        open(theirs, "w", encoding="utf-8") as pipe,
        writer(pipe) as (_, log),
    ):
        log.info(text)
        assert reader.readline() == f"{text}\n"


def test_prometheus_is_told_how_many_lines_the_log_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    registry.register(LogCollector())
    disk = Full()
    with writer(disk) as (made, log):
        monkeypatch.setattr(logging.getLogger(), "handlers", [made])
        log.info("lost")
        made.flush()
        assert b"\nmakemore_log_lines_dropped_total 1.0\n" in generate_latest(registry)


PROGRAM = """
import logging, sys
from serving.observe.config import ObserveConfig
from serving.observe.logs import configure
from serving.observe.writing import leave_at_once
configure(ObserveConfig())
for number in range(100):
    logging.getLogger("test").info("%d", number)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "leave_at_once(0)"])
def test_the_last_lines_are_written_however_the_process_ends(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM + end], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"INFO: {number}" for number in range(100)]


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "leave_at_once(0)"])
def test_the_process_ends_though_nobody_reads(end: str) -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb"), open(theirs, "wb") as pipe:
        program = PROGRAM.replace("100", "5000").replace("%d", "%1000d") + end
        assert subprocess.run([sys.executable, "-c", program], stderr=pipe).returncode == 0
