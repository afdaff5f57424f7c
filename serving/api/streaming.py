"""A stream of samples: from the engine's thread through a queue to messages."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from makemore.v1 import generation_service_pb2 as pb
from serving.api.drawing import BUILT, SHORTFALL_REASONS, sample_parts, usage_message
from serving.api.loop_time import LoopTime
from serving.api.mailbox import Mailbox
from serving.api.sizes import SAMPLE, joined
from serving.engine.job import Draw, Outcome, Sample
from serving.engine.protocols import AnyEngine
from serving.engine.samples import together
from serving.manifest import Manifest
from serving.observe.notes import note

WINDOW, FEWEST, WINDOW_BYTES = 4096, 256, 4 * 2**20
"""Samples that may be under way beyond those that were sent, which is what a slow reader holds: fewer where
they take more bytes than that, but as many as run at once."""
PER_MESSAGE = 512

Queue = asyncio.Queue[Sequence[Sample] | None]
"""Samples in their order, then None."""


def sample_bytes(manifest: Manifest) -> int:
    """Memory that a sample takes until it is sent."""
    return SAMPLE + 4 * manifest.max_length


def window_of(manifest: Manifest) -> int:
    """Samples that may be under way beyond those that were sent."""
    return min(WINDOW, max(FEWEST, WINDOW_BYTES // sample_bytes(manifest)))


def window_bytes(job: Draw, manifest: Manifest) -> int:
    """Memory that a stream takes if nobody reads it."""
    return min(job.n - job.start, window_of(manifest)) * sample_bytes(manifest)


async def stream(
    job: Draw, engine: AnyEngine, mailbox: Mailbox, loop_time: LoopTime, header: pb.StreamHeader
) -> AsyncGenerator[pb.StreamGenerateResponse, None]:
    """The header, once the job was let in, its samples as they become certain, then the trailer."""
    arrived = time.monotonic()
    queue: Queue = asyncio.Queue()

    def take(samples: Sequence[Sample] | None) -> None:
        mailbox.post(partial(queue.put_nowait, samples))

    job.sink, job.window = take, window_of(engine.session.manifest)
    job.result.add_done_callback(lambda _: take(None))  # behind the last samples, by the same way
    engine.submit(job)
    try:
        yield pb.StreamGenerateResponse(header=header)
        async for samples in batches(queue):
            for begin in range(0, len(samples), PER_MESSAGE):
                part = samples[begin : begin + PER_MESSAGE]
                built = sample_parts(part, pb.StreamGenerateResponse)
                parts = await loop_time.run(built, BUILT * len(part))
                yield joined(parts, pb.StreamGenerateResponse())
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
