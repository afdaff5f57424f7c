"""An engine of another process, as it is seen from the event loop."""

import asyncio
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from serving.apart.beat import Beat
from serving.apart.frames import AT_ONCE, Frames, framed_plain
from serving.apart.wire import Message, Shared, packed_job, unpacked_answer, unpacked_samples
from serving.config import ServerConfig
from serving.constraints.taken import Known
from serving.engine.admission import Admission
from serving.engine.figures import Figures
from serving.engine.job import Draw, Job
from serving.engine.stepping import StepSession
from serving.errors import ServingError, Unavailable


class RemoteEngine(asyncio.BufferedProtocol):
    """Submits jobs to an engine elsewhere; see Engine, whose methods it has.

    Jobs are submitted, and cancelled, in the event loop.

    Args:
        loop: in which it is used.
        session: the model.
        config: how the engine runs.
        name: see Engine.
        cause_of_death: tells the error of calls that the end of the other process has cut.
        known: the model's set of known strings, which the engine has as well.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: StepSession,
        config: ServerConfig,
        name: str,
        cause_of_death: Callable[[], ServingError],
        known: Known | None = None,
    ) -> None:
        self.session = session
        self.manifest = session.manifest
        self.name = name
        self.max_rows = config.max_rows
        self.prefix_cache = config.tree_bytes
        self.admission = Admission(config.max_queue)
        self.failure = ""
        self.seen = Beat()
        self._loop = loop
        self._cause_of_death = cause_of_death
        self._frames = Frames(plain=True)
        self._buffer = memoryview(bytearray(AT_ONCE))
        self._shared = Shared(self._write, known)
        self._jobs: dict[int, Job] = {}
        self._number = self._sent = 0
        self._outbox: list[bytes] = []
        self._is_closing = False
        self._over = threading.Event()
        self._transport: asyncio.WriteTransport

    @property
    def beats(self) -> int:
        """See Engine."""
        return self.seen.beats

    @property
    def is_alive(self) -> bool:
        """Whether the other end is there."""
        return not self._over.is_set()

    @property
    def is_busy(self) -> bool:
        """Whether it has something to do, or has not read what it was sent."""
        return self.seen.is_busy or self._sent != self.seen.taken

    def figures(self) -> Figures:
        """See Engine; a fifth of a second old at most."""
        return self.seen.figures

    def position(self) -> str:
        """See Engine."""
        return self.seen.position or "another process"

    # --- what it is asked for

    def submit(self, job: Job, *, is_continued: bool = False) -> None:
        """See Engine."""
        if self._is_closing or self.failure:
            raise Unavailable("the model is being taken away; try again")
        self.admission.enter(job, is_continued=is_continued)
        self._number += 1
        job.number = self._number
        self._jobs[job.number] = job
        self._write(("job", job.number, packed_job(job, self._shared)))
        job.result.add_done_callback(partial(self._done, job.number))

    def collected(self, job: Draw, count: int) -> None:
        """See Engine."""
        job.collected = count
        self._write(("collected", job.number, count))

    def close(self) -> None:
        """See Engine; from any thread."""
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon_threadsafe(self._write, ("close",))

    def stop(self) -> None:
        """See Engine; from any thread but the loop's."""
        self.close()
        self._over.wait()

    def fail(self, reason: str, error: ServingError) -> None:
        """See Engine."""
        self.failure = reason
        for job in list(self._jobs.values()):
            job.fail(error)

    def _done(self, number: int, result: "Future[Any]") -> None:
        if result.cancelled() and number in self._jobs:
            self._write(("cancel", number))

    def _write(self, message: Message) -> None:
        """Send a message, together with all others that the loop's tasks have now."""
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(framed_plain(message))
        self._sent += 1

    def _flush(self) -> None:
        messages, self._outbox = self._outbox, []
        if self._transport.is_closing():
            self._sent -= len(messages)
        else:
            self._transport.write(b"".join(messages))

    # --- what comes back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol: a new one for every read would leave holes in memory."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the events that have become whole: the loop reads AT_ONCE bytes an iteration at most."""
        for kind, *event in self._frames.feed(self._buffer[:nbytes]):
            _HANDLERS[kind](self, *event)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._over.set()
        if not self._is_closing and not self.failure:
            self.fail(f"the engine of {self.name} has ended", self._cause_of_death())
        for job in list(self._jobs.values()):
            job.fail(Unavailable("the model is being taken away; try again"))

    def _answer(self, number: int, packed: Message) -> None:
        result = self._jobs[number].result
        if not result.done() and result.set_running_or_notify_cancel():
            result.set_result(unpacked_answer(packed))

    def _samples(self, number: int, packed: list[Message] | Message) -> None:
        job = self._jobs[number]
        if isinstance(job, Draw) and job.sink is not None:
            job.sink(unpacked_samples(packed))

    def _fail(self, number: int, error: bytes) -> None:
        self._jobs[number].fail(pickle.loads(error))

    def _began(self, number: int, work: int, at: float) -> None:
        job = self._jobs[number]
        job.started_at = job.started_at or at
        self.admission.began(job, work)

    def _left(self, number: int) -> None:
        self.admission.left(self._jobs.pop(number))

    def _measured(self, work: int, seconds: float, is_light: bool) -> None:
        self.admission.measured(work, seconds, is_light=is_light)

    def _ended(self, reason: str) -> None:
        self.fail(reason, ServingError("the model failed"))


_HANDLERS: dict[str, Any] = {
    "done": RemoteEngine._answer,
    "samples": RemoteEngine._samples,
    "failed": RemoteEngine._fail,
    "began": RemoteEngine._began,
    "left": RemoteEngine._left,
    "measured": RemoteEngine._measured,
    "ended": RemoteEngine._ended,
}
