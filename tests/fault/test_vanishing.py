"""Clients that vanish in the middle of a stream: their rows go to others, and the books balance."""

import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, WindowUpdateFrame
from prometheus_client.parser import text_string_to_metric_families

from makemore.v1 import generation_service_pb2 as pb
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.http2 import Peer, frames
from tests.fault.load import Load
from tests.serving.process import SERVE, planted, serving

PLANTED = planted("deaf_to_leaving", "serve")
AT_ONCE = 10
AGE = 0.3
"""Seconds after which what is told of engines is of now: it is a fifth of a second old at most."""
ACCEPTED, ENDED = "makemore_jobs_accepted_total", "makemore_jobs_total"
ASKED, MADE, MISSING = (
    "makemore_samples_accepted_total",
    "makemore_samples_total",
    "makemore_samples_missing_total",
)


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Books:
    """The server's metrics."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/metrics"

    def read(self) -> dict[str, float]:
        """Each metric's sum over its labels."""
        with urlopen(self._url, timeout=10) as response:
            text = response.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0) + sample.value
        return sums

    def balanced(self, patience: float) -> tuple[dict[str, float], float]:
        """What they say once no row runs, and the seconds until then; fails when rows go on running."""
        begun = time.monotonic()
        while (books := self.read())["makemore_rows"] or books["makemore_queue_jobs"]:
            if time.monotonic() - begun > patience:
                rows, jobs = books["makemore_rows"], books["makemore_queue_jobs"]
                pytest.fail(f"{rows:.0f} rows of {jobs:.0f} jobs still run")
            time.sleep(0.02)
        seconds = time.monotonic() - begun
        time.sleep(AGE)  # what has just been told may be of before the last job's end
        return self.read(), seconds


def vanish(address: str, seed: int) -> None:
    """Begin a stream, read for a moment, and be gone without a word."""
    chance = random.Random(seed)
    host, _, port = address.rpartition(":")
    request = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=100_000, model="names"))
    content = request.SerializeToString()
    message = b"\0" + struct.pack(">I", len(content)) + content
    with Peer((host, int(port))) as peer:
        headers = peer.headers("makemore.v1.GenerationService/StreamGenerate")
        peer.send(
            frames(
                HeadersFrame(1, headers, flags=["END_HEADERS"]),
                DataFrame(1, message, flags=["END_STREAM"]),
                WindowUpdateFrame(1, 2**30),
                WindowUpdateFrame(0, 2**30),
            )
        )
        wanted = chance.randrange(1000, 50_000)  # bytes: after the stream's header, before its end
        peer.socket.settimeout(20)
        while wanted > 0:
            wanted -= len(peer.socket.recv(2**12))
        linger = struct.pack("ii", 1, 0)  # a reset instead of a farewell
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def vanishing(clients: int, *, is_shown: bool, command: list[str] = SERVE) -> dict[str, float]:
    """So many clients vanish while others ask; the figures, with what is left of them."""
    metrics = free_address()
    with serving(COMMITTED, "--metrics-listen", metrics, command=command) as (_, address):
        with Load(address) as load, ThreadPoolExecutor(AT_ONCE) as pool:
            before = load.rate() if is_shown else 0.0
            list(pool.map(lambda seed: vanish(address, seed), range(clients)))
            calls = load.calls
            assert not load.failures
        books, seconds = Books(metrics).balanced(1.0 if is_shown else 10.0)
    jobs = {"accepted": books[ACCEPTED], "ended": books[ENDED]}
    samples = {"asked": books[ASKED], "accounted": books[MADE] + books[MISSING]}
    return {
        "calls_a_second_before": round(before),
        "clients": clients,
        "calls_meanwhile": calls,
        "seconds_until_no_row_runs": round(seconds, 3),
        **jobs,
        **samples,
    }


def check(figures: dict[str, float]) -> None:
    """Whatever was let in has ended, one way or another; whatever was asked for was made, or is missing."""
    assert figures["accepted"] == figures["ended"]
    assert figures["asked"] == figures["accounted"]
    assert figures["accepted"] >= figures["clients"]


def test_the_rows_of_clients_that_vanish_are_free_and_the_books_balance() -> None:
    check(vanishing(30, is_shown=False))


@pytest.mark.fault
def test_rows_that_go_on_for_nobody_are_found() -> None:
    """The detector's control: an engine that does not hear that its jobs were cancelled."""
    with pytest.raises(pytest.fail.Exception, match="jobs still run"):
        vanishing(5, is_shown=False, command=PLANTED)


@pytest.mark.fault
def test_1000_clients_vanish() -> None:
    figures = vanishing(1000, is_shown=True)
    record("vanishing", **figures)
    check(figures)
