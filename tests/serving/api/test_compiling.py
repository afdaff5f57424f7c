import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving.api.compiling import SWITCH, USUAL, Room
from serving.engine.admission import SHORTEST
from serving.errors import DeadlineExceeded, Exhausted, InvalidArgument


class Bench:
    """A room whose first piece of work goes on until it is let go, and what was done in it."""

    def __init__(self, most: int = 9, most_each: int = 9) -> None:
        self.room = Room(most, most_each)
        self.done: list[str] = []
        self.go = threading.Event()

    def work(self, name: str) -> Callable[[], str]:
        def do() -> str:
            assert self.go.wait(30)
            self.done.append(name)
            return name

        return do

    async def ask(self, caller: str, name: str, deadline: float | None = None) -> "Asked":
        """A call that waits by now."""
        asked = asyncio.create_task(self.room.run(caller, name, self.work(name), deadline))
        await asyncio.sleep(0)
        return asked


Asked = asyncio.Task[str]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_callers_take_turns() -> None:
    async def test() -> None:
        bench = Bench()
        asked = [await bench.ask("a", name) for name in ("a1", "a2", "a3", "a4")]
        asked += [await bench.ask("b", name) for name in ("b1", "b2")]
        asked.append(await bench.ask("c", "c1"))
        bench.go.set()
        await asyncio.gather(*asked)
        assert bench.done == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]

    run(test)


def test_who_asks_for_too_much_is_refused_at_once_and_others_are_not() -> None:
    async def test() -> None:
        bench = Bench(most=4, most_each=2)
        asked = [await bench.ask("a", name) for name in ("a0", "a1", "a2")]
        with pytest.raises(Exhausted, match="2 patterns of this caller wait"):
            await bench.room.run("a", "a3", bench.work("a3"))
        asked += [await bench.ask(caller, caller) for caller in ("b", "c")]
        with pytest.raises(Exhausted, match="4 patterns wait"):
            await bench.room.run("d", "d", bench.work("d"))
        bench.go.set()
        await asyncio.gather(*asked)
        assert bench.done == ["a0", "a1", "b", "c", "a2"]
        assert bench.room.waiting == 0

    run(test)


def test_the_pause_that_a_refused_caller_is_told_grows_with_what_compiling_took() -> None:
    async def test() -> None:
        bench = Bench(most_each=1)
        bench.go.set()
        pauses = []
        for seconds in (0.0, 0.2):
            room = Room(9, 1)
            await room.run("a", "a", lambda seconds=seconds: time.sleep(seconds))  # type: ignore[misc]
            asked = [asyncio.create_task(room.run("a", n, lambda: None)) for n in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Exhausted) as refused:
                await room.run("a", 2, lambda: None)
            pauses.append(refused.value.retry_after)
            await asyncio.gather(*asked)
        assert pauses[0] == SHORTEST
        assert pauses[1] >= 0.2

    run(test)


def test_calls_with_one_key_wait_for_one_compilation() -> None:
    async def test() -> None:
        bench = Bench(most=2, most_each=2)
        asked = [await bench.ask("a", name) for name in ["first", *("same",) * 50]]
        asked[7].cancel()
        bench.go.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert bench.done == ["first", "same"]
        assert found.count("same") == 49

    run(test)


def test_what_nobody_waits_for_any_more_is_not_compiled() -> None:
    async def test() -> None:
        bench = Bench(most=3)
        first = await bench.ask("a", "first")
        left = [await bench.ask(caller, "left") for caller in ("a", "b")]
        late = await bench.ask("a", "late", time.monotonic() + 0.05)
        for one in left:
            one.cancel()
        with pytest.raises(DeadlineExceeded):
            await late
        await asyncio.gather(*left, return_exceptions=True)
        with pytest.raises(DeadlineExceeded):
            await bench.room.run("c", "past", bench.work("past"), time.monotonic())
        assert bench.room.waiting == 0
        bench.go.set()
        assert await first == "first"
        assert await bench.room.run("a", "next", bench.work("next")) == "next"
        assert bench.done == ["first", "next"]

    run(test)


def test_what_fails_fails_for_those_who_wait_and_is_tried_anew() -> None:
    async def test() -> None:
        room = Room()

        def fail() -> None:
            raise InvalidArgument("pattern", "bad")

        for _ in range(2):
            asked = (room.run("a", "key", fail) for _ in range(3))
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(error) for error in found] == [InvalidArgument] * 3
        assert await room.run("a", "key", lambda: 1) == 1

    run(test)


def test_what_fails_after_all_have_left_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        room, go = Room(), threading.Event()

        def fail() -> None:
            assert go.wait(30)
            raise InvalidArgument("pattern", "bad")

        asked = asyncio.create_task(room.run("a", "key", fail))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        go.set()
        assert await room.run("a", "next", lambda: 1) == 1

    run(test)
    gc.collect()
    assert not caplog.records


def test_others_have_their_turn_sooner_while_something_is_compiled() -> None:
    async def test() -> None:
        room = Room()
        assert await room.run("a", 1, sys.getswitchinterval) == pytest.approx(SWITCH)
        assert sys.getswitchinterval() == pytest.approx(USUAL)

    run(test)


def test_the_room_has_one_thread_and_it_is_not_that_of_other_work() -> None:
    async def test() -> None:
        room = Room()
        names = {await room.run("a", n, lambda: threading.current_thread().name) for n in range(5)}
        other = await asyncio.to_thread(lambda: threading.current_thread().name)
        assert len(names) == 1
        assert other not in names

    run(test)
