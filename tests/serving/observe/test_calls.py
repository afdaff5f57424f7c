"""Each call is seen: by its method, by how it ends, and by an identifier that goes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.api.caller import Callers
from serving.api.layers import Layers
from serving.api.shield import messages, shielded
from serving.api.transport import Transport
from serving.errors import NotFound
from serving.observe.calls import HEADER, Observing, id_of
from serving.observe.metrics import Metrics
from serving.observe.notes import request_id
from tests.conftest import COMMITTED, host_of
from tests.serving.observe.asking import Scrape, observed
from tests.serving.process import wait_until

Handler = Callable[[bytes, Any], Any]


class Method(grpc.GenericRpcHandler):
    """One method, `/a/B`, that does as it is told."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def service(self, details: Any) -> Any:
        return self._handler if details.method == "/a/B" else None


def calling(handler: Any, call: Callable[[Any], Any], read_timeout: float = 30.0) -> Metrics:
    """Make a call inside all of a server's layers; what was counted."""
    metrics = Metrics(host_of(COMMITTED))

    async def scenario() -> None:
        observing = Observing(metrics)
        layers = Layers(
            observing,
            shielded,
            Callers(),
            Transport(read_timeout),
            messages,
            unknown=observing.unknown,
        )
        layers.add_generic_rpc_handlers((Method(handler),))
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((layers,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await call(channel)
            while metrics.of("a/B").in_flight:
                await asyncio.sleep(0.01)
        await server.stop(None)

    asyncio.run(scenario())
    return metrics


def counted(metrics: Metrics, method: str = "a/B") -> dict[str, float]:
    """How often a method's calls have ended, by code."""
    return {
        s.labels["code"]: s.value
        for family in metrics.registry.collect()
        for s in family.samples
        if s.name == "makemore_calls_total" and s.labels["method"] == method and s.value
    }


async def answer(request: bytes, context: Any) -> bytes:
    return request


async def refuse(request: bytes, context: Any) -> bytes:
    raise NotFound("nowhere")


async def break_down(request: bytes, context: Any) -> bytes:
    raise ValueError("secret")


asleep: list[bytes] = []
"""Requests of the calls that `sleep` has begun."""


async def sleep(request: bytes, context: Any) -> bytes:
    asleep.append(request)
    await asyncio.sleep(30)
    return request


async def ask(channel: Any) -> None:
    call = channel.unary_unary("/a/B")(b"x", timeout=10)
    await asyncio.wait([asyncio.ensure_future(call.code())])


async def ask_in_haste(channel: Any) -> None:
    call = channel.unary_unary("/a/B")(b"x", timeout=1)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def ask_and_leave(channel: Any) -> None:
    asleep.clear()
    call = channel.unary_unary("/a/B")(b"x")
    while not asleep:
        await asyncio.sleep(0.01)
    call.cancel()


@pytest.mark.parametrize(
    ("behaviour", "call", "code"),
    [
        (answer, ask, "OK"),
        (refuse, ask, "NOT_FOUND"),
        (break_down, ask, "INTERNAL"),
        (sleep, ask_in_haste, "DEADLINE_EXCEEDED"),
        (sleep, ask_and_leave, "CANCELLED"),
    ],
)
def test_a_call_is_counted_by_the_code_that_its_caller_got(
    behaviour: Handler, call: Callable[[Any], Any], code: str
) -> None:
    metrics = calling(grpc.unary_unary_rpc_method_handler(behaviour), call)
    assert counted(metrics) == {code: 1}
    assert metrics.of("a/B").in_flight == 0


def test_a_stream_is_counted_when_it_ends() -> None:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        yield request

    async def read(channel: Any) -> None:
        assert [m async for m in channel.unary_stream("/a/B")(b"x")] == [b"x", b"x"]

    assert counted(calling(grpc.unary_stream_rpc_method_handler(stream), read)) == {"OK": 1}


def test_a_stream_that_is_not_read_is_counted_as_cut() -> None:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2**16

    async def stall(channel: Any) -> None:
        call = channel.unary_stream("/a/B")(b"x")
        await asyncio.sleep(0.7)
        call.cancel()

    metrics = calling(grpc.unary_stream_rpc_method_handler(stream), stall, read_timeout=0.2)
    assert counted(metrics) == {"RESOURCE_EXHAUSTED": 1}


def test_methods_that_there_are_not_are_counted_as_one() -> None:
    async def guess(channel: Any) -> None:
        for name in ("/a/C", "/x/y", "/../"):
            call = channel.unary_unary(name)(b"x")
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED

    metrics = calling(grpc.unary_unary_rpc_method_handler(answer), guess)
    assert counted(metrics, "unknown") == {"UNIMPLEMENTED": 3}


def test_identifiers_are_taken_if_they_are_well_formed_and_made_if_not() -> None:
    assert id_of([("a", "b"), (HEADER, "order-7/x.1")]) == "order-7/x.1"
    made = [id_of([(HEADER, bad)]) for bad in ("", "a b", "a\nb", "x" * 129, "é")]
    made += [id_of([]), id_of([(HEADER, b"bytes")])]
    assert len(set(made)) == len(made)
    assert all(id_of([(HEADER, one)]) == one for one in made)


def test_the_identifier_is_known_inside_the_call_and_nowhere_else() -> None:
    async def tell(request: bytes, context: Any) -> bytes:
        return request_id().encode()

    async def several(channel: Any) -> None:
        method = channel.unary_unary("/a/B")
        asked = [f"n{i}" for i in range(20)]
        calls = [method(b"", metadata=((HEADER, one),)) for one in asked]
        assert [(await call).decode() for call in calls] == asked

    calling(grpc.unary_unary_rpc_method_handler(tell), several)
    assert request_id() == ""


@pytest.mark.parametrize("n", [1, -1])
def test_the_caller_gets_the_identifier_back_beside_an_errors_details(n: int) -> None:
    with observed() as (server, _), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = GenerationServiceStub(channel)
        call = stub.Generate.future(pb.GenerateRequest(n=n), metadata=((HEADER, "mine"),))
        call.exception()
        assert tuple(v for k, v in call.trailing_metadata() if k == HEADER) == ("mine",)
        status = rpc_status.from_call(call)
        assert bool(status and status.details) == (n < 0)


def test_streams_give_the_identifier_back_too() -> None:
    with observed() as (server, address):
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub: Any = GenerationServiceStub(channel)
            asked = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=3))
            call = stub.StreamGenerate(asked)
            assert sum(len(message.samples) for message in call) == 3
            assert any(key == HEADER and value for key, value in call.trailing_metadata())
        wait_until(lambda: not Scrape(address).total("makemore_calls_in_flight"))
