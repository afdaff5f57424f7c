import asyncio
import re
import threading
from dataclasses import dataclass, field

import pytest

from serving.engine.figures import position_of
from serving.errors import ServingError, Unavailable
from serving.watchdog import LOOK, Watchdog

LIMIT = 2.0
LOOKS = round(LIMIT / LOOK)


@dataclass(eq=False)
class FakeEngine:
    beats: int = 0
    is_busy: bool = True
    failure: str = ""
    errors: list[ServingError] = field(default_factory=list)
    name: str = "fake"

    def position(self) -> str:
        return position_of(threading.current_thread())

    def fail(self, reason: str, error: ServingError) -> None:
        self.failure = reason
        self.errors.append(error)


def watchdog(*engines: FakeEngine, limit: float = LIMIT) -> Watchdog:
    return Watchdog(limit, lambda: engines)  # type: ignore[arg-type, return-value]


def looks(watch: Watchdog, count: int) -> str:
    return next((reason for _ in range(count) if (reason := watch.look())), "")


def test_an_engine_that_takes_no_turn_while_work_waits_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    well, hanging = FakeEngine(is_busy=False), FakeEngine()
    watch = watchdog(well, hanging)
    assert looks(watch, 1 + LOOKS) == ""
    assert looks(watch, 1) == "the engine of fake has taken no turn for 2 s"
    assert [type(error) for error in hanging.errors] == [Unavailable]
    assert well.errors == []
    assert "has taken no turn for 2 s; it is in " in caplog.messages[-1]
    assert re.search(
        r", watchdog\.py:\d+ look, test_watchdog\.py:\d+ position", caplog.messages[-1]
    )


def test_an_engine_that_takes_turns_or_has_no_work_does_not_hang() -> None:
    slow, idle = FakeEngine(), FakeEngine(is_busy=False)
    watch = watchdog(slow, idle)
    for _ in range(3 * LOOKS):
        assert looks(watch, LOOKS) == ""
        slow.beats += 1


def test_work_that_comes_after_a_long_rest_is_no_hang_at_once() -> None:
    engine = FakeEngine(is_busy=False)
    watch = watchdog(engine)
    assert looks(watch, 3 * LOOKS) == ""
    engine.is_busy = True
    assert looks(watch, LOOKS) == ""


@pytest.mark.parametrize("limit", [0.0, LIMIT])
def test_a_failure_is_told_at_the_next_look(limit: float) -> None:
    failed = FakeEngine(failure="it failed")
    assert watchdog(FakeEngine(), failed, limit=limit).look() == "it failed"


def test_without_a_limit_nothing_hangs() -> None:
    assert looks(watchdog(FakeEngine(), limit=0.0), 100 * LOOKS) == ""


def test_engines_come_and_go() -> None:
    engines = [FakeEngine()]
    watch = Watchdog(LIMIT, lambda: engines)  # type: ignore[arg-type, return-value]
    for _ in range(3 * LOOKS):
        assert watch.look() == ""
        engines[:] = [FakeEngine()]


def test_it_looks_until_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.watchdog.LOOK", 0.001)
    assert "no turn" in asyncio.run(watchdog(FakeEngine(), limit=0.01).run())
