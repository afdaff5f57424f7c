import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from makemore.v1 import generation_service_pb2 as pb
from serving import options
from serving.api.health import NOT_SERVING
from serving.client import Client
from serving.config import ServerConfig
from serving.errors import (
    ClientClosed,
    InvalidArgument,
    NoServer,
    ServingError,
    TooLarge,
    Unavailable,
    UnexpectedStatus,
)
from serving.limits import MAX_STREAM_N
from serving.testing import running
from tests.conftest import COMMITTED


@contextmanager
def answering(generate: Callable[[pb.GenerateRequest, Any], pb.GenerateResponse]) -> Iterator[str]:
    """The address of a server that has the method Generate alone, and nothing of ours around it."""
    handler = grpc.unary_unary_rpc_method_handler(
        generate, pb.GenerateRequest.FromString, pb.GenerateResponse.SerializeToString
    )
    service = grpc.method_handlers_generic_handler(
        "makemore.v1.GenerationService", {"Generate": handler}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_no_server_is_told_as_such() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(NoServer, match="no server answers at"):
        client.generate()


def test_a_proxy_is_not_asked_for_this_machine(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Client(address) as client:
        assert client.generate().samples


def test_a_server_that_is_there_but_not_serving_is_told_as_such() -> None:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        server._health.set("", NOT_SERVING)
        with (
            Client(f"127.0.0.1:{server.port}", timeout=20) as client,
            pytest.raises(Unavailable, match="is not serving; try again"),
        ):
            client.generate()


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf")])
def test_a_timeout_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout: must be"):
        Client("127.0.0.1:1", timeout)


def test_a_value_that_no_field_can_hold_is_an_invalid_argument() -> None:
    with Client("127.0.0.1:1") as client:
        for asked in ({"n": 2**31}, {"seed": -1}, {"prefix": "\ud800"}):
            with pytest.raises(InvalidArgument):
                client.generate(**asked)
        for ask in (
            lambda: list(client.stream(n="many")),  # type: ignore[arg-type]
            lambda: list(client.stream(exclude=["\ud800"])),
            lambda: client.list_top_strings(n=1.5),  # type: ignore[arg-type]
            lambda: client.list_top_strings(temperature=1.0),
            lambda: client.score(["\ud800"]),
            lambda: client.score(None),  # type: ignore[arg-type]
            lambda: client.score(["a"], characters="yes"),  # type: ignore[arg-type]
            lambda: client.next_characters("em"),
            lambda: client.next_characters(["em"], top=2**31),
            lambda: client.get_model("\ud800"),
            lambda: client.health("\ud800"),
            lambda: client.health(5),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidArgument):
                ask()


@pytest.mark.parametrize("address", ["\ud800", 5, None, b"127.0.0.1:1"])
def test_an_address_that_is_no_text_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="address: "):
        Client(address)


METHODS: dict[str, Callable[[Client], object]] = {
    "generate": lambda client: client.generate(),
    "stream": lambda client: list(client.stream()),
    "score": lambda client: client.score(["a"]),
    "next_characters": lambda client: client.next_characters(["a"]),
    "list_top_strings": lambda client: client.list_top_strings(),
    "get_model": lambda client: client.get_model(),
    "list_models": lambda client: list(client.list_models()),
    "health": lambda client: client.health(),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_closed_client_says_that_it_is_closed(address: str, method: str) -> None:
    client = Client(address)
    client.generate()
    client.close()
    client.close()
    with pytest.raises(ClientClosed, match="the client is closed"):
        METHODS[method](client)


def test_a_stream_ends_when_its_client_is_closed(address: str) -> None:
    client = Client(address)
    messages = client.stream(n=MAX_STREAM_N)
    next(messages)
    client.close()
    with pytest.raises(ClientClosed, match="the client is closed"):
        list(messages)


def test_a_call_under_way_ends_when_its_client_is_closed() -> None:
    """Of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"127.0.0.1:{server.getsockname()[1]}")
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.generate)
            server.accept()[0].close()
            client.close()
            with pytest.raises((ClientClosed, NoServer, Unavailable)):
                call.result(60)


def test_the_code_of_a_status_without_a_class_of_its_own_is_kept() -> None:
    codes = [
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.ABORTED,
    ]
    with (
        answering(lambda request, context: context.abort(codes[request.n], "why")) as address,
        Client(address) as client,
    ):
        for number, code in enumerate(codes):
            expected = rf"^why \(status {code.name}\)$"
            with pytest.raises(UnexpectedStatus, match=expected) as caught:
                client.generate(n=number)
            assert caught.value.code == code.name


def test_a_method_that_a_server_lacks_is_told_by_its_code() -> None:
    with (
        answering(lambda request, context: pb.GenerateResponse()) as address,
        Client(address) as client,
        pytest.raises(UnexpectedStatus, match="UNIMPLEMENTED"),
    ):
        client.score(["a"])


@pytest.mark.parametrize(
    "details", [b"\xff", status_pb2.Status(code=5, message="other").SerializeToString()]
)
def test_details_that_somebody_has_changed_hide_no_error(details: bytes) -> None:
    def fail(request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "why")

    with (
        answering(fail) as address,
        Client(address) as client,
        pytest.raises(InvalidArgument, match="request: why"),
    ):
        client.generate()


@pytest.mark.parametrize("characters", [False, True])
@pytest.mark.parametrize("model", ["lstm", "bigram"])
def test_any_number_of_texts_of_any_length_is_scored(
    client: Client, model: str, characters: bool
) -> None:
    texts = [*["é" * 300] * 4096, *["anna"] * 5000, "a" * 100_000, *["emma" * 2] * 9]
    scores = client.score(iter(texts), model=model, characters=characters)
    assert len(scores) == len(texts)
    assert scores[4096].status == pb.SCORE_STATUS_OK
    assert len(scores[-1].characters) == (9 if characters else 0)


@pytest.mark.parametrize("limit", ["answer", "request", "received"])
def test_chunks_get_smaller_where_a_limit_is_lower_than_the_client_knows(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit == "answer":
        monkeypatch.setattr("serving.api.shield.MAX_ANSWER", 4000)
    if limit == "request":
        monkeypatch.setitem(options.OPTIONS, "grpc.max_receive_message_length", 1000)
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        if limit == "received":
            monkeypatch.setattr("serving.client.MAX_ANSWER", 4000)
        with Client(f"127.0.0.1:{server.port}") as client:
            prefixes = [prefix for letter in "abcdefgh" for prefix in [letter, "em", "an"] * 40]
            found = client.next_characters(prefixes)
            assert len(found) == len(prefixes)
            assert found[1] == found[-2] != found[0]
            assert len(client.score(prefixes, characters=True)) == len(prefixes)
            assert [model.name for model in client.list_models()] == ["models/names@2"]


def test_models_come_on_smaller_pages_where_they_are_large(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        running(ServerConfig(repository, "127.0.0.1:0", "lstm")) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        every = list(client.list_models())
        largest = max(model.ByteSize() for model in every)
        monkeypatch.setattr("serving.api.shield.MAX_ANSWER", 2 * largest)
        assert list(client.list_models()) == every
        monkeypatch.setattr("serving.api.shield.MAX_ANSWER", largest // 2)
        with pytest.raises(TooLarge, match="its answer has"):
            list(client.list_models())


def test_a_prefix_among_many_is_named_by_its_place(client: Client) -> None:
    with pytest.raises(InvalidArgument, match=r"^prefixes\[1500\]: the character 'Z'"):
        client.next_characters([*["em"] * 1500, "Z"])


def test_what_can_never_be_sent_is_refused_before_it_is_sent() -> None:
    long = "a" * 2**21
    with Client("127.0.0.1:1") as client:  # where nobody is
        with pytest.raises(TooLarge, match=r"texts\[0\]: has 2,097,157 bytes"):
            client.score([long])
        for ask, place in (
            (lambda: client.generate(exclude=[long[:200]] * 9000), r"constraints\.exclude"),
            (lambda: list(client.stream(n=5, exclude=[long])), r"request\.constraints\.exclude"),
            (lambda: client.generate(long, 1000), "prefix"),
            (lambda: client.list_top_strings(exclude=[long]), r"constraints\.exclude"),
            (lambda: client.list_top_strings(long), "prefix"),
            (lambda: client.get_model(long), "name"),
        ):
            with pytest.raises(
                TooLarge, match=rf"has [0-9,]+ bytes, most of them in {place}; at most 1,048,576"
            ):
                ask()


def test_a_text_that_is_too_large_is_named_by_its_place(client: Client) -> None:
    with pytest.raises(TooLarge, match=r"^texts\[3\]: has 2,097,157 bytes"):
        client.score(["a", "b", "c", "é" * 2**20])


def test_an_answer_that_is_too_large_is_told_as_what_no_time_mends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        monkeypatch.setattr("serving.client.MAX_ANSWER", 4000)
        with Client(f"127.0.0.1:{server.port}") as client:
            for ask in (lambda: client.generate(n=1000), lambda: client.list_top_strings(n=1000)):
                with pytest.raises(
                    TooLarge, match=r"its answer has .*: ask for less at a time"
                ) as caught:
                    ask()
                assert "try again" not in str(caught.value)


def test_every_error_of_a_call_is_one_of_ours(client: Client) -> None:
    with pytest.raises(ServingError):
        client.generate(model="\n" * 70_000)


def test_the_client_needs_neither_onnxruntime_nor_numpy() -> None:
    program = (
        "import sys, serving.client; "
        "sys.exit(bool({'numpy', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
