"""Doubles for what is made ahead: a time and an engine, and calls that come at once."""

import asyncio
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from makemore.v1 import generation_service_pb2 as pb
from serving.api.ahead import OFTEN, Ahead, Stock
from serving.api.bounding import Bounding
from serving.api.drawing import Drawing, drawing_of
from serving.api.loop_time import LoopTime
from serving.engine.job import Draw, FinishReason, Outcome, Sample, Usage
from serving.errors import Unavailable
from serving.limits import MAX_N
from serving.repository import Model

MOST = 16
PLAIN = pb.GenerateRequest(n=1)


class Clock:
    """A time of its own."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """An engine that notes what it is asked for, and answers when it is told to."""

    def __init__(self, max_rows: int = 256) -> None:
        self.jobs: list[Draw] = []
        self.max_rows = max_rows
        self.admission = SimpleNamespace(is_calm=True)
        self.is_closed = False

    def submit(self, job: Draw, *, is_continued: bool) -> None:
        if self.is_closed:
            raise Unavailable("the model is being taken away")
        assert is_continued
        self.jobs.append(job)

    def answer(self) -> Draw:
        (job,) = self.jobs
        self.jobs.clear()
        samples = [
            Sample("ab"[: 1 + place % 2], place, FinishReason.END, -1.0) for place in range(job.n)
        ]
        job.result.set_result(Outcome(samples, Usage()))
        return job


def now(call: Any) -> None:
    """A loop that does at once what it is given."""
    call()


def stock_of(engine: Any, most: int = MOST, request: pb.GenerateRequest = PLAIN) -> Stock:
    return Ahead(most, now).of(request, engine)


def drawing(model: Model, request: pb.GenerateRequest = PLAIN) -> Drawing:
    return asyncio.run(drawing_of(request, model, None, MAX_N, Bounding(), LoopTime()))


def expect(stock: Stock, model: Model, engine: Any, *rounds: int) -> None:
    """So many calls at once find nothing, and then so many."""
    asked = drawing(model)
    for calls in rounds or (OFTEN, 1):
        with ExitStack() as under_way:
            for _ in range(calls):
                under_way.enter_context(stock)
                assert stock.take(engine) is None
                stock.expect(asked, model, engine)


def taken(stock: Stock, engine: Any, calls: int) -> list[pb.GenerateResponse]:
    """What so many calls are given that find something."""
    found = []
    for _ in range(calls):
        answer = stock.take(engine)
        assert answer is not None
        found.append(pb.GenerateResponse.FromString(answer.content))
        assert answer.characters == found[-1].usage.characters
    return found


def sizes(stock: Stock, engine: Any, fills: int) -> list[int]:
    """How many are made, again and again, while all that there is goes fast."""
    found = []
    for _ in range(fills):
        found.append(engine.answer().n)
        while stock.take(engine):
            pass
    return found
