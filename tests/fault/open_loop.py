"""Calls that come when they come, whether those before are answered or not.

A caller that waits for its answer slows down with the server and hides that it collapses; see "Open Versus
Closed" (Schroeder, Wierman and Harchol-Balter, 2006).
"""

import asyncio
import time
from dataclasses import dataclass, field

import grpc
import numpy as np

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub

CONNECTIONS = 4
Code = grpc.StatusCode


@dataclass
class Offered:
    """What came of calls that were offered at one rate.

    Attributes:
        seconds: that they were offered for.
        latencies: seconds that calls took, by the code of their status.
    """

    seconds: float
    latencies: dict[Code, list[float]] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(map(len, self.latencies.values()))

    @property
    def goodput(self) -> float:
        """Calls a second that were answered."""
        return len(self.latencies.get(Code.OK, ())) / self.seconds

    def quantile(self, share: float, code: Code = Code.OK) -> float:
        """Seconds within which this share of the calls with a status were over."""
        return float(np.quantile(self.latencies.get(code) or [0.0], share))

    def p99(self, code: Code = Code.OK) -> float:
        """Seconds within which 99 of 100 calls with this status were over."""
        return self.quantile(0.99, code)


async def offer(
    address: str, rate: float, seconds: float, request: pb.GenerateRequest, timeout: float
) -> Offered:
    """Make calls at random instants, `rate` of them a second on average."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(CONNECTIONS)]
    stubs = [GenerationServiceStub(channel) for channel in channels]
    offered = Offered(seconds)

    async def call(stub: GenerationServiceStub) -> None:
        begun = time.perf_counter()
        try:
            await stub.Generate(request, timeout=timeout)  # type: ignore[misc]  # the stubs are not of aio
            code = Code.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
        offered.latencies.setdefault(code, []).append(time.perf_counter() - begun)

    warming = (stub.Generate(request, timeout=timeout) for stub in stubs)
    await asyncio.gather(*warming, return_exceptions=True)
    instants = np.cumsum(np.random.default_rng(1).exponential(1 / rate, round(rate * seconds)))
    tasks, begun = [], time.perf_counter()
    for number, instant in enumerate(instants):
        if (ahead := begun + instant - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        tasks.append(asyncio.create_task(call(stubs[number % CONNECTIONS])))
    await asyncio.gather(*tasks)
    for channel in channels:
        await channel.close()
    return offered
