"""Long work in the event loop: in slices, callers in turn, and small work at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from serving.api import loop_time as module
from serving.api.caller import _caller
from serving.api.loop_time import EVERY, SMALL, LoopTime

STEPS = 10
"""Seconds of a slice, which has as many steps."""


class Clock:
    """Stands still until work is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def steps(clock: Clock, count: int, happen: Callable[[], object] = lambda: None) -> Iterator[int]:
    """Work that takes a second a step."""
    for step in range(count):
        clock.now += 1.0
        happen()
        yield step


async def called(name: str, work: Awaitable[Any]) -> Any:
    """What work comes to in a call of this caller."""
    _caller.set(name)
    return await work


def call(name: str, work: Any) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(called(name, work))


def test_small_work_is_done_at_once() -> None:
    with pytest.raises(StopIteration) as done:
        LoopTime(STEPS).run(iter("abc"), SMALL).send(None)
    assert done.value.value == ["a", "b", "c"]


def test_all_results_come_in_their_order(clock: Clock) -> None:
    async def scenario() -> Any:
        return await LoopTime(STEPS).run(steps(clock, 10 * STEPS), SMALL + 1)

    assert asyncio.run(scenario()) == list(range(10 * STEPS))


def test_however_many_calls_wait_there_is_one_slice_in_so_many_iterations(clock: Clock) -> None:
    """What a small call meets: the work that is done between its arrival and each iteration it takes."""

    async def scenario() -> list[float]:
        loop_time = LoopTime(STEPS)
        calls = [
            call(f"caller-{n % 8}", loop_time.run(steps(clock, 20 * STEPS), 1e6)) for n in range(64)
        ]
        times = []
        while not all(one.done() for one in calls):
            times.append(clock.now)
            await asyncio.sleep(0)
        return times

    times = asyncio.run(scenario())
    assert times[-1] >= 63 * 20 * STEPS
    for before, after in zip(times, times[EVERY - 1 :], strict=False):
        assert after - before <= STEPS


def test_callers_take_turns_and_each_ones_calls_are_finished_in_their_order(clock: Clock) -> None:
    async def scenario() -> list[str]:
        loop_time, turns = LoopTime(STEPS), list[str]()

        def work(name: str, slices: int) -> Iterator[int]:
            return steps(clock, slices * STEPS, partial(turns.append, name))

        calls = [
            call(name[0], loop_time.run(work(name, slices), 1e6))
            for name, slices in (("a1", 3), ("a2", 2), ("b1", 2), ("c1", 1))
        ]
        await asyncio.gather(*calls)
        return turns[::STEPS]

    slices = asyncio.run(scenario())
    assert slices == ["a1", "b1", "c1", "a1", "b1", "a1", "a2", "a2"]


def test_a_call_that_is_cancelled_takes_no_more_steps(clock: Clock) -> None:
    async def scenario() -> None:
        loop_time, taken = LoopTime(STEPS), []
        gone = call("a", loop_time.run(steps(clock, 10**6, lambda: taken.append(1)), 1e6))
        while not taken:
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert await call("a", loop_time.run(steps(clock, 30), 1e6)) == list(range(30))
        assert len(taken) == STEPS
        assert not loop_time._turns

    asyncio.run(scenario())


def test_what_a_step_raises_is_raised_and_others_go_on(clock: Clock) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    async def scenario() -> None:
        loop_time = LoopTime(STEPS)
        other = call("b", loop_time.run(steps(clock, 30), 1e6))
        with pytest.raises(ValueError, match="broken"):
            await loop_time.run(broken(), 1e6)
        with pytest.raises(ZeroDivisionError):
            await loop_time.call(lambda: 1 // 0, 1e6)
        assert await loop_time.call(lambda: "done", 1e6) == "done"
        assert len(await other) == 30

    asyncio.run(scenario())
