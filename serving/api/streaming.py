"""A stream of samples: from the engine's thread through a queue to messages."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from makemore.v1 import generation_service_pb2 as pb
from serving.api.drawing import SHORTFALL_REASONS, sample_message, usage_message
from serving.api.mailbox import Mailbox
from serving.engine.engine import Engine
from serving.engine.job import Draw, Outcome, Sample
from serving.observe.notes import note

WINDOW = 4096
"""Samples that may be under way beyond those that were sent: what a slow reader holds."""
PER_MESSAGE = 512


async def stream(
    job: Draw, engine: Engine, mailbox: Mailbox
) -> AsyncIterator[pb.StreamGenerateResponse]:
    """The samples of a job as they become certain, then the trailer."""
    arrived = time.monotonic()
    queue: asyncio.Queue[list[Sample]] = asyncio.Queue()

    def take(samples: list[Sample]) -> None:
        mailbox.post(partial(queue.put_nowait, samples))

    job.sink, job.window = take, WINDOW
    engine.submit(job)
    result = asyncio.wrap_future(job.result)
    try:
        async for samples in batches(queue, result):
            for begin in range(0, len(samples), PER_MESSAGE):
                part = samples[begin : begin + PER_MESSAGE]
                yield pb.StreamGenerateResponse(samples=map(sample_message, part))
                job.collected = part[-1].index + 1
                engine.wake()
        outcome: Outcome = await result
        note(samples=outcome.usage.samples, characters=outcome.usage.characters)
    finally:
        result.cancel()
    yield pb.StreamGenerateResponse(
        trailer=pb.StreamTrailer(
            usage=usage_message(job, outcome.usage, arrived),
            shortfall_reason=SHORTFALL_REASONS[outcome.shortfall],
        )
    )


async def batches(
    queue: "asyncio.Queue[list[Sample]]", result: "asyncio.Future[Outcome]"
) -> AsyncIterator[list[Sample]]:
    """All that is in the queue, again and again, until the result is there and the queue is empty."""
    while not (result.done() and queue.empty()):
        getting = asyncio.ensure_future(queue.get())
        both: set[asyncio.Future[Any]] = {getting, result}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            getting.cancel()
            continue
        samples = getting.result()
        while not queue.empty():
            samples = samples + queue.get_nowait()
        yield samples
