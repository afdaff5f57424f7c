"""What is read from a page of metrics, and what is made of two of them."""

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry

from serving.errors import InvalidArgument, NoServer, Unavailable
from serving.observe.endpoint import Endpoint
from serving.observe.glance import method_glances, model_glances, server_glance
from serving.observe.reading import Look, look_at

PAGE = """
# TYPE makemore_ready gauge
makemore_ready 1
# TYPE makemore_uptime_seconds gauge
makemore_uptime_seconds 100
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
# TYPE makemore_calls counter
makemore_calls_total{{method="a/B",code="OK"}} {calls}
makemore_calls_total{{method="a/B",code="NOT_FOUND"}} 5
# TYPE makemore_call_seconds histogram
makemore_call_seconds_bucket{{method="a/B",le="0.1"}} 0
makemore_call_seconds_bucket{{method="a/B",le="0.2"}} {calls}
makemore_call_seconds_bucket{{method="a/B",le="+Inf"}} {calls}
makemore_call_seconds_count{{method="a/B"}} {calls}
makemore_call_seconds_sum{{method="a/B"}} 1
# TYPE makemore_model_info gauge
makemore_model_info{{model="names",version="2",architecture="lstm",digest="5b\\nfb"}} 1
# TYPE makemore_rows gauge
makemore_rows{{model="names",version="2",lane="light"}} 3
makemore_rows{{model="names",version="2",lane="heavy"}} 4
# TYPE makemore_prefix_cache_hits counter
makemore_prefix_cache_hits_total{{model="names",version="2"}} 30
# TYPE makemore_prefix_cache_misses counter
makemore_prefix_cache_misses_total{{model="names",version="2"}} 10
"""


def look(at: float, cpu: float = 0, calls: float = 0) -> Look:
    return Look.parse(PAGE.format(cpu=cpu, calls=calls), at)


def test_figures_are_of_what_happened_between_two_looks() -> None:
    before, now = look(200, 10, 100), look(210, 15, 300)
    grown = now.since(before)
    server = server_glance(now, grown)
    assert (server.is_ready, server.uptime, server.processors) == (True, 100, 0.5)
    (method,) = method_glances(now, grown)
    assert (method.name, method.calls, method.errors) == ("B", 20, {})
    assert method.median == pytest.approx(0.15)
    assert method.high == pytest.approx(0.199)


def test_figures_since_the_start_are_of_all_that_happened() -> None:
    now = look(200, 10, 100)
    grown = now.since(Look(now.at - now.total("makemore_uptime_seconds"), {}))
    (method,) = method_glances(now, grown)
    assert method.errors == {"NOT_FOUND": 0.05}
    (model,) = model_glances(now, grown)
    assert (model.name, model.rows, model.cached) == ("names@2", 7, 0.75)
    assert model.step_median is None


def test_a_counter_that_began_anew_has_counted_what_it_tells() -> None:
    grown = look(210, 1, 2).since(look(200, 10, 100))
    assert grown.total("makemore_calls_total", code="OK") == 2


def test_several_servers_add_up() -> None:
    every = Look.together([look(200, 1, 2), look(201, 3, 5)])
    assert every.at == 201
    assert every.total("makemore_calls_total", code="OK") == 7


def test_what_a_page_quotes_cannot_steer_a_terminal() -> None:
    (key,) = look(0).by("makemore_model_info", "digest")
    assert key == ("5b\\nfb",)


def test_quantiles_of_nothing_and_beyond_the_last_bound() -> None:
    labels = frozenset({("le", "1.0")})
    beyond = frozenset({("le", "+Inf")})
    assert Look(0, {}).quantile(0.5, "x") is None
    assert Look(0, {("x_bucket", beyond): 0.0}).quantile(0.5, "x") is None
    values = {("x_bucket", labels): 1.0, ("x_bucket", beyond): 10.0}
    assert Look(0, values).quantile(0.5, "x") == 1.0
    assert Look(0, values).quantile(0.05, "x") == pytest.approx(0.5)
    assert not math.isinf(Look(0, values).quantile(1.0, "x") or math.inf)


@contextmanager
def other(path: str) -> Iterator[str]:
    """Something else that answers HTTP."""
    endpoint = Endpoint("127.0.0.1:0", CollectorRegistry(), {path: lambda: ""})
    endpoint.start()
    yield endpoint.address
    endpoint.stop()


def test_who_is_no_server_of_ours_is_told_apart_from_nobody() -> None:
    with other("/x") as address, pytest.raises(Unavailable, match="not of a makemore server"):
        look_at(address, 5)
    with pytest.raises(NoServer, match=r"no metrics at .*; start the server with"):
        look_at(address, 5)
    with pytest.raises(InvalidArgument, match="is not host:port"):
        look_at("nowhere", 5)
    with other("/metrics") as address, pytest.raises(Unavailable, match="not of a makemore server"):
        look_at(address, 5)


@contextmanager
def liar(*parts: bytes, drips: bool = False) -> Iterator[str]:
    """Who answers one request with these parts, and then, if so, a byte every now and then without end."""

    def answer() -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"".join(parts))
            while drips and not over.wait(0.02):
                connection.sendall(b"#")

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


OK = b"HTTP/1.0 200 OK\r\n\r\n"
READY, UPTIME = b"makemore_ready 1\n", b"makemore_uptime_seconds 5\n"


@pytest.mark.parametrize(
    "page",
    [
        *(
            READY + b"makemore_uptime_seconds " + n
            for n in (b"NaN\n", b"+Inf\n", b"-1\n", b"1e31\n")
        ),
        *(READY + UPTIME + b'a_bucket{le="' + bound + b'"} 1\n' for bound in (b"x", b"", b"NaN")),
        READY + UPTIME + b"a_bucket 1\n",
        READY,
        UPTIME,
        READY + UPTIME + b"\xff",
    ],
)
def test_a_page_with_values_that_ours_have_not_is_refused_with_its_address(page: bytes) -> None:
    with (
        liar(OK, page) as address,
        pytest.raises(Unavailable, match=f"^http://{address}/metrics is not of a makemore server"),
    ):
        look_at(address, 5)


def test_a_page_that_ends_before_its_end_is_refused() -> None:
    parts = (b"HTTP/1.0 200 OK\r\nContent-Length: 5000\r\n\r\n", READY, UPTIME)
    with liar(*parts) as address, pytest.raises(Unavailable, match="ends before its end"):
        look_at(address, 5)


@pytest.mark.parametrize("parts", [(b"HTTP/1.0 200 OK\r\nX: ",), (OK, READY, UPTIME)])
def test_a_page_that_comes_a_byte_at_a_time_is_waited_for_no_longer_than_others(
    parts: tuple[bytes, ...],
) -> None:
    with liar(*parts, drips=True) as address, pytest.raises(NoServer, match="timed out"):
        look_at(address, 0.3)


def test_a_server_that_has_just_started_has_done_nothing_a_second() -> None:
    now = Look.parse("makemore_ready 1\nmakemore_uptime_seconds 0\n", 200)
    assert server_glance(now, now.since(Look(now.at, {}))).processors == 0
