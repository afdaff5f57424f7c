"""Calls that come when they come, whether those before are answered or not.

A caller that waits for its answer slows down with the server and hides that it collapses; see "Open Versus
Closed" (Schroeder, Wierman and Harchol-Balter, 2006).
"""

import select
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field

import grpc
import numpy as np

from makemore.v1 import generation_service_pb2 as pb
from tests.fault.raw import RawCalls

METHOD = "/makemore.v1.GenerationService/Generate"
CONNECTIONS = 8
LOOK = 0.1
"""Seconds between two looks at the calls whose time is up."""
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


def offer(
    address: str, rate: float, seconds: float, request: pb.GenerateRequest, timeout: float
) -> Offered:
    """Make calls at random instants, `rate` of them a second on average."""
    instants = np.cumsum(np.random.default_rng(1).exponential(1 / rate, round(rate * seconds)))
    offered = Offered(seconds)
    with ExitStack() as stack:
        every = [
            stack.enter_context(RawCalls(address, METHOD, request, timeout))
            for _ in range(CONNECTIONS)
        ]
        begun, todo = time.perf_counter(), deque(instants.tolist())
        while todo or any(connection.under_way for connection in every):
            while todo and begun + todo[0] <= time.perf_counter():
                todo.popleft()
                every[len(todo) % CONNECTIONS].call()
            ahead = begun + todo[0] - time.perf_counter() if todo else LOOK
            ready, _, _ = select.select(every, (), (), min(max(ahead, 0.0), LOOK))
            for code, took in (over for one in ready for over in one.statuses()):
                offered.latencies.setdefault(code, []).append(took)
            if late := sum(connection.late() for connection in every):
                offered.latencies.setdefault(Code.DEADLINE_EXCEEDED, []).extend([timeout] * late)
    return offered
