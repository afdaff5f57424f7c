"""Callers that ask a server all the time, while something goes wrong with it."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub

LEAST = 200
"""Calls a second without which nothing is shown by a fault that does no harm."""
WRONG = "wrong answer"

Ask = Callable[[GenerationServiceStub, int], Any]


def one_string(stub: GenerationServiceStub, number: int) -> Any:
    """The usual call: the answers of even numbers may be made ahead, those of odd ones are drawn for them."""
    sampling = pb.Sampling(seed=number) if number % 2 else None
    return stub.Generate(pb.GenerateRequest(sampling=sampling), timeout=30)


class Load:
    """Callers in threads of their own, each with a connection that retries nothing.

    Attributes:
        calls: how many have ended.
        failures: how many of them were not answered, by the status's name and text, or wrongly.
    """

    def __init__(self, address: str, ask: Ask = one_string, callers: int = 2) -> None:
        self.calls = 0
        self.failures: Counter[str] = Counter()
        self._address = address
        self._ask = ask
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, caller: int) -> None:
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        number = caller
        with grpc.insecure_channel(self._address, options) as channel:
            stub = GenerationServiceStub(channel)
            while not self._stop.is_set():
                try:
                    self._ask(stub, number)
                    failure = None
                except grpc.RpcError as error:
                    call: Any = error
                    failure = f"{call.code().name}: {call.details()}"
                except AssertionError:
                    failure = WRONG
                with self._lock:
                    self.calls += 1
                    if failure is not None:
                        self.failures[failure] += 1
                number += len(self._threads)

    def wait_for(self, calls: int, patience: float = 60) -> None:
        """Until so many more calls have ended."""
        wanted, end = self.calls + calls, time.monotonic() + patience
        while self.calls < wanted:
            assert time.monotonic() < end, f"{calls} calls do not end; {dict(self.failures)}"
            time.sleep(0.01)

    def rate(self, seconds: float = 2) -> float:
        """Calls a second, measured now; too few make the test void."""
        before, begun = self.calls, time.perf_counter()
        time.sleep(seconds)
        rate = (self.calls - before) / (time.perf_counter() - begun)
        if rate < LEAST:
            pytest.fail(f"void: {rate:.0f} calls a second before the fault, not {LEAST}")
        return rate
