import asyncio
from typing import Any

from serving.apart.frames import Frames
from serving.apart.remote import RemoteEngine
from serving.engine.job import Draw
from serving.engine.sampling import SamplingParameters
from serving.errors import ServingError
from serving.testing import FakeSession


class Wire(asyncio.WriteTransport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False


def draw() -> Draw:
    return Draw([], 1, SamplingParameters(), 9)


def joined() -> tuple[RemoteEngine, Wire]:
    """An engine, and what it is joined to another process by."""
    wire = Wire()
    loop, how = asyncio.get_running_loop(), (8, 0, 1e9, "fake")
    engine = RemoteEngine(loop, FakeSession(), *how, lambda: ServingError("the model failed"))
    engine.connection_made(wire)
    return engine, wire


def kinds(wire: Wire) -> list[list[Any]]:
    """The kinds of the messages of every write."""
    return [[kind for kind, *_ in Frames(plain=True).feed(write)] for write in wire.writes]


def test_jobs_that_are_submitted_together_are_sent_together_and_no_job_waits() -> None:
    async def sent() -> list[list[Any]]:
        engine, wire = joined()
        for count in (3, 1):
            for _ in range(count):
                engine.submit(draw())
            assert engine.is_busy
            await asyncio.sleep(0)
        return kinds(wire)

    assert asyncio.run(sent()) == [["job"] * 3, ["job"]]


def test_a_job_that_is_cancelled_at_once_is_cancelled_there_after_it_has_come() -> None:
    async def sent() -> list[list[Any]]:
        engine, wire = joined()
        job = draw()
        engine.submit(job)
        job.result.cancel()
        await asyncio.sleep(0)
        return kinds(wire)

    assert asyncio.run(sent()) == [["job", "cancel"]]
