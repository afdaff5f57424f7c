"""Answers that are made ahead of calls for the same single string, when many come at once.

Drawn for one call, a string costs messages to the engine and back and a share of a step for few rows. Drawn
many at a time, each of a seed of its own, it costs the engine a third of that, the others next to nothing,
and nobody waits for it. Each is given to one call, which is told its seed, by which it can be had again.
"""

import secrets
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import NamedTuple
from weakref import WeakKeyDictionary

from google.protobuf.duration_pb2 import Duration

from makemore.v1 import generation_service_pb2 as pb
from serving.api.caller import caller
from serving.api.drawing import Drawing, sample_message
from serving.engine.job import LIGHT, Draw, FinishReason, Outcome, Sample
from serving.engine.protocols import AnyEngine
from serving.errors import ServingError
from serving.repository import Model

MANY = 8
"""Calls for the same that wait at once, from which on others are expected."""
WHILE = 1.0
"""Seconds within which half of what was made must be asked for, else no more is made."""
REQUESTS, LARGEST = 64, 256
"""Requests that are known of each model, and the bytes that each may have."""


class Answer(NamedTuple):
    """A GenerateResponse as bytes, and the characters that were drawn for it."""

    content: bytes
    characters: int


@dataclass(frozen=True)
class Plan:
    """What is drawn for a request: so many strings at a time, and all of their answers but the string."""

    job: Draw
    count: int
    response: pb.GenerateResponse

    @classmethod
    def of(cls, drawing: Drawing, model: Model, most: int) -> "Plan":
        """That of a request which many have made: so many strings at most, and no more than is light work."""
        response = pb.GenerateResponse(
            model=model.full_name,
            model_digest=model.digest,
            settings=drawing.settings(),
            usage=pb.Usage(samples=1, queue_time=Duration(), compute_time=Duration()),
        )
        job = replace(drawing.job, deadline=None, partial_at=None, result=Future())
        return cls(job, min(most, LIGHT // job.characters), response)

    def draw(self) -> Draw:
        """A new job."""
        seeds = struct.unpack(f"{self.count}Q", secrets.token_bytes(8 * self.count))
        return replace(self.job, n=self.count, seeds=seeds, caller=caller(), result=Future())

    def answer(self, seed: int, sample: Sample) -> Answer:
        """What one call gets."""
        has_end = sample.finish_reason is FinishReason.END
        characters = len(sample.text) - len(self.job.prefix) + has_end
        message = sample_message(sample)
        message.index = 0
        response = self.response
        response.ClearField("samples")
        response.samples.append(message)
        response.seed = response.settings.sampling.seed = seed
        response.usage.characters = characters
        return Answer(response.SerializeToString(), characters)


class Stock:
    """The answers that are there for one request; entered by each call that makes it, while it lasts.

    Args:
        most: how many are made at a time at most; 0 for none.
        post: has something called in the event loop.
    """

    def __init__(self, most: int, post: Callable[[Callable[[], None]], None]) -> None:
        self._most = most
        self._post = post
        self._answers: deque[Answer] = deque()
        self._plan: Plan | None = None
        self._calls = 0
        self._is_filling = False
        self._filled_at = 0.0

    def __enter__(self) -> "Stock":
        self._calls += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._calls -= 1

    def take(self, engine: AnyEngine) -> Answer | None:
        """One, if there are any; `engine` makes more if they are wanted fast."""
        if not self._answers:
            return None
        answer = self._answers.popleft()
        assert self._plan is not None
        if 2 * len(self._answers) < self._plan.count and monotonic() - self._filled_at < WHILE:
            self._fill(self._plan, engine)
        return answer

    def expect(self, drawing: Drawing, model: Model, engine: AnyEngine) -> None:
        """A call has found none, and draws for itself: if it is one of many, more are made for others."""
        if self._most and self._calls >= MANY:
            self._plan = self._plan or Plan.of(drawing, model, self._most)
            self._fill(self._plan, engine)

    def _fill(self, plan: Plan, engine: AnyEngine) -> None:
        if self._is_filling or plan.count < 2:
            return
        self._is_filling = True
        job = plan.draw()
        put = partial(self._put, plan, job.seeds)
        job.result.add_done_callback(lambda result: self._post(partial(put, result)))
        try:
            engine.submit(job)
        except ServingError:  # as the calls themselves are told when they come
            self._is_filling = False

    def _put(self, plan: Plan, seeds: Sequence[int], result: "Future[Outcome]") -> None:
        self._is_filling = False
        if not result.cancelled() and result.exception() is None:
            # In the order of the seeds: in that of their ends, the short ones would come first.
            self._answers.extend(map(plan.answer, seeds, result.result().samples))
            self._filled_at = monotonic()


class Ahead:
    """What is made ahead, of all requests.

    Args:
        most: answers that are made at a time for one request at most; 0 for none.
        post: has something called in the event loop.
    """

    def __init__(self, most: int, post: Callable[[Callable[[], None]], None]) -> None:
        self._make = partial(Stock, most, post)
        self._none = Stock(0, post)
        self._stocks: WeakKeyDictionary[AnyEngine, OrderedDict[bytes, Stock]] = WeakKeyDictionary()

    def of(self, request: pb.GenerateRequest, engine: AnyEngine) -> Stock:
        """The stock of a request to a model; one that stays empty for what is never made ahead."""
        if request.n > 1 or request.sampling.HasField("seed") or request.HasField("constraints"):
            return self._none
        key = request.SerializeToString()
        if len(key) > LARGEST:
            return self._none
        stocks = self._stocks.get(engine)
        if stocks is None:
            stocks = self._stocks[engine] = OrderedDict()
        stock = stocks.get(key)
        if stock is None:
            stock = stocks[key] = self._make()
            if len(stocks) > REQUESTS:
                stocks.popitem(last=False)
        stocks.move_to_end(key)
        return stock
