"""A server under everything at once for a long time: nothing that it holds grows."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import LEAST, Load
from tests.serving.process import SERVE, serving

SECONDS = float(os.environ.get("SOAK", "600"))
SHARE = 0.03
"""Of all calls, what each kind has that is not the usual one."""
BARE = [sys.executable, "-m", "tests.fault.bare"]
EVERY = 1.0
TEN_MINUTES = 600


@dataclass
class Held:
    """What a process and its children hold, looked at again and again.

    Attributes:
        kilobytes: of memory that is resident.
        files: descriptors.
        threads: of all of them.
    """

    process: int
    at: list[float] = field(default_factory=list)
    kilobytes: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Once more."""
        own = Path(f"/proc/{self.process}")
        children = (own / "task" / own.name / "children").read_text().split()
        folders = [own, *(own.with_name(child) for child in children)]
        pages = sum(int((folder / "statm").read_text().split()[1]) for folder in folders)
        self.at.append(time.monotonic())
        self.kilobytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1024)
        self.files.append(sum(len(list((folder / "fd").iterdir())) for folder in folders))
        self.threads.append(sum(len(list((folder / "task").iterdir())) for folder in folders))

    def growth(self, of: str) -> float:
        """How much a thing grew in ten minutes, by the second half."""
        half = len(self.at) // 2
        return TEN_MINUTES * slope(self.at[half:], getattr(self, of)[half:])


def slope(x: list[float], y: list[float]) -> float:
    """The median of the slopes between any two points, which outliers do not move (Theil and Sen)."""
    every = max(len(x) // 200, 1)
    points = list(zip(x[::every], y[::every], strict=True))
    return median((d - b) / (c - a) for (a, b), (c, d) in combinations(points, 2))


def ask(stub: GenerationServiceStub, number: int) -> None:
    """One of all kinds of calls; what is meant to fail does."""
    kind = random.Random(number).random()
    if kind < 1 - 5 * SHARE:
        stub.Generate(pb.GenerateRequest(n=1), timeout=30)
    elif kind < 1 - 4 * SHARE:
        asked = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=500))
        list(stub.StreamGenerate(asked, timeout=30))
    elif kind < 1 - 3 * SHARE:
        leave(stub, 1 + number % 3)
    elif kind < 1 - 2 * SHARE:
        with suppress(grpc.RpcError):
            stub.Generate(pb.GenerateRequest(n=1000), timeout=0.005)
    elif kind < 1 - SHARE:
        with suppress(grpc.RpcError):
            stub.Generate(pb.GenerateRequest(prefix="\0" * 99))
    else:
        rules = pb.Constraints(unique=True, pattern=f"{chr(97 + number % 26)}.*", max_length=9)
        stub.Generate(pb.GenerateRequest(n=2, constraints=rules), timeout=30)


def ask_bare(stub: GenerationServiceStub, number: int) -> None:
    """What of this concerns grpc alone: calls, and streams that are left."""
    if random.Random(number).random() < SHARE:
        leave(stub, 1 + number % 3)
    else:
        stub.Generate(pb.GenerateRequest(n=1), timeout=30)


def leave(stub: Any, messages: int) -> None:
    """Begin a long stream, and leave it in the middle."""
    asked = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=100_000))
    call = stub.StreamGenerate(asked, timeout=30)
    with suppress(grpc.RpcError, StopIteration):
        for _ in range(messages):
            next(call)
    call.cancel()


@dataclass
class Soaked:
    """What was seen."""

    held: Held
    rate: float
    failures: dict[str, int]


def soak(
    seconds: float,
    command: list[str],
    asking: Callable[[GenerationServiceStub, int], None],
    callers: int = 2,
) -> Soaked:
    """Ask a server for so long."""
    flags = ("--prefix-cache", "4MiB", "--reload-interval", "1")
    with serving(COMMITTED, *flags, command=command) as (process, address):
        held, over = Held(process.pid), threading.Event()
        with Load(address, asking, callers) as load:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not over.wait(EVERY):
                held.look()
                assert process.poll() is None
        return Soaked(held, load.calls / seconds, dict(load.failures))


def test_the_slope_is_that_of_the_most_points() -> None:
    x = [float(i) for i in range(100)]
    assert slope(x, [5.0 + 2 * a + 3 * (-1) ** i for i, a in enumerate(x)]) == pytest.approx(
        2, 0.02
    )
    assert slope(x, [1e6 if i % 10 == 0 else 7.0 for i in range(100)]) == 0


def test_a_minute_of_everything_would_go_well() -> None:
    """A few seconds of it: that the soak itself works."""
    soaked = soak(5, SERVE, ask)
    assert not soaked.failures
    assert len(soaked.held.at) >= 3


@pytest.mark.fault
@pytest.mark.parametrize(("bug", "of"), [("leaky", "kilobytes"), ("holding", "files")])
def test_a_leak_that_was_planted_is_found(bug: str, of: str) -> None:
    command = [sys.executable, "-m", "tests.fault.planted", bug, "serve"]
    assert soak(60, command, ask).held.growth(of) > {"kilobytes": 2048, "files": 100}[of]


@pytest.mark.fault
def test_nothing_grows() -> None:
    bare: list[Soaked] = []
    beside = threading.Thread(target=lambda: bare.append(soak(SECONDS, BARE, ask_bare, callers=1)))
    beside.start()
    ours = soak(SECONDS, SERVE, ask, callers=4)
    beside.join()
    assert not ours.failures
    if ours.rate < LEAST:
        pytest.fail(f"void: {ours.rate:.0f} calls a second, not {LEAST}")
    grown, known = ours.held.growth("kilobytes"), bare[0].held.growth("kilobytes")
    streams_left = ours.rate / bare[0].rate  # of which both have the same share
    beyond = grown - max(known, 0) * streams_left
    record(
        "soak",
        seconds=SECONDS,
        calls_a_second=round(ours.rate),
        kilobytes_in_ten_minutes=round(grown),
        of_them_bare_grpc=round(max(known, 0) * streams_left),
        files_in_ten_minutes=round(ours.held.growth("files"), 1),
        threads_in_ten_minutes=round(ours.held.growth("threads"), 1),
    )
    assert beyond <= 1024
    assert ours.held.growth("files") <= 0.5
    assert ours.held.growth("threads") <= 0.5
