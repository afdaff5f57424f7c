"""Five times the load that a server can carry: it does what it can, and refuses the rest at once."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from tests.conftest import COMMITTED
from tests.fault.figures import record
from tests.fault.load import LEAST
from tests.fault.open_loop import Offered, offer
from tests.serving.process import SERVE, serving

OPEN_DOOR = [sys.executable, "-m", "tests.fault.planted", "open_door", "serve"]
OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
TIMEOUT = 5.0
TIMES = 3
"""Five times as much is offered so often, since others may use the machine at one time or another."""
STRINGS = int(os.environ.get("OVERLOAD_STRINGS", "128"))
"""A call asks for so many: mostly the model's work, so that one client can ask for five times too much."""


@dataclass
class Overloaded:
    """What came of each load."""

    carried: Offered
    usual: Offered
    fivefold: list[Offered]
    after: Offered

    @property
    def figures(self) -> dict[str, float]:
        """What docs/reliability.md tells."""
        carried = self.carried.goodput
        return {
            "carried_calls_a_second": round(carried),
            "goodput_at_five_times": round(self._usual(lambda o: o.goodput) / carried, 2),
            "refusal_median_ms": self._milliseconds(0.5, REFUSED),
            "refusal_p99_ms": self._milliseconds(0.99, REFUSED),
            "usual_p99_ms": round(1e3 * self.usual.p99(), 1),
            "admitted_median_ms": self._milliseconds(0.5, OK),
            "admitted_p99_ms": self._milliseconds(0.99, OK),
            "p99_afterwards_ms": round(1e3 * self.after.p99(), 1),
        }

    def _usual(self, figure: Callable[[Offered], float]) -> float:
        """Of the times that five times as much was offered, the one in the middle."""
        return median(map(figure, self.fivefold))

    def _milliseconds(self, share: float, code: grpc.StatusCode) -> float:
        return round(1e3 * self._usual(lambda offered: offered.quantile(share, code)), 1)


def overload(seconds: float, command: list[str]) -> Overloaded:
    """Find out what the server carries, then offer nine tenths of it, five times as much, and nine tenths."""
    request = pb.GenerateRequest(n=STRINGS)

    def offered(rate: float, how_long: float) -> Offered:
        found = offer(address, rate, how_long, request, TIMEOUT)
        time.sleep(0.5)
        return found

    with serving(COMMITTED, command=command) as (_, address):
        offered(50, 1)
        last = carried = offered(100, 2)
        rate = 100.0
        while carried.goodput > 0.97 * rate:  # until it answers less than it is asked
            rate *= 1.25
            last, carried = carried, offered(rate, 3)
        rate = max(carried.goodput, last.goodput)
        carried = max(carried, last, key=lambda offered: offered.goodput)
        return Overloaded(
            carried,
            offered(0.9 * rate, seconds),
            [offered(5 * rate, seconds) for _ in range(TIMES)],
            offered(0.9 * rate, seconds / 2),
        )


def is_kept_at_bay(figures: dict[str, float]) -> bool:
    """Whether a server goes on working under a load that is too much, and says no at once."""
    return (
        figures["goodput_at_five_times"] >= 0.9
        and figures["refusal_p99_ms"] <= 10
        and figures["admitted_p99_ms"] <= 2 * figures["usual_p99_ms"]
    )


def test_a_load_that_is_too_much_is_refused_and_the_rest_is_answered() -> None:
    """The figures are for the long form; here, that calls are answered and refused, and nothing else."""
    with serving(COMMITTED, "--max-queue", "0.05") as (_, address):
        request = pb.GenerateRequest(n=128)
        for _ in range(3):
            found = offer(address, 1500, 2, request, 30)
        assert set(found.latencies) == {OK, REFUSED}


@pytest.mark.fault
def test_five_times_the_load() -> None:
    found = overload(10, SERVE)
    if found.carried.goodput < LEAST:
        pytest.fail(f"void: {found.carried.goodput:.0f} calls a second, not {LEAST}")
    figures = found.figures
    record("overload", strings_a_call=STRINGS, **figures)
    assert all(set(offered.latencies) <= {OK, REFUSED} for offered in found.fivefold)
    assert is_kept_at_bay(figures)


@pytest.mark.fault
def test_a_door_that_is_open_to_all_is_found() -> None:
    figures = overload(5, OPEN_DOOR).figures
    assert not is_kept_at_bay(figures)
