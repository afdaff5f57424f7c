import asyncio

from serving.api.streaming import Queue, batches
from serving.engine.job import FinishReason, Sample


def sample(index: int) -> Sample:
    return Sample("a", index, FinishReason.END, 0.0)


def test_all_samples_come_before_the_end_and_none_after() -> None:
    async def scenario() -> list[list[int]]:
        queue: Queue = asyncio.Queue()
        for item in ([sample(0)], [sample(1), sample(2)], [], None):
            queue.put_nowait(item)
        return [[s.index for s in part] async for part in batches(queue)]

    assert asyncio.run(scenario()) == [[0, 1, 2]]


def test_nothing_waits_for_a_stream_that_was_left() -> None:
    """A task that waited for more would be destroyed while pending, which asyncio logs."""

    async def scenario() -> int:
        async def read() -> None:
            async for _ in batches(asyncio.Queue()):
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return len(asyncio.all_tasks()) - 1

    assert asyncio.run(scenario()) == 0
