"""An event loop that stands still is told apart from one that turns."""

import asyncio
import threading
import time

import pytest

from serving.observe import pulse
from serving.observe.pulse import Pulse
from tests.serving.observe.asking import observed, page

STILL = "the event loop has stood still for"


def test_a_server_whose_event_loop_stands_still_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with observed() as (server, address):
        assert server._reloading is not None
        going = threading.Event()
        server._reloading.get_loop().call_soon_threadsafe(going.wait)
        monkeypatch.setattr(pulse, "LIMIT", 2.0)
        end = time.monotonic() + 30
        while page(address, "/healthz") != (503, f"{STILL} 2 s\n"):
            assert time.monotonic() < end
        assert page(address, "/readyz")[0] == 503
        going.set()
        while page(address, "/healthz") != (200, "ok\n"):
            assert time.monotonic() < end


def test_a_process_that_was_stopped_for_a_while_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        beating = Pulse()
        beating.start()
        await asyncio.sleep(0)
        monkeypatch.setattr(pulse, "BEAT", 1.0)  # a busy machine has so long for the next
        assert beating._last is not None
        beating._last -= 2 * pulse.LIMIT
        assert beating._is_late()
        assert await asyncio.to_thread(beating.what_ails) == ""
        beating.stop()

    asyncio.run(scenario())


def test_a_pulse_that_was_not_started_or_was_stopped_is_no_ill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse, "LIMIT", -1.0)

    async def scenario(beating: Pulse) -> None:
        assert beating.what_ails() == ""
        beating.start()
        assert STILL in beating.what_ails()
        beating.stop()
        assert beating.what_ails() == ""

    asyncio.run(scenario(Pulse()))
