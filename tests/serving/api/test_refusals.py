"""What of one caller is refused at once since it would take time or memory from all others."""

from collections.abc import Iterable
from concurrent.futures import Future, as_completed
from typing import Any

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.api.status import error_of
from serving.client import Client
from serving.engine.admission import LONGEST, SHORTEST
from serving.errors import Exhausted

COSTLY = [
    pb.GenerateRequest(constraints=pb.Constraints(pattern=f"(.?){{{1500 + place}}}.*a.{{12}}"))
    for place in range(40)
]
LARGE = [
    pb.ListTopStringsRequest(
        n=1000, max_expansions=200_000, constraints=pb.Constraints(min_length=6)
    )
] * 8


def first_refusal(calls: Iterable[Any]) -> Exhausted:
    """The first of the calls that ends must be refused; the others are cancelled."""
    over: dict[Future[None], Any] = {}
    for call in calls:
        future: Future[None] = Future()
        over[future] = call
        call.add_done_callback(lambda _, future=future: future.set_result(None))
    try:
        error = error_of(over[next(as_completed(over, timeout=30))])
    finally:
        for call in over.values():
            call.cancel()
        for _ in as_completed(over, timeout=30):
            pass
    assert isinstance(error, Exhausted)
    return error


@pytest.mark.parametrize(
    ("method", "requests", "reason"),
    [
        ("Generate", COSTLY, "32 patterns of this caller wait to be compiled"),
        ("ListTopStrings", LARGE, "the searches under way take all memory"),
    ],
)
def test_too_much_at_once_is_refused_with_the_time_to_come_back_and_others_are_served(
    address: str, client: Client, method: str, requests: list[Any], reason: str
) -> None:
    with grpc.insecure_channel(address) as channel:
        ask = getattr(GenerationServiceStub(channel), method)
        error = first_refusal([ask.future(request, timeout=60) for request in requests])
        found = GenerationServiceStub(channel).ListTopStrings(pb.ListTopStringsRequest(n=3))
    assert reason in str(error)
    assert SHORTEST <= error.retry_after <= LONGEST
    assert len(client.generate(n=5).samples) == 5
    assert len(found.strings) == 3
