"""An engine whose jobs come from another process, and whose answers go there."""

import select
import socket
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

from serving.apart.frames import AT_ONCE, Frames, framed_plain, pickled, sendable
from serving.apart.wire import Message, Things, packed_answer, packed_samples, unpacked_job
from serving.constraints.taken import Known
from serving.engine.engine import Engine
from serving.engine.job import Draw, Job, Sample
from serving.engine.stepping import StepSession


class Post:
    """What an engine's jobs come in by, and its events go out by; of the engine's thread alone.

    It stands in the place of the engine's queue and of its Admission, which is at the other end.

    Args:
        connection: to the other process.
        known: the model's set of known strings.

    Attributes:
        taken: messages that were read.
    """

    def __init__(self, connection: socket.socket, known: Known | None = None) -> None:
        self.taken = 0
        self.events: list[Message] = []
        self.engine: Engine
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._frames = Frames(plain=True)
        self._buffer = memoryview(bytearray(AT_ONCE))
        self._things = Things(known)
        self._jobs: dict[int, Job] = {}
        self._waiting: deque[Job | None] = deque()
        self._is_open = True

    # --- as a queue

    def empty(self) -> bool:
        """Whether nothing has come."""
        return not self._waiting and not (self._is_open and self._poll.poll(0))

    def get(self, timeout: float | None = None) -> Job | None:
        """The next job, or None for a reason to look again; raises queue.Empty."""
        if not self._waiting:
            self.flush()
            if not self._is_open or self._poll.poll(None if timeout is None else 1e3 * timeout):
                self._read()
        try:
            return self._waiting.popleft()
        except IndexError:
            raise Empty from None

    def get_nowait(self) -> Job | None:
        """As `get`, without waiting."""
        return self.get(0)

    def put(self, job: Job | None) -> None:
        """Look again."""
        self._waiting.append(job)

    def _read(self) -> None:
        size = 0
        with suppress(OSError):
            size = self._connection.recv_into(self._buffer)
        if not size:  # nobody is there any more
            self._is_open = False
            self._close()
            for job in list(self._jobs.values()):
                job.result.cancel()
        for kind, *message in self._frames.feed(self._buffer[:size]):
            self.taken += 1
            _HANDLERS[kind](self, *message)

    def _take(self, number: int, packed: Message) -> None:
        job = unpacked_job(packed, self._things, partial(self._sink, number))
        job.number = number
        self._jobs[number] = job
        job.result.add_done_callback(partial(self._answered, number))
        self.engine.ledger.accept(job)
        self._waiting.append(job)

    def _cancel(self, number: int) -> None:
        if number in self._jobs:
            self._jobs[number].result.cancel()
            self._waiting.append(None)

    def _collected(self, number: int, count: int) -> None:
        job = self._jobs.get(number)
        if isinstance(job, Draw):
            job.collected = count
            self._waiting.append(None)

    def _close(self) -> None:
        self.engine.close()

    # --- events

    def _sink(self, number: int, samples: Sequence[Sample]) -> None:
        self.events.append(("samples", number, packed_samples(samples)))

    def _answered(self, number: int, result: "Future[Any]") -> None:
        if result.cancelled():
            return
        error = result.exception()
        if error is None:
            self.events.append(("done", number, packed_answer(result.result())))
        else:
            self.events.append(("failed", number, pickled(sendable(error))))

    # --- as an Admission

    def began(self, job: Job, work: int) -> None:
        """See Admission."""
        self.events.append(("began", job.number, work, job.started_at))

    def left(self, job: Job) -> None:
        """See Admission."""
        del self._jobs[job.number]
        self.events.append(("left", job.number))

    def measured(self, work: int, seconds: float, *, is_light: bool) -> None:
        """See Admission."""
        self.events.append(("measured", work, seconds, is_light))

    def flush(self) -> None:
        """Send what has happened."""
        if self.events:
            events, self.events = self.events, []
            with suppress(OSError):  # nobody is there any more
                self._connection.sendall(b"".join(map(framed_plain, events)))

    def end(self) -> None:
        """Send the last, and that there is no more."""
        self.flush()
        self._connection.close()


_HANDLERS: dict[str, Any] = {
    "job": Post._take,
    "cancel": Post._cancel,
    "collected": Post._collected,
    "close": Post._close,
    "share": lambda post, number, thing: post._things.add(number, thing),
    "forget": lambda post, numbers: post._things.forget(numbers),
}


class PostedEngine(Engine):
    """An engine that is told by post what to do; see Engine.

    Args:
        session: the model.
        connection: to whoever submits jobs.
        max_rows: see Engine.
        prefix_cache: see Engine.
        name: see Engine.
        known: the model's set of known strings, which comes with the model, not with jobs.
    """

    def __init__(
        self,
        session: StepSession,
        connection: socket.socket,
        max_rows: int,
        prefix_cache: int,
        name: str,
        known: Known | None = None,
    ) -> None:
        super().__init__(session, max_rows, prefix_cache, name=name)
        self.post = Post(connection, known)
        self.post.engine = self
        self._inbox: Any = self.post
        self.admission: Any = self.post

    @property
    def is_busy(self) -> bool:
        """See Engine; what has not been read is not known here."""
        return any(lane.has_work for lane in self._lanes)

    def turn(self) -> None:
        """See Engine."""
        super().turn()
        self.post.flush()

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            if self.failure:
                self.post.events.append(("ended", self.failure))
            self.post.end()
