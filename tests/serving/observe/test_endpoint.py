"""/metrics, /healthz and /readyz: they answer, and are not held up."""

import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from prometheus_client import CollectorRegistry

from serving.errors import InvalidArgument, Unavailable
from serving.observe import endpoint as endpoint_module
from serving.observe.config import ObserveConfig
from serving.observe.endpoint import MOST, Endpoint
from tests.serving.observe.asking import observed, page
from tests.serving.process import wait_until


def test_a_server_is_healthy_and_ready_until_it_is_to_end() -> None:
    with observed() as (server, address):
        assert page(address, "/healthz") == (200, "ok\n")
        assert page(address, "/readyz") == (200, "ok\n")
        server.observation.set_ready(False)
        assert page(address, "/readyz") == (503, "starting, or about to end\n")
        assert page(address, "/healthz") == (200, "ok\n")
    with pytest.raises(OSError, match="refused"):
        page(address, "/healthz")


def test_a_server_without_one_of_its_engines_is_neither_healthy_nor_ready() -> None:
    with observed() as (server, address):
        (engine,) = server.host.running()
        engine.stop()
        for path in ("/healthz", "/readyz"):
            assert page(address, path) == (503, "the engine of names@2 has ended\n")


def test_no_other_page_is_there() -> None:
    with observed() as (_, address):
        status, text = page(address, "/metrics/../etc")
        assert status == 404
        assert "/healthz" in text


def test_an_address_that_is_taken_is_told_with_the_flag_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = Endpoint(f"127.0.0.1:{taken.getsockname()[1]}", CollectorRegistry(), {})
        with pytest.raises(Unavailable, match="already in use; choose another with --metrics-lis"):
            endpoint.start()


def test_it_listens_on_the_other_internet_protocol_too() -> None:
    endpoint = Endpoint("[::1]:0", CollectorRegistry(), {"/x": lambda: ""})
    try:
        endpoint.start()
    except Unavailable as error:
        pytest.skip(str(error))
    assert page(endpoint.address, "/x") == (200, "ok\n")
    endpoint.stop()


def test_those_who_connect_and_say_nothing_are_gone_after_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint_module, "PATIENCE", 0.2)
    endpoint = Endpoint("127.0.0.1:0", CollectorRegistry(), {"/x": lambda: ""})
    endpoint.start()
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(2 * MOST):
            stack.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))
        found, end = None, time.monotonic() + 20
        while found != (200, "ok\n"):  # until one of those who wait before it is gone
            assert threading.active_count() <= before + MOST
            assert time.monotonic() < end
            with suppress(OSError):
                found = page(endpoint.address, "/x")
    endpoint.stop()


def answering() -> int:
    """How many requests are being answered."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("sent", [b"GET /x HTTP/1.1\r\nX: ", b"GET /x HTTP/1.1\r\n\r\n"])
def test_those_who_send_or_read_a_byte_at_a_time_are_gone_after_a_time(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "PATIENCE", 3.0)
    endpoint = Endpoint("127.0.0.1:0", CollectorRegistry(), {"/x": lambda: "x" * 2**24})
    endpoint.start()
    with ExitStack() as stack:
        dripping = [
            stack.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))
            for _ in range(4)
        ]
        for one in dripping:
            one.sendall(sent)
        wait_until(lambda: answering() == 4)
        end = time.monotonic() + 20
        while answering():
            assert time.monotonic() < end
            for one in dripping:
                with suppress(OSError):
                    one.send(b"x") if sent.endswith(b" ") else one.recv(1)
            time.sleep(0.05)
    assert page(endpoint.address, "/x")[0] == 503
    endpoint.stop()


def test_each_worker_has_a_port_of_its_own() -> None:
    config = ObserveConfig("127.0.0.1:9464")
    assert [config.of_worker(i).metrics_listen for i in range(2)] == [
        "127.0.0.1:9464",
        "127.0.0.1:9465",
    ]
    assert ObserveConfig("[::1]:0").of_worker(3).metrics_listen == "[::1]:0"
    assert ObserveConfig().of_worker(3) == ObserveConfig()
    with pytest.raises(InvalidArgument, match="metrics_listen"):
        ObserveConfig("127.0.0.1:65535").of_worker(1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("metrics_listen", "9464"), ("log_format", "xml"), ("log_level", "loud")],
)
def test_a_configuration_out_of_range_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ObserveConfig(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
