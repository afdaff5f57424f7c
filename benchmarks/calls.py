"""Calls over gRPC beside a bare echo of the same messages: rate, latency, and who waits for whom."""

import asyncio
import multiprocessing
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks import tables
from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.repository import load_version
from trainer.compare import step_speed

AT_ONCE = 64
SECONDS = 2.0
TURNS = 3
METHOD = "/makemore.v1.GenerationService/Generate"
NONE_AHEAD = ("--ahead", "0")
REQUEST = pb.GenerateRequest(n=1)


def echo_server(response: bytes, port: Any) -> None:
    """A grpc.aio server that answers every call with the same bytes."""

    async def serve() -> None:
        async def call(request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
            return answer

        answer = pb.GenerateResponse.FromString(response)
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=pb.GenerateRequest.FromString,
            response_serializer=pb.GenerateResponse.SerializeToString,
        )
        service = METHOD.split("/")[1]
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"Generate": handler})]
        )
        port.value = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


@asynccontextmanager
async def echo(response: bytes) -> AsyncIterator[GenerationServiceStub]:
    """A client of an echo in a process of its own."""
    context = multiprocessing.get_context("spawn")
    port = context.Value("i", 0)
    process = context.Process(target=echo_server, args=(response, port), daemon=True)
    process.start()
    while not port.value:
        await asyncio.sleep(0.05)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port.value}") as channel:
        yield GenerationServiceStub(channel)
    process.terminate()
    process.join()


@asynccontextmanager
async def server(repository: Path, *flags: str) -> AsyncIterator[str]:
    """`makemore serve` in a process of its own, once it serves: its address."""
    command = [sys.executable, "-m", "serving", "serve", "--repository", str(repository)]
    flags = ("--default-model", "names", "--lame-duck", "0", *flags)
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = process.stdout.readline().rsplit(":", 1)[1].strip()
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


@asynccontextmanager
async def ours(repository: Path, *flags: str) -> AsyncIterator[GenerationServiceStub]:
    """A client of a server of ours."""
    async with (
        server(repository, *flags) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield GenerationServiceStub(channel)


async def rate(stub: GenerationServiceStub) -> float:
    """Calls a second, so many at once."""
    made = 0

    async def caller(until: float) -> None:
        nonlocal made
        while time.perf_counter() < until:
            await stub.Generate(REQUEST)  # type: ignore[misc]
            made += 1

    for seconds in (1.0, SECONDS):
        made, begun = 0, time.perf_counter()
        await asyncio.gather(*(caller(begun + seconds) for _ in range(AT_ONCE)))
    return made / (time.perf_counter() - begun)


async def latencies(stub: GenerationServiceStub, calls: int, pause: float) -> list[float]:
    """Seconds that each of some calls takes, one after the other."""
    found = []
    for _ in range(calls):
        begun = time.perf_counter()
        await stub.Generate(REQUEST)  # type: ignore[misc]
        found.append(time.perf_counter() - begun)
        await asyncio.sleep(pause)
    return found


async def beside_a_stream(
    stub: GenerationServiceStub, measure: Callable[[], Awaitable[list[float]]]
) -> list[float]:
    """The same while a call streams 100,000 strings, again and again."""

    async def read() -> None:
        while True:
            request = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=100_000))
            stream: Any = stub.StreamGenerate(request)
            async for _ in stream:
                pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.5)
    found = await measure()
    reading.cancel()
    return found


async def p99s(stub: GenerationServiceStub) -> tuple[float, float]:
    """The p99 of a call's latency at 50 a second, idle and beside a stream: by turns, medians of three."""
    found = []
    for _ in range(TURNS):
        calm = await latencies(stub, 200, 0.02)
        busy = await beside_a_stream(stub, lambda: latencies(stub, 200, 0.02))
        found.append((np.quantile(calm, 0.99), np.quantile(busy, 0.99)))
        await asyncio.sleep(0.5)  # what was left of the stream ends
    quiet, busy_p99 = np.median(found, axis=0)
    return float(quiet), float(busy_p99)


def rows(repository: Path) -> list[list[str]]:
    """The lines of the table."""
    return asyncio.run(_rows(repository))


async def by_turns(
    measure: Callable[[GenerationServiceStub], Awaitable[float]], *stubs: GenerationServiceStub
) -> list[float]:
    """The medians of what is measured of each, by turns, since a shared machine changes its speed."""
    found = [[await measure(stub) for stub in stubs] for _ in range(TURNS)]
    return [float(value) for value in np.median(found, axis=0)]


async def idle(stub: GenerationServiceStub) -> float:
    """The median latency of calls one after the other."""
    return float(np.median(await latencies(stub, 200, 0.0)))


async def _rows(repository: Path) -> list[list[str]]:
    async with ours(repository) as stub, ours(repository, *NONE_AHEAD) as without:
        answer: Any = await without.Generate(REQUEST)  # type: ignore[misc]
        quiet, busy = await p99s(without)
        async with echo(answer.SerializeToString()) as bare_stub:
            latency, ahead_idle, echo_idle = await by_turns(idle, without, stub, bare_stub)
            our_rate, rate_without, echo_rate = await by_turns(rate, stub, without, bare_stub)
    session = load_version(repository / "names" / "2").session
    step = 2 / step_speed(session, 2)
    bare = echo_idle + 8 * step
    large = 256 / step_speed(session, 256)
    at_once = f"Generate(n = 1), {AT_ONCE} at once"
    return [
        tables.beside(at_once, "a bare echo", our_rate, echo_rate, "calls/s"),
        tables.beside(
            f"{at_once}, nothing drawn ahead", "a bare echo", rate_without, echo_rate, "calls/s"
        ),
        tables.beside(
            "Generate(n = 1), idle", "the echo and 8 bare steps", 1e6 * latency, 1e6 * bare, "us"
        ),
        tables.beside(
            "the same one after the other, drawn ahead",
            "the echo and 8 bare steps",
            1e6 * ahead_idle,
            1e6 * bare,
            "us",
        ),
        tables.beside(
            "p99 of Generate(n = 1) beside a stream of 100,000",
            "twice the idle p99 and a step of 256",
            1e6 * busy,
            1e6 * (2 * quiet + large),
            "us",
        ),
    ]
