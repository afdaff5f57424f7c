"""Answers that are made ahead of calls for the same single string, when it is asked for again and again.

Drawn for one call, a string costs messages to the engine and back and a share of a step for few rows. Drawn
many at a time, each of a seed of its own, it costs the engine a third of that, the others next to nothing,
and nobody waits for it. Each is given to one call, which is told its seed, by which it can be had again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from weakref import WeakKeyDictionary

from makemore.v1 import generation_service_pb2 as pb
from serving.api.caller import caller
from serving.api.drawing import Drawing
from serving.api.plan import Answer, Plan
from serving.engine.job import Outcome
from serving.engine.protocols import AnyEngine
from serving.errors import Unavailable
from serving.repository import Model

Post = Callable[[Callable[[], None]], None]
OFTEN, SPAN = 16, 0.1
"""When so many calls for the same were answered within so many seconds, others are expected."""
FIRST = 8
"""Answers that are made at first."""
WHILE = 1.0
"""Seconds within which about as many must come as were made last, else no more is made."""
REQUESTS, LARGEST = 64, 256
"""Requests that are known of each model, and the bytes that each may have."""


@dataclass
class Filling:
    """Whether an engine is making something ahead; it makes one thing at a time, lest calls find no rows."""

    is_under_way: bool = False


class Stock:
    """The answers that are there for one caller's request; each call that makes it enters while it lasts.

    Args:
        most: how many are made at a time at most; 0 for none.
        post: has something called in the event loop.
        filling: of the engine.
    """

    def __init__(self, most: int, post: Post, filling: Filling) -> None:
        self._most = most
        self._post = post
        self._filling = filling
        self._answers: deque[Answer] = deque()
        self._plan: Plan | None = None
        self._times: deque[float] = deque(maxlen=OFTEN)  # when the last calls were answered
        self._filled_at = 0.0
        self._size = 0  # of what was made last

    def __enter__(self) -> "Stock":
        return self

    def __exit__(self, *error: object) -> None:
        self._times.append(monotonic())

    def take(self, engine: AnyEngine) -> Answer | None:
        """One, if there are any; `engine` makes more if they are wanted fast."""
        if not self._answers:
            return None
        answer = self._answers.popleft()
        if self._plan and 2 * len(self._answers) < self._size and self._is_wanted_fast:
            self._fill(self._plan, engine)
        return answer

    def expect(self, drawing: Drawing, model: Model, engine: AnyEngine) -> None:
        """A call has found none, and draws for itself; if it comes often, more are made for others."""
        if self._most and not self._answers and self._is_asked_for_often:
            if self._plan is None:
                self._plan = Plan.of(drawing, model, min(self._most, engine.max_rows // 2))
            self._fill(self._plan, engine)

    @property
    def _is_asked_for_often(self) -> bool:
        return len(self._times) == OFTEN and monotonic() - self._times[0] < SPAN

    @property
    def _is_wanted_fast(self) -> bool:
        return monotonic() - self._filled_at < WHILE

    def _fill(self, plan: Plan, engine: AnyEngine) -> None:
        """Make a few at first, then twice as many each time."""
        size = min(2 * self._size if self._is_wanted_fast else FIRST, plan.most)
        if size < 2 or self._filling.is_under_way or not engine.admission.is_calm:
            return
        job = plan.draw(size)
        put = partial(self._put, plan, job.seeds)
        job.result.add_done_callback(lambda result: self._post(partial(put, result)))
        with suppress(Unavailable):  # then nobody will ask
            engine.submit(job, is_continued=True)
            self._filling.is_under_way = True
            self._size = size

    def _put(self, plan: Plan, seeds: Sequence[int], result: "Future[Outcome]") -> None:
        self._filling.is_under_way = False
        if not result.cancelled() and result.exception() is None:
            # In the order of the seeds: in that of their ends, the short ones would come first.
            self._answers.extend(plan.answers(seeds, result.result().samples))
            self._filled_at = monotonic()


class Ahead:
    """What is made ahead, of all requests.

    Args:
        most: answers that are made at a time for one request at most; 0 for none.
        post: has something called in the event loop.
    """

    def __init__(self, most: int, post: Post) -> None:
        self._most = most
        self._post = post
        self._none = Stock(0, post, Filling())
        self._shelves: WeakKeyDictionary[AnyEngine, Shelf] = WeakKeyDictionary()

    def of(self, request: pb.GenerateRequest, engine: AnyEngine) -> Stock:
        """The caller's stock of a request to a model; one that stays empty for what is never made ahead."""
        is_plain = request.n <= 1 and not request.constraints.ByteSize()
        if not (self._most and is_plain) or request.sampling.HasField("seed"):
            return self._none
        content = request.SerializeToString()
        if len(content) > LARGEST:
            return self._none
        shelf = self._shelves.get(engine)
        if shelf is None:
            shelf = self._shelves[engine] = Shelf(partial(Stock, self._most, self._post, Filling()))
        return shelf.stock((caller(), content))


class Shelf:
    """The stocks of one engine; those that were asked for last are kept, half of them for one caller at most.

    Args:
        make: a new one.
    """

    def __init__(self, make: Callable[[], Stock]) -> None:
        self._make = make
        self._stocks: OrderedDict[tuple[str, Hashable], Stock] = OrderedDict()

    def stock(self, key: tuple[str, Hashable]) -> Stock:
        """The one of a key: a caller, who else could tell what others ask for, and a request."""
        stock = self._stocks.get(key)
        if stock is None:
            stock = self._stocks[key] = self._make()
            mine = [other for other in self._stocks if other[0] == key[0]]
            if len(mine) > REQUESTS // 2:
                del self._stocks[mine[0]]
            elif len(self._stocks) > REQUESTS:
                self._stocks.popitem(last=False)
        self._stocks.move_to_end(key)
        return stock
