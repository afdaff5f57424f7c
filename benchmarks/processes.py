"""A server as a process: how soon it serves, what it holds, what a second one adds, what the tree spares."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np

from benchmarks import calls, tables
from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub

SECONDS, TURNS = 5.0, 3
CONNECTIONS = 16
START, MEMORY = 1.5, 150.0
"""What is allowed: seconds, megabytes."""
RESIDENT = "(?:engines_)?process_resident_memory_bytes"
"""Of both processes; what they share is counted twice."""


def rows(committed: Path, ten: Path) -> Iterator[list[str]]:
    """The lines of the table; `ten` is a repository of ten models."""
    starts = [asyncio.run(_start(ten)) for _ in range(5)]
    yield tables.beside("start with ten models", "allowed", 1e3 * median(starts), 1e3 * START, "ms")
    for what, megabytes in asyncio.run(_memory(committed)):
        yield tables.beside(f"resident memory, {what}", "allowed", megabytes, MEMORY, "MB")
    found = [[asyncio.run(_rate(committed, workers)) for workers in (1, 2)] for _ in range(TURNS)]
    one, two = (median(rates) for rates in zip(*found, strict=True))  # the kernel spreads by chance
    yield tables.beside(
        "Generate(n = 500), 16 at once, engines in threads, --workers 2",
        "--workers 1",
        two,
        one,
        "strings/s",
    )
    yield from asyncio.run(_tree(committed))


async def _start(repository: Path) -> float:
    begun = time.perf_counter()
    async with calls.server(repository, "--default-model", "lstm"):
        return time.perf_counter() - begun


async def _memory(repository: Path) -> list[tuple[str, float]]:
    metrics = _free_address()
    async with calls.ours(repository, "--metrics-listen", metrics) as stub:
        before = _metric(metrics, RESIDENT)
        await stub.Generate(pb.GenerateRequest(n=1000))  # type: ignore[misc]
        stream: Any = stub.StreamGenerate(
            pb.StreamGenerateRequest(request=pb.GenerateRequest(n=100_000))
        )
        async for _ in stream:
            pass
        after = _metric(metrics, RESIDENT)
    return [("serving", before / 1e6), ("after 100,000 strings, its tree full", after / 1e6)]


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def _metric(address: str, name: str) -> float:
    """All values of the metrics whose name this is, a regular expression."""
    with urlopen(f"http://{address}/metrics", timeout=10) as response:
        text = response.read().decode()
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


async def _rate(repository: Path, workers: int) -> float:
    """Of callers whose calls are mostly the model's work, so that the client takes little of the machine."""
    flags = ("--engines", "thread", "--prefix-cache", "0", "--workers", str(workers))
    async with _channels(repository, *flags) as stubs:
        made = 0

        async def caller(stub: GenerationServiceStub, until: float) -> None:
            nonlocal made
            while time.perf_counter() < until:
                await stub.Generate(pb.GenerateRequest(n=500))  # type: ignore[misc]
                made += 500

        for seconds in (1.0, SECONDS):
            made, begun = 0, time.perf_counter()
            await asyncio.gather(*(caller(stub, begun + seconds) for stub in stubs))
        return made / (time.perf_counter() - begun)


@asynccontextmanager
async def _channels(repository: Path, *flags: str) -> Any:
    """Many connections, which the kernel spreads over the workers."""
    async with calls.server(repository, *flags) as address:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(address, options) for _ in range(CONNECTIONS)]
        yield [GenerationServiceStub(channel) for channel in channels]
        for channel in channels:
            await channel.close()


async def _tree(repository: Path) -> list[list[str]]:
    """Calls of one string, each drawn when it is asked for, with the tree and without it."""
    async with calls.ours(repository, "--prefix-cache", "0", *calls.NONE_AHEAD) as stub:
        await calls.latencies(stub, 20, 0.0)
        without = await calls.latencies(stub, 300, 0.0)
        rate_without = await calls.rate(stub)
    metrics = _free_address()
    async with calls.ours(repository, "--metrics-listen", metrics, *calls.NONE_AHEAD) as stub:
        await calls.latencies(stub, 1, 0.0)
        cold = await calls.latencies(stub, 50, 0.0)
        rate = await calls.rate(stub)
        hits, misses = (
            _metric(metrics, f"makemore_prefix_cache_{w}_total") for w in ("hits", "misses")
        )
        warm = await calls.latencies(stub, 300, 0.0)
    share = hits / (hits + misses)
    what = "Generate(n = 1)"
    return [
        _latency(f"{what}, idle, tree from cold", cold, without),
        _latency(f"{what}, idle, tree warm", warm, without),
        tables.beside(
            f"{what}, 64 at once, tree ({share:.0%} hits)", "no tree", rate, rate_without, "calls/s"
        ),
    ]


def _latency(what: str, ours: list[float], without: list[float]) -> list[str]:
    here, there = (1e6 * float(np.median(took)) for took in (ours, without))
    return tables.beside(what, "no tree", here, there, "us")
