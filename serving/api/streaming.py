"""A stream of samples: from the engine's thread through a queue to messages."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from makemore.v1 import generation_service_pb2 as pb
from serving.api.drawing import SHORTFALL_REASONS, sample_message, usage_message
from serving.api.mailbox import Mailbox
from serving.engine.job import Draw, Outcome, Sample
from serving.engine.protocols import AnyEngine
from serving.engine.samples import together
from serving.observe.notes import note

WINDOW = 4096
"""Samples that may be under way beyond those that were sent: what a slow reader holds."""
PER_MESSAGE = 512

Queue = asyncio.Queue[Sequence[Sample] | None]
"""Samples in their order, then None."""


async def stream(
    job: Draw, engine: AnyEngine, mailbox: Mailbox, header: pb.StreamHeader
) -> AsyncGenerator[pb.StreamGenerateResponse, None]:
    """The header, once the job was let in, its samples as they become certain, then the trailer."""
    arrived = time.monotonic()
    queue: Queue = asyncio.Queue()

    def take(samples: Sequence[Sample] | None) -> None:
        mailbox.post(partial(queue.put_nowait, samples))

    job.sink, job.window = take, WINDOW
    job.result.add_done_callback(lambda _: take(None))  # behind the last samples, by the same way
    engine.submit(job)
    try:
        yield pb.StreamGenerateResponse(header=header)
        async for samples in batches(queue):
            for begin in range(0, len(samples), PER_MESSAGE):
                part = samples[begin : begin + PER_MESSAGE]
                yield pb.StreamGenerateResponse(samples=map(sample_message, part))
                engine.collected(job, part[-1].index + 1)
        outcome: Outcome = job.result.result(timeout=0)
        note(samples=outcome.usage.samples, characters=outcome.usage.characters)
    finally:
        job.result.cancel()
    yield pb.StreamGenerateResponse(
        trailer=pb.StreamTrailer(
            usage=usage_message(job, outcome.usage, arrived),
            shortfall_reason=SHORTFALL_REASONS[outcome.shortfall],
        )
    )


async def batches(queue: Queue) -> AsyncIterator[Sequence[Sample]]:
    """All that is in the queue, again and again, until None comes."""
    is_over = False
    while not is_over:
        parts = [await queue.get()]
        while not queue.empty():
            parts.append(queue.get_nowait())
        is_over = None in parts
        if some := [part for part in parts if part]:
            yield together(some)
